"""Fetch the pretrained weights of an encoder (aeflow.encoder.weights)."""

import argparse
import os
from pathlib import Path

from aeflow.core.files import write_json
from aeflow.core.job import script
from aeflow.encoder.weights import fetch_weights


def main(arguments: list[str]) -> None:
    """Write the weights and their manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", required=True, help="name of a card or an architecture")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors to write")
    parser.add_argument("--manifest", type=Path, required=True, help="JSON to write")
    args = parser.parse_args(arguments)
    write_json(
        args.manifest,
        fetch_weights(args.encoder, args.weights, os.environ.get("AEFLOW_MIRROR")),
    )


if __name__ == "__main__":
    script(main)
