"""Run the frozen encoder once over a dataset's category (aeflow.encoder.features)."""

import argparse
from pathlib import Path

import torch

from aeflow.core.files import read_json, sha256_file, write_json
from aeflow.core.job import script
from aeflow.data.prepared import open_array
from aeflow.encoder.encoder import load_encoder
from aeflow.encoder.features import extract_features
from aeflow.study.settings import TrainingSettings
from aeflow.training.devices import set_up


def main(arguments: list[str]) -> None:
    """Write the cache and its manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", type=int, required=True, help="stage of the encoder")
    parser.add_argument("--max-cache-gib", type=float, required=True, help="limit of the cache")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prepared", type=Path, required=True, help="manifest of the images")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True, help=".npy to write")
    parser.add_argument("--manifest", type=Path, required=True, help="JSON to write")
    args = parser.parse_args(arguments)
    device = set_up(TrainingSettings(threads=args.threads))
    encoder = load_encoder(args.weights, args.stage)
    encoder = encoder.to(device).to(memory_format=torch.channels_last)
    facts = extract_features(
        open_array(args.images), encoder, device, args.max_cache_gib, args.features
    )
    facts |= {
        "features_sha256": sha256_file(args.features),
        "images_sha256": read_json(args.prepared)["images_sha256"],
        "weights_sha256": sha256_file(args.weights),
    }
    write_json(args.manifest, facts)


if __name__ == "__main__":
    script(main)
