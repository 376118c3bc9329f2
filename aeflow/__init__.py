"""AE-FLOW: one-class image anomaly detection with a normalizing flow inside an autoencoder."""

__version__ = "0.1.0"
