"""A study of one's own images, written from what they are (`aeflow init`)."""

import os
import shlex
from pathlib import Path

from aeflow.commands.datasets import check_own, dump, entry_of, name_of
from aeflow.core.errors import ConfigError
from aeflow.core.files import check_writable, write_text
from aeflow.core.job import cores
from aeflow.core.text import printable
from aeflow.data.archives import open_archive
from aeflow.data.local_sources import NOWHERE
from aeflow.data.not_used import fitting_card
from aeflow.data.prepare import Level
from aeflow.study.cards import DATASET_CARDS, DatasetCard, load_dataset_card

RECOMMENDED = Path("config/studies/recommended.yaml")
MOST_THREADS = 8  # of one training: others run beside it


def init_study(source: str, out: Path | None) -> int:
    """Find the layout of a source, check its images, and write a study of them.

    It is that of config/studies/recommended.yaml. 1 if anything is wrong with the images.
    """
    place, name = Path(source), name_of(source)
    target = out or Path(f"{name}.yaml")
    if not RECOMMENDED.is_file():
        raise ConfigError(f"There is no {RECOMMENDED} here: go to the folder of the repository.")
    if not place.exists():
        raise ConfigError(f"{place} {NOWHERE}")
    if target.exists():
        raise ConfigError(f"{target} is there already: remove it, or give another --out.")
    check_writable(target.parent)
    card = _fitting(place)
    print(f"This looks like {card.name}: {card.title}\n")
    said: list[tuple[Level, str]] = []

    def tell(level: Level, text: str) -> None:
        said.append((level, text))
        print(f"{level:5}  {printable(text)}", flush=True)

    found = check_own(card, source, place, [], tell)
    if wrong := sum(level == "error" for level, _ in said):
        print(f"Nothing was written. Errors: {wrong}.")
        return 1
    deep = any("data.intensity" in text for _, text in said)
    recipe = RECOMMENDED.read_text(encoding="utf-8")
    recipe = recipe[recipe.index("\nencoder:") :]
    run = f"snakemake --cores all --configfile {shlex.quote(str(target))}"
    schema = Path(os.path.relpath("config/config.schema.json", target.parent)).as_posix()
    lines = [
        f"# yaml-language-server: $schema={schema}",
        f"# Written by `aeflow init`. To run it: {run}",
        "# Every key and its default: config/config.default.yaml",
        dump({"study": name, "datasets": [entry_of(card, name, source, found)]}),
    ]
    if deep:
        lines += ["# More than 8 bits, of which little is used.", "data: {intensity: percentiles}"]
    lines += _machine()
    note = "\n# The recipe of config/studies/recommended.yaml: Gaussians of pretrained features.\n"
    write_text(target, "\n".join(lines) + note + recipe.lstrip("\n"))
    print(
        f"\n{target} is written. Now:\n"
        f"  {run}    # to results/{name}/report.html\n"
        f"  aeflow pack {name} {name} recommended{' --category C' * (len(found) > 1)}"
        "    # then one file, for aeflow predict"
    )
    return 0


def _fitting(place: Path) -> DatasetCard:
    """Return the card for own images that finds most of a source's; ConfigError: none does."""
    with open_archive(place) as archive:
        names = [m.filename for m in archive.infolist() if not m.is_dir()]
    own = [load_dataset_card(path.stem) for path in sorted(DATASET_CARDS.glob("*.yaml"))]
    own = [card for card in own if not card.has_source]
    name = fitting_card(names)
    if name is None:
        told = "; ".join(f"{card.name}: {card.title}" for card in own)
        raise ConfigError(
            f"{place} has none of the layouts that are known ({told}), but files such as "
            f"{', '.join(names[:3])}. docs/datasets.md shows each."
        )
    return next(card for card in own if card.name == name)


def _machine() -> list[str]:
    """Return what this machine asks for in `training`."""
    from aeflow.training.devices import choose_device  # torch

    if (device := choose_device("auto").type) != "cpu":
        return [
            f"# Here is a GPU ({device}), and auto takes it. Where trainings are long,",
            "# `precision: auto` may be faster there; it gives other digits.",
            "training: {device: auto}",
        ]
    return [
        "# Here is no GPU. CPU threads are part of the result: another number, other digits.",
        f"training: {{device: auto, threads: {min(cores(), MOST_THREADS)}}}",
    ]
