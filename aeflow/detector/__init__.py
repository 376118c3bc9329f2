"""What was trained, in one file, for new images."""
