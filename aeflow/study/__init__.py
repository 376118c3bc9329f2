"""What was asked for: the configuration, the cards, the cells of a study and their files."""
