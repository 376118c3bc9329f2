"""Cards: the facts about a dataset or an encoder, as data (`config/{datasets,encoders}/`)."""

import re
import subprocess
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from aeflow.core.errors import ConfigError
from aeflow.core.schema import Address, Name, Strict, WebPage, check_unique, load_yaml, validate
from aeflow.study.layouts import Conversion, Counts, Layout

DATASET_CARDS = Path("config/datasets")
ENCODER_CARDS = Path("config/encoders")
PUBLISHED = Path("config/published.yaml")  # numbers of others
# Such a file of a dataset is no archive: kept whole, never looked into while fetching.
PLAIN_ENDINGS = (".npz", ".csv")
Positive = Annotated[float, Field(gt=0)]
Protocol = Literal["official", "patient_disjoint"]
LOOK_UP = """
import sys
from aeflow.core.errors import ConfigError
from aeflow.encoder.encoder import library_of
try:
    for name in sys.argv[1:]:
        library_of(name)
except ConfigError as error:
    sys.exit(str(error))
"""


class SourceFile(Strict):
    """A file to download."""

    name: Name = Field(
        description="File name, also looked for in AEFLOW_MIRROR. What ends in .npz or .csv is "
        "kept whole; any other file of a dataset is a zip or tar.",
    )
    urls: list[Address] = Field(
        [],
        description="Where it comes from, tried in order: a URL (http, https, file), a local file "
        "or folder, or `package:<folder>/<file>` for a file of an installed Python package. "
        "A relative path is relative to the root of the repository.",
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{8,64}$", description="SHA-256, or its first digits."
    )
    md5: str | None = Field(
        None, pattern="^[0-9a-f]{32}$", description="MD5, where the source publishes no other."
    )
    size_bytes: int | None = Field(None, ge=1, le=2**50)

    @property
    def is_plain(self) -> bool:
        """Whether the file is no archive to look into."""
        return self.name.lower().endswith(PLAIN_ENDINGS)

    @property
    def stem(self) -> str:
        """The name without its endings (`x.tar.gz`: `x`): the folder of this file's members."""
        return re.sub(r"(\.tar)?\.[a-z0-9]+$", "", self.name, flags=re.IGNORECASE)


