"""Fitting a method to training normals, resumable to the byte."""
