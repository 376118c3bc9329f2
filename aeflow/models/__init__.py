"""Flow, decoder, losses and score components: the method's own mathematics."""
