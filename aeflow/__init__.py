"""AE-FLOW: one-class image anomaly detection with a normalizing flow inside an autoencoder.

`aeflow.load` reads a finished study, `aeflow.Detector.load` a packed detector.
"""

from typing import Any

# By name and not by import: what is imported here would be code of every step, and a change of it
# would run everything again. And the workflow needs neither pandas nor torch to start.
_PLACES = {"Detector": "aeflow.detector.detector", "load": "aeflow.results"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'aeflow' has no attribute '{name}'")
