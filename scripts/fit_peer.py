"""Fit one of anomalib's methods and score the validation and test images (aeflow.peers).

Both in one process and without a checkpoint: a fit takes minutes, and one that was killed starts
again.
"""

import argparse
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aeflow.assembly import assemble
from aeflow.checkpoints import origin, versions
from aeflow.data.prepared import open_prepared
from aeflow.devices import choose_device
from aeflow.errors import TrainingError
from aeflow.features import FeatureSource
from aeflow.files import sha256_file, write_json
from aeflow.logging import script
from aeflow.memory import peak_rss_mib
from aeflow.peers.fastflow import FastFlow
from aeflow.peers.ganomaly import Ganomaly
from aeflow.peers.padim import Padim
from aeflow.peers.patchcore import Patchcore
from aeflow.peers.peer import Peer
from aeflow.peers.scoring import score_images
from aeflow.score_files import write_scores
from aeflow.settings import FitSettings, TrainingSettings
from aeflow.types import Method
from aeflow.validation import load_settings

PEERS: dict[Method, Callable[[FeatureSource, TrainingSettings], Peer]] = {
    Method.FASTFLOW: FastFlow,
    Method.PATCHCORE: Patchcore,
    Method.PADIM: Padim,
    Method.GANOMALY: Ganomaly,
}


def main(arguments: list[str]) -> None:
    """Write the score table, the pixel metrics and the summary of the fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", type=Method, choices=list(PEERS), required=True)
    parser.add_argument("--settings", required=True, help="FitSettings as JSON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--fpr-limit", type=float, required=True, help="of AUPRO")
    for name in ("images", "masks", "index", "features", "features-manifest", "weights"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True, help="CSV to write")
    parser.add_argument("--scored", type=Path, required=True, help="JSON to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON to write")
    args = parser.parse_args(arguments)

    settings = load_settings(FitSettings, args.settings)
    # Peers take the encoder as it is: without a flow and a decoder there is nothing to tune it by.
    frozen = settings.encoder.model_copy(update={"finetune": False})
    settings = settings.model_copy(update={"encoder": frozen})
    # Not `set_up`: it keeps freed memory, and PatchCore's coreset, a thousand large arrays with a
    # small one kept of each, then takes a new place for every one (17 GB where 1.3 do).
    torch.manual_seed(args.seed)
    torch.set_num_threads(settings.training.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = choose_device(settings.training.device)
    prepared = open_prepared(args.images, args.masks, args.index)
    train, validation = prepared.train, prepared.validation_normals
    if not len(train) or not len(validation):
        raise TrainingError(
            f"There are {len(train)} training and {len(validation)} validation normals: "
            "both are needed; check data.val_fraction and the dataset's card."
        )
    source, _ = assemble(prepared, settings, args.method, device, args.features, args.weights)
    started = time.monotonic()
    peer = PEERS[args.method](source, settings.training)
    fitted = peer.fit(train, validation, args.seed)
    fit_seconds, peak = time.monotonic() - started, peak_rss_mib()
    table, pixel = score_images(prepared, peer, args.method, args.fpr_limit)

    write_scores(args.scores, args.scored, table, pixel)
    anomalib = {"anomalib": importlib.metadata.version("anomalib")}
    write_json(
        args.summary,
        origin(args.method, settings, args.features_manifest, args.index)
        | {
            "seed": args.seed,
            "versions": versions() | anomalib,
            "device": device.type,
            "n_train": len(train),
            "n_validation": len(validation),
            "best_epoch": fitted.best_epoch,
            "epochs_run": len(fitted.history),
            "history": fitted.history,
            "fit_seconds": round(fit_seconds, 3),
            "peak_rss_mib": peak,
            "parameters": fitted.parameters,
            "scores_sha256": sha256_file(args.scores),
        },
    )


if __name__ == "__main__":
    script(main)
