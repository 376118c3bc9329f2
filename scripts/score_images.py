"""Compute every score component of the validation and test images (aeflow.inference)."""

import argparse
import json
from pathlib import Path

from aeflow.assembly import assemble
from aeflow.checkpoints import load_checkpoint
from aeflow.data.prepared import open_prepared
from aeflow.devices import set_up
from aeflow.files import read_json, sha256_file, write_json, write_text
from aeflow.inference import save_gallery, score_images
from aeflow.logging import script
from aeflow.settings import FitSettings
from aeflow.validation import load_settings


def main(arguments: list[str]) -> None:
    """Write the score table, the pixel metrics and the gallery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="FitSettings as JSON")
    parser.add_argument("--fpr-limit", type=float, required=True, help="of AUPRO")
    for name in ("images", "masks", "index", "features", "features-manifest", "weights"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--summary", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True, help="CSV to write")
    parser.add_argument("--pixel", type=Path, required=True, help="JSON to write")
    parser.add_argument("--gallery", type=Path, required=True, help=".npz to write")
    args = parser.parse_args(arguments)

    settings = load_settings(FitSettings, args.settings)
    device = set_up(settings.training)
    prepared = open_prepared(args.images, args.masks, args.index)
    source, model = assemble(prepared, settings, device, args.features, args.weights)
    data = read_json(args.features_manifest)
    expected = {
        "settings": json.loads(args.settings),
        "features_sha256": data["features_sha256"],
        "images_sha256": data["images_sha256"],
        "weights_sha256": data["weights_sha256"],
        "index_sha256": sha256_file(args.index),
    }
    load_checkpoint(model, args.model, args.summary, expected)
    table, pixel = score_images(prepared, source, model, args.fpr_limit)
    save_gallery(args.gallery, prepared, source, model, table)
    write_text(args.scores, table.to_csv(index=False))
    write_json(
        args.pixel,
        {"pixel": pixel, "checkpoint_sha256": read_json(args.summary)["model_sha256"]},
    )


if __name__ == "__main__":
    script(main)
