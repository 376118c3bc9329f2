"""One file per question of a study: its tables and its figures. No torch."""
