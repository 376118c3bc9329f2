"""The state of a training that is not finished: one file, replaced after every epoch.

It lies in a scratch folder, since Snakemake deletes a rule's outputs before each attempt.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aeflow.core.code_digest import code_digest
from aeflow.core.errors import DataError
from aeflow.core.files import sha256_file
from aeflow.core.tensors import read_facts, save_tensors
from aeflow.study.asked import FitAsked
from aeflow.training.adam import Adam

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a training stands."""

    history: list[dict[str, float]] = field(default_factory=list)  # a row per finished epoch
    best_epoch: int | None = None  # the one kept so far
    best_loss: float = float("inf")  # its validation loss
    best: dict[str, Tensor] = field(default_factory=dict)  # its tensors
    seconds: float = 0.0  # spent in earlier runs


class State:
    """The file of a training's state.

    Args:
        path: a safetensors file.
        fingerprint: of the training: another one's state is not continued.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint

    def save(self, progress: Progress, module: nn.Module, adams: Sequence[Adam]) -> None:
        """Write the state atomically."""
        parts = {"model": module.state_dict(), "best": progress.best}
        parts |= {f"adam{number}": adam.state for number, adam in enumerate(adams)}
        tensors = {f"{part}.{k}": tensor for part, of in parts.items() for k, tensor in of.items()}
        numbers = {name: value for name, value in vars(progress).items() if name != "best"}
        facts = {"fingerprint": self._fingerprint, "progress": json.dumps(numbers)}
        save_tensors(self._path, tensors, facts)

    def load(self, module: nn.Module, adams: Sequence[Adam]) -> Progress | None:
        """Restore model and optimizers, and return the progress.

        Returns None, and changes nothing, where there is no state, it is damaged, or it belongs
        to another training.
        """
        if not self._path.exists():
            return None
        try:
            facts = read_facts(self._path)
        except DataError as error:
            logger.warning("training starts anew: %s", error)
            return None
        if facts.get("fingerprint") != self._fingerprint:
            logger.info("training starts anew: %s is the state of another training", self._path)
            return None
        parts: dict[str, dict[str, Tensor]] = {"best": {}}
        for name, tensor in load_file(self._path).items():
            part, key = name.split(".", 1)
            parts.setdefault(part, {})[key] = tensor
        module.load_state_dict(parts["model"])
        for number, adam in enumerate(adams):
            for key, tensor in adam.state.items():
                tensor.copy_(parts[f"adam{number}"][key])
        return Progress(**json.loads(facts["progress"]), best=parts["best"])


def fingerprint(asked: FitAsked, index: Path, *large: Path) -> str:
    """Return a digest of all that the bytes of a training depend on.

    Of the images' `index`, which names the SHA-256 of each, by the content; of `large` files by
    size and time.
    """
    seen = [(path.stat().st_size, path.stat().st_mtime_ns) for path in large if path.exists()]
    code = code_digest(Path("scripts/train_model.py"), asked.method.file)
    whole = [asked.as_json(), sha256_file(index), seen, code, torch.__version__]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
