"""Train AE-FLOW on one dataset's category with one seed (aeflow.training.trainer)."""

import argparse
import hashlib
import json
from pathlib import Path

import pandas as pd

from aeflow.core.code_digest import code_digest
from aeflow.core.files import sha256_file, write_json, write_text
from aeflow.core.job import script
from aeflow.core.schema import load_settings
from aeflow.core.tensors import save_tensors
from aeflow.core.types import Method
from aeflow.data.prepared import open_prepared
from aeflow.study.settings import FitSettings
from aeflow.training.assembly import assemble
from aeflow.training.checkpoints import origin, versions
from aeflow.training.devices import set_up
from aeflow.training.memory import peak_rss_mib
from aeflow.training.trainer import Trainer


def main(arguments: list[str]) -> None:
    """Write the checkpoint, its summary and the history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", type=Method, required=True, help="a trained one")
    parser.add_argument("--settings", required=True, help="FitSettings as JSON")
    parser.add_argument("--seed", type=int, required=True)
    for name in ("images", "masks", "index", "features", "features-manifest", "weights"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="scratch file to resume from")
    parser.add_argument("--model", type=Path, required=True, help="safetensors to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON to write")
    parser.add_argument("--history", type=Path, required=True, help="CSV to write")
    args = parser.parse_args(arguments)

    settings = load_settings(FitSettings, args.settings)
    device = set_up(settings.training, args.seed)
    prepared = open_prepared(args.images, args.masks, args.index)
    source, model = assemble(prepared, settings, args.method, device, args.features, args.weights)
    identity = origin(args.method, settings, args.features_manifest, args.index)
    identity |= {"seed": args.seed, "versions": versions()}
    # An unfinished training is not continued by other code.
    whole = json.dumps([identity, code_digest(Path("scripts/train_model.py"))], sort_keys=True)
    fingerprint = hashlib.sha256(whole.encode()).hexdigest()
    trainer = Trainer(model, source, settings, args.seed, args.state, fingerprint)
    trained = trainer.fit(prepared.train, prepared.validation_normals)

    save_tensors(args.model, trained.tensors)
    write_text(args.history, pd.DataFrame(trained.history).to_csv(index=False))
    write_json(
        args.summary,
        identity
        | {
            "device": device.type,
            "n_train": len(prepared.train),
            "n_validation": len(prepared.validation_normals),
            "best_epoch": trained.best_epoch,
            "epochs_run": len(trained.history),
            "fit_seconds": round(trained.fit_seconds, 3),
            "peak_rss_mib": peak_rss_mib(),
            "parameters": sum(tensor.numel() for tensor in model.parameters()),
            "model_sha256": sha256_file(args.model),
            "history_sha256": sha256_file(args.history),
        },
    )
    args.state.unlink(missing_ok=True)


if __name__ == "__main__":
    script(main)
