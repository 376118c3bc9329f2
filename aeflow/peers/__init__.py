"""Peers: anomalib's methods on our features, splits and seeds. Only they import anomalib.

Their parts are used, not their `Engine`: it would fetch weights, fit thresholds on test labels and
clamp the scores. Scores stay raw.
"""
