"""What was trained, in one file, for new images. Nothing here reads a study but `pack`."""
