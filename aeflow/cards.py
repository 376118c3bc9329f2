"""Cards: the facts about a dataset or an encoder, as data (`config/{datasets,encoders}/`)."""

import re
import subprocess
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from string import Formatter
from typing import Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from aeflow.errors import ConfigError
from aeflow.validation import NAME, Strict, load_yaml, validate

DATASET_CARDS = Path("config/datasets")
ENCODER_CARDS = Path("config/encoders")
Card = TypeVar("Card", "DatasetCard", "EncoderCard")
LOOK_UP = """
import sys
from aeflow.errors import ConfigError
from aeflow.models.encoder import library_of
try:
    for name in sys.argv[1:]:
        library_of(name)
except ConfigError as error:
    sys.exit(str(error))
"""


class SourceFile(Strict):
    """A file to download."""

    name: str = Field(pattern=NAME, description="File name, also looked for in AEFLOW_MIRROR.")
    url: str | None = Field(
        None,
        description="Where it comes from: a URL (http, https, file), a local file or folder, or "
        "`package:<folder>/<file>` for a file of an installed Python package.",
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{8,64}$", description="SHA-256, or its first digits."
    )
    size_bytes: int | None = Field(None, ge=1)


class Layout(Strict):
    """How the paths inside an archive tell what an image is."""

    image: str = Field(
        description="Regular expression that a path inside the archive matches whole; named "
        "groups: split (train or test) and defect are required; category, group (patient, "
        "tile) and any other name may be used by `mask`."
    )
    normal: str = Field(description="Value of `defect` that means normal.")
    mask: str | None = Field(
        None, description="Path of an anomalous image's mask; {name} is a group of `image`."
    )
    groups: str | None = Field(
        None,
        description="CSV file inside the archive: column `file` (path of an image inside the "
        "archive, or its file name alone) and column `group`; other columns are ignored.",
    )

    @field_validator("image")
    @classmethod
    def _image(cls, pattern: str) -> str:
        try:
            names = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from error
        missing = {"split", "defect"} - names.keys()
        if missing:
            raise ValueError(f"image has no group named {' and '.join(sorted(missing))}")
        return pattern

    @model_validator(mode="after")
    def _mask(self) -> Self:
        used = {name for _, name, _, _ in Formatter().parse(self.mask or "") if name is not None}
        unknown = used - re.compile(self.image).groupindex.keys()
        if unknown:
            raise ValueError(f"mask uses {', '.join(sorted(unknown))}, no group of image")
        return self


class Counts(Strict):
    """Images that a category of the untouched dataset holds."""

    train_normal: int = Field(ge=1)
    train_anomalous: int = Field(0, ge=0)
    test_normal: int = Field(ge=0)
    test_anomalous: int = Field(ge=0)


class DatasetCard(Strict):
    """One dataset."""

    name: str = Field(pattern=NAME)
    title: str
    licence: str
    citation: str
    homepage: str | None = None
    notes: str | None = None
    archive: SourceFile
    generator: Literal["demo_textures"] | None = Field(
        None, description="The archive is generated from photographs of an installed package."
    )
    layout: Layout
    counts: dict[str, Counts] = Field(
        min_length=1, description="Per category; the key `all` where a dataset has none."
    )

    @property
    def categories(self) -> list[str]:
        """Categories in the card's order; `["all"]` where the dataset has none."""
        return list(self.counts)

    def check_categories(self, wanted: list[str] | None) -> None:
        """Raise a ConfigError if one of the wanted categories is not on the card."""
        for name in wanted or []:
            if name not in self.counts:
                close = get_close_matches(name, self.counts, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"has: {', '.join(self.counts)}"
                raise ConfigError(f"Dataset {self.name} has no category '{name}' ({hint}).")

    @model_validator(mode="after")
    def _categories(self) -> Self:
        if "all" in self.counts and len(self.counts) > 1:
            raise ValueError("counts has the category 'all' beside others")
        return self


class EncoderCard(Strict):
    """One pretrained encoder."""

    name: str = Field(pattern=NAME)
    title: str
    library: Literal["timm", "torchvision"]
    architecture: str = Field(description="The library's name of the architecture.")
    weights: SourceFile
    mean: tuple[float, float, float] = Field(description="Subtracted from pixels in [0, 1].")
    sd: tuple[float, float, float] = Field(description="Pixels are divided by this.")
    licence: str


def load_dataset_card(name: str, folder: Path = DATASET_CARDS) -> DatasetCard:
    """Read and validate the card of a dataset.

    Raises:
        ConfigError: there is no such card, or it is wrong.
    """
    return _load_card(DatasetCard, "dataset", name, folder)


def load_encoder_card(name: str, folder: Path = ENCODER_CARDS) -> EncoderCard:
    """Read and validate the card of an encoder.

    Raises:
        ConfigError: there is no such card, or it is wrong.
    """
    return _load_card(EncoderCard, "encoder", name, folder)


def check_encoders(names: Iterable[str], manifests: Path, folder: Path = ENCODER_CARDS) -> None:
    """Check that each encoder has a valid card or is a backbone of timm or torchvision.

    Names without a card are looked up in a process of its own, since it takes seconds to import
    the libraries; not again once `fetch_weights` left its JSON in `manifests`.

    Raises:
        ConfigError: a card is wrong, or there is no such encoder; names the closest ones.
    """
    unknown = []
    for name in names:
        if (folder / f"{name}.yaml").is_file():
            load_encoder_card(name, folder)
        elif not (manifests / f"{name}.json").is_file():
            unknown.append(name)
    if not unknown:
        return
    done = subprocess.run(
        [sys.executable, "-c", LOOK_UP, *unknown], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.splitlines() or ["The look-up of encoders was killed."])[-1]
        cards = ", ".join(sorted(card.stem for card in folder.glob("*.yaml")))
        raise ConfigError(f"{reason} Cards in {folder}: {cards}.")


def _load_card(model: type[Card], kind: str, name: str, folder: Path) -> Card:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(card.stem for card in folder.glob("*.yaml"))
        close = get_close_matches(name, known, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(known)}."
        raise ConfigError(f"There is no {kind} card '{name}' in {folder}. {hint}")
    card = validate(model, load_yaml(path), str(path))
    if card.name != name:
        raise ConfigError(f"{path}: name is '{card.name}' but the file is called '{name}'.")
    return card
