"""The pretrained encoder: its weights, and its features of every image."""
