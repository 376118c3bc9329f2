"""Compute every score component of the validation and test images (aeflow.scoring)."""

import argparse
from pathlib import Path

from aeflow.core.files import read_json, sha256_file
from aeflow.core.job import script
from aeflow.core.schema import load_settings
from aeflow.core.types import Method
from aeflow.data.prepared import open_prepared
from aeflow.scoring.score_images import save_gallery, score_images
from aeflow.scoring.score_tables import write_scores
from aeflow.study.settings import FitSettings
from aeflow.training.assembly import assemble
from aeflow.training.checkpoints import load_checkpoint, origin
from aeflow.training.devices import set_up


def main(arguments: list[str]) -> None:
    """Write the score table, the pixel metrics and the gallery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", type=Method, required=True, help="a trained one")
    parser.add_argument("--settings", required=True, help="FitSettings as JSON")
    parser.add_argument("--fpr-limit", type=float, required=True, help="of AUPRO")
    for name in ("images", "masks", "index", "features", "features-manifest", "weights"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--summary", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True, help="CSV to write")
    parser.add_argument("--scored", type=Path, required=True, help="JSON to write")
    parser.add_argument("--gallery", type=Path, required=True, help=".npz to write")
    args = parser.parse_args(arguments)

    settings = load_settings(FitSettings, args.settings)
    device = set_up(settings.training)
    prepared = open_prepared(args.images, args.masks, args.index)
    source, model = assemble(prepared, settings, args.method, device, args.features, args.weights)
    expected = origin(args.method, settings, args.features_manifest, args.index)
    load_checkpoint(model, args.model, args.summary, expected)
    table, pixel = score_images(prepared, source, model, args.fpr_limit)
    save_gallery(args.gallery, prepared, source, model, table)
    checkpoint = read_json(args.summary)["model_sha256"]
    made = {"checkpoint_sha256": checkpoint, "gallery_sha256": sha256_file(args.gallery)}
    write_scores(args.scores, args.scored, table, pixel, **made)


if __name__ == "__main__":
    script(main)
