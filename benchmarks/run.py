"""Measure the pipeline's speed against plain references on this machine."""

import argparse
import importlib
import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.core.files import write_json

ROOT = Path(__file__).resolve().parents[1]
TOPICS = ("startup", "preparation", "tensors", "evaluation", "grid", "detector")
PACKAGES = ("aeflow", "FrEIA", "numpy", "pillow", "scikit-learn", "timm", "torch")
HEADERS = ("benchmark", "ours", "reference", "ratio", "lowest", "highest", "share of peak")
NOTES = """\
ratio          how many times better ours is; median, lowest, highest of pairs of runs
share of peak  speed of ours as a share of a float32 matrix product of side 2048: {peak}
A busy machine changes the speeds, and widens the range of the ratios."""


def main(arguments: list[str]) -> None:
    """Write one JSON file per topic and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=TOPICS, help="one topic")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to test the benchmarks")
    parser.add_argument("--results", type=Path, default=ROOT / "results/bench")
    args = parser.parse_args(arguments)

    measurements: list[dict[str, Any]] = []
    for topic in [args.only] if args.only else TOPICS:
        print(f"measuring {topic} ...", file=sys.stderr)
        module = importlib.import_module(f"benchmarks.{topic}")
        load = os.getloadavg()[0]
        found = [asdict(measurement) for measurement in module.measure(args.quick)]
        described = describe_machine() | {"load_before": load, "quick": args.quick}
        write_json(args.results / f"{topic}.json", described | {"measurements": found})
        measurements += found
    print(table(measurements))


def describe_machine() -> dict[str, Any]:
    """Return what the numbers depend on besides our code."""
    processors = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "threads": importlib.import_module("benchmarks.measure").threads(),
        "cores": os.cpu_count(),
        "processor": processors[0] if processors else platform.machine(),
        "versions": {"python": platform.python_version(), **versions},
    }


def table(measurements: list[dict[str, Any]]) -> str:
    """Return the measurements as plain text."""
    rows = []
    for entry in measurements:
        unit, share = entry["unit"], entry["share_of_peak"]
        speeds = [entry["value"], entry["reference"]]
        ratios = [entry["ratio"], *(entry["ratio_range"] or (None, None))]
        rows.append(
            [
                entry["name"],
                *("" if speed is None else f"{speed:.3g} {unit}" for speed in speeds),
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                "" if share is None else f"{share:.0%}",
            ]
        )
    peaks = [m["matrix_product_gflops"] for m in measurements if m["matrix_product_gflops"]]
    peak = f"{max(peaks):.0f} GFLOP/s" if peaks else "not measured"
    shown = pd.DataFrame(rows, columns=list(HEADERS))
    lines = shown.to_markdown(index=False, tablefmt="simple", disable_numparse=True)
    return f"{lines}\n\n{NOTES.format(peak=peak)}"


if __name__ == "__main__":
    # Python put this folder on the path, but it is the parent that holds the package.
    sys.path[0] = str(ROOT)
    main(sys.argv[1:])
