"""Encoder, flow and decoder."""
