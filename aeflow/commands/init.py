"""A study of one's own images, written from what they are (`aeflow init`)."""

from pathlib import Path

from aeflow.commands.datasets import check_own, dump, entry_of, name_of
from aeflow.core.errors import ConfigError
from aeflow.core.files import write_text
from aeflow.core.text import printable
from aeflow.data.archives import open_archive
from aeflow.data.local_sources import NOWHERE
from aeflow.data.not_used import fitting_card
from aeflow.data.prepare import Level
from aeflow.study.cards import DATASET_CARDS, DatasetCard, load_dataset_card

RECOMMENDED = Path("config/studies/recommended.yaml")


def init_study(source: str, out: Path | None) -> int:
    """Find the layout of a source, check its images, and write a study of them.

    It is that of config/studies/recommended.yaml. 1 if anything is wrong with the images.
    """
    place = Path(source)
    if not place.exists():
        raise ConfigError(f"{place} {NOWHERE}")
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
    name = name_of(source)
    target = out or Path(f"{name}.yaml")
    if target.exists():
        raise ConfigError(f"{target} is there already: remove it, or give another --out.")
    deep = any("data.intensity" in text for _, text in said)
    recipe = RECOMMENDED.read_text(encoding="utf-8")
    recipe = recipe[recipe.index("\nencoder:") :]
    lines = [
        "# yaml-language-server: $schema=config/config.schema.json",
        f"# Written by `aeflow init`. To run it: snakemake --cores all --configfile {target}",
        "# Every key and its default: config/config.default.yaml",
        f"study: {name}",
        "",
        dump({"datasets": [entry_of(card, name, source, found)]}),
    ]
    if deep:
        lines += ["# More than 8 bits, of which little is used.", "data: {intensity: percentiles}"]
    note = "\n# The recipe of config/studies/recommended.yaml: Gaussians of pretrained features.\n"
    write_text(target, "\n".join(lines) + note + recipe.lstrip("\n"))
    print(
        f"\n{target} is written. Now:\n"
        f"  snakemake --cores all --configfile {target}    # to results/{name}/report.html\n"
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