class DatasetCard(Strict):
    """One dataset."""

    name: Name
    title: str
    licence: str
    citation: str
    homepage: WebPage | None = None
    notes: str | None = None
    access: Literal["open", "request"] = Field(
        "open", description="request: the files need an account or a request, see `recipe`."
    )
    recipe: list[str] = Field(
        [],
        description="Steps by which a person gets the files: where to ask, which file. Where to "
        "put it, its size and checksum are added when the steps are shown.",
    )
    files: list[SourceFile] = Field(
        [],
        description="What to download. One zip is placed as it is; anything else becomes a zip: "
        "of several archives, each one's members below a folder named by its stem.",
    )
    layout: Layout
    conversion: Conversion | None = Field(
        None, description="The files are no images: how they become some, once, while fetching."
    )
    split: Protocol = Field(
        "patient_disjoint",
        description="The test stays as published, and is never trained on. official: nor are the "
        "training normals changed, although a patient may be in both. patient_disjoint: training "
        "normals of patients (groups) in the test are left out.",
    )
    counts: dict[Name, Counts | None] = Field(
        min_length=1,
        description="Per category; the key `all` where a dataset has none. null: not known to "
        "us. Nothing is promised then: masks and the table of groups may be missing.",
    )
    editions: dict[Name, dict[str, Any]] = Field(
        {}, description="The same dataset in other files: name -> keys of the card that differ."
    )

    @property
    def has_source(self) -> bool:
        """Whether the card says where its images come from."""
        return bool(self.files)

    @property
    def categories(self) -> list[str]:
        """Categories in the card's order; `["all"]` where the dataset has none."""
        return list(self.counts)

    def check_categories(self, wanted: list[str] | None) -> None:
        """Raise a ConfigError if one of the wanted categories is not on the card.

        `all` is every category in one.
        """
        for name in wanted or []:
            if name not in (*self.counts, "all"):
                close = get_close_matches(name, self.counts, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"has: {', '.join(self.counts)}"
                raise ConfigError(f"Dataset {self.name} has no category '{name}' ({hint}).")

    @model_validator(mode="after")
    def _categories(self) -> Self:
        if "all" in self.counts and len(self.counts) > 1:
            raise ValueError("counts has the category 'all' beside others")
        check_unique("counts", self.counts)
        check_unique("editions", self.editions)
        return self

    @model_validator(mode="after")
    def _sources(self) -> Self:
        folders = [file.name if file.is_plain else file.stem for file in self.files]
        if len({name.casefold() for name in folders}) < len(folders):
            raise ValueError("two files have the same name (endings aside)")
        if (self.access == "request") != bool(self.recipe):
            raise ValueError("access: request and a recipe belong together")
        return self


class EncoderCard(Strict):
    """One pretrained encoder."""

    name: Name
    title: str
    library: Literal["timm", "torchvision"]
    architecture: Name = Field(description="The library's name of the architecture.")
    weights: SourceFile
    mean: tuple[float, float, float] = Field(description="Subtracted from pixels in [0, 1].")
    sd: tuple[Positive, Positive, Positive] = Field(description="Pixels are divided by this.")
    licence: str


def load_dataset_card(
    name: str, folder: Path = DATASET_CARDS, *, edition: str | None = None
) -> DatasetCard:
    """Read the card of a dataset; ConfigError: it or the edition is missing or wrong."""
    path, content = _read_card("dataset", name, folder)
    card = validate(DatasetCard, content, str(path))
    if edition is None:
        return card
    if edition not in card.editions:
        known = ", ".join(card.editions) or "none"
        raise ConfigError(f"Dataset card {name} has no edition '{edition}' (has: {known}).")
    return validate(DatasetCard, content | card.editions[edition], f"{path}, edition {edition}")


def load_encoder_card(name: str) -> EncoderCard:
    """Read the card of an encoder; ConfigError: there is no such card, or it is wrong."""
    path, content = _read_card("encoder", name, ENCODER_CARDS)
    return validate(EncoderCard, content, str(path))


def check_encoders(names: Iterable[str], receipts: Path) -> None:
    """Check that each encoder has a valid card or is a backbone of timm or torchvision.

    It takes seconds to import the libraries, so a name without a card is first looked for in
    timm's source, and only what is not there in a process of its own; nothing once
    `fetch_weights` left its receipt in `receipts`.

    Raises:
        ConfigError: a card is wrong, or there is no such encoder; names the closest ones.
    """
    unknown = []
    for name in names:
        if (ENCODER_CARDS / f"{name}.yaml").is_file():
            load_encoder_card(name)
        elif not (receipts / f"{name}.json").is_file():
            unknown.append(name)
    registered = _registered_in_timm() if unknown else set()
    if not (unknown := [name for name in unknown if name not in registered]):
        return
    done = subprocess.run(
        [sys.executable, "-c", LOOK_UP, *unknown], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.splitlines() or ["The look-up of encoders was killed."])[-1]
        cards = ", ".join(sorted(card.stem for card in ENCODER_CARDS.glob("*.yaml")))
        raise ConfigError(f"{reason} Cards in {ENCODER_CARDS}: {cards}.")


def _registered_in_timm() -> set[str]:
    """Return the names of timm's models as its source registers them, without an import of it."""
    spec = find_spec("timm")
    folders = (spec and spec.submodule_search_locations) or []
    return {
        name
        for folder in folders
        for path in Path(folder, "models").glob("*.py")
        for name in re.findall(r"^@register_model\ndef (\w+)\(", path.read_text("utf-8"), re.M)
    }


def _read_card(kind: str, name: str, folder: Path) -> tuple[Path, Any]:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(card.stem for card in folder.glob("*.yaml"))
        close = get_close_matches(name, known, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(known)}."
        if not close and (own := [card for card in known if card.startswith("folder_")]):
            hint += f" Of images of your own `card` says the layout: {', '.join(own)}."
        raise ConfigError(f"There is no {kind} card '{name}' in {folder}. {hint}")
    content = load_yaml(path)
    if isinstance(content, dict) and content.get("name", name) != name:
        raise ConfigError(f"{path}: name is '{content['name']}' but the file is called '{name}'.")
    return path, content
