"""What a study shows, in which order, and the page about it. No torch."""
