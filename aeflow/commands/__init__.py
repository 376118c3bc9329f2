"""What `aeflow` does where it is more than one call."""
