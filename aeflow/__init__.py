"""AE-FLOW: one-class image anomaly detection with a normalizing flow inside an autoencoder."""

import gc

# What is imported lives on: looking for garbage meanwhile took a seventh of a job's start.
gc.set_threshold(100_000)

__version__ = "0.1.0"
