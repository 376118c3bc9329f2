"""Fit one of anomalib's methods and score the validation and test images (aeflow.methods).

Both in one process and without a checkpoint: a fit takes minutes, and one that was killed starts
again.
"""

import argparse
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aeflow.core.errors import TrainingError
from aeflow.core.files import sha256_file, write_json
from aeflow.core.job import script
from aeflow.core.schema import load_settings
from aeflow.core.types import Method
from aeflow.data.prepared import open_prepared
from aeflow.encoder.features import FeatureSource
from aeflow.methods.fastflow import FastFlow
from aeflow.methods.ganomaly import Ganomaly
from aeflow.methods.method import Peer
from aeflow.methods.padim import Padim
from aeflow.methods.patchcore import Patchcore
from aeflow.methods.scoring import score_images
from aeflow.scoring.score_tables import write_scores
from aeflow.study.settings import FitSettings, TrainingSettings
from aeflow.training.assembly import assemble
from aeflow.training.checkpoints import origin, versions
from aeflow.training.devices import choose_device
from aeflow.training.memory import peak_rss_mib

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
