"""Metrics and tests of scores, fitted on validation images alone. No torch."""
