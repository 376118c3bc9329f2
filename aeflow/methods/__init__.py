"""How an image gets its scores: one file per method, ours and anomalib's."""
