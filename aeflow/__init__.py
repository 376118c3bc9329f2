"""AE-FLOW: one-class image anomaly detection with a normalizing flow inside an autoencoder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeflow.detector.detector import Detector as Detector
    from aeflow.results import load as load

__version__ = "0.1.0"
# Imported when asked for: the command and the workflow need neither pandas nor torch to start.
_PLACES = {"Detector": "aeflow.detector.detector", "load": "aeflow.results"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'aeflow' has no attribute '{name}'")
