"""The lists of a study: its datasets, its variants, its ablations."""

from itertools import product
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from aeflow.core.addresses import local_path
from aeflow.core.schema import NAME, Address, Label, Name, Strict
from aeflow.core.types import Method
from aeflow.study.cards import DatasetCard, Protocol, load_dataset_card

KEY = r"^[a-z]+\.[a-z0-9_]+$"


def _check_value(value: Any) -> Any:
    """Say in one sentence what pydantic says once for each type."""
    several = value if isinstance(value, list | tuple) else ()
    if (
        isinstance(value, dict)
        or (isinstance(value, float) and not isfinite(value))
        or any(type(item) is not int for item in several)
        or (isinstance(value, list | tuple) and not 1 < len(value) < 10)
    ):
        raise ValueError(
            "a finite number, a text, true, false or null is needed, or a list of whole numbers"
        )
    return value


Value = Annotated[bool | int | float | str | tuple[int, ...] | None, BeforeValidator(_check_value)]


class Seen(Strict):
    """What a source on this machine held when a run looked at it, as digests without any place.

    Of an archive, which is fetched, or of a folder, which is read where it is: for each category
    of its images and tables, and of its masks.
    """

    archive: str | None = None
    images: dict[str, str] = Field({})
    masks: dict[str, str] = Field({})


class DatasetEntry(Strict):
    """A dataset of the study: its card, where it comes from, what is different for it."""

    name: Name = Field(description="Name in paths and tables.")
    card: str | None = Field(
        None, pattern=NAME, description="A card in config/datasets/; null: the one called `name`."
    )
    edition: str | None = Field(
        None, pattern=NAME, description="One of the card's editions, such as an image size."
    )
    split: Protocol | None = Field(
        None, description="official or patient_disjoint, where it is not to be the card's."
    )
    source: Address | None = Field(
        None,
        description="Replaces the card's source: a URL (http, https, file), a local archive "
        "or a folder.",
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Checksum of a replaced source."
    )
    categories: list[Name] | None = Field(
        None,
        min_length=1,
        description="Use only these categories; null: each of the card; [all]: every category in "
        "one, for one model of all.",
    )
    pictures: bool = Field(
        True,
        description="Whether its images may be seen: in panels, in the report and on the page to "
        "browse. false: where a study is to be shared and a licence or a patient says no.",
    )
    settings: dict[str, Any] = Field(
        {}, description="Keys of encoder, flow, ... that differ for this dataset."
    )
    seen: Seen | None = Field(
        None, description="Written by a run, not by hand: what a source on this machine held."
    )

    @property
    def place(self) -> Path | None:
        """Where a source of one's own on this machine is; None: the card's own, or a server's."""
        return None if self.source is None else local_path(self.source)

    @property
    def in_place(self) -> bool:
        """Whether the source is a folder that is read where it is, instead of an archive."""
        return self.seen is not None and bool(self.seen.images)

    @property
    def card_name(self) -> str:
        """Name of the card."""
        return self.card or self.name

    @property
    def archive(self) -> str:
        """Name of the fetched archive: entries of one card share it, an own source is its own."""
        if self.source is not None:
            return self.name
        return self.card_name if self.edition is None else f"{self.card_name}-{self.edition}"

    def load_card(self) -> DatasetCard:
        """Read the entry's card, with its edition, its categories checked and its split."""
        card = load_dataset_card(self.card_name, edition=self.edition)
        card.check_categories(self.categories)
        return card if self.split is None else card.model_copy(update={"split": self.split})


class Variant(Strict):
    """A row of the study's tables: a method and what is different for it."""

    name: Name = Field(description="Name in paths and data.")
    label: Label | None = Field(
        None,
        description="What tables, figures and the report call it, such as `Ours (no decoder)`; "
        "null: its name.",
    )
    method: Method = Field(
        Method.AEFLOW,
        description="aeflow; flow: without the decoder; autoencoder: without the flow; gradient: "
        "the trivial baseline, one number per image, no training; fusion: the mean of the scores "
        "of `members`; the others are anomalib's (`make peers`).",
    )
    members: list[Name] = Field(
        [],
        description="Variants whose scores a fusion averages, each standardised on validation "
        "normals first. One alone: its seeds are the members, a deep ensemble.",
    )
    datasets: list[Name] | None = Field(
        None,
        min_length=1,
        description="Only on these datasets, as far as the study has them; null: on all.",
    )
    pictures: bool = Field(
        True,
        description="Whether its maps and reconstructions are shown: in panels, in the report and "
        "on the page to browse. false: where its galleries are not to be handed on.",
    )
    settings: dict[str, Any] = Field(
        {}, description="Keys of encoder, flow, ... that differ for this variant."
    )

    @property
    def has_gallery(self) -> bool:
        """Whether there is a gallery of its own that may be shown."""
        return self.pictures and self.method != Method.FUSION

    def runs_on(self, dataset: str) -> bool:
        """Whether the variant is a cell of this dataset."""
        return self.datasets is None or dataset in self.datasets


class Ablation(Strict):
    """A variant again with other values of one key: a variant `<of>_<name><value>` for each.

    With `across`, again for each combination of these values: `<of>_<name><value>_<other>`.
    """

    name: Name = Field(description="Name in variants' names and tables.")
    of: Name = Field(description="The variant that is changed.")
    key: str = Field(pattern=KEY, description="The key that differs, such as flow.steps.")
    values: list[Value] = Field(
        min_length=1,
        max_length=1000,
        description="Its values. One that `of` has already is trained once, for both.",
    )
    across: dict[
        Annotated[str, Field(pattern=KEY)],
        Annotated[list[Value], Field(min_length=1, max_length=1000)],
    ] = Field({}, description="Further keys, each with its values, as score.flow for score.beta.")
    datasets: list[Name] | None = Field(
        None,
        min_length=1,
        description="Only on these datasets, as far as the study has them; null: where `of` runs.",
    )

    @property
    def size(self) -> int:
        """The number of `changes`."""
        return prod([len(self.values), *map(len, self.across.values())])

    @property
    def changes(self) -> list[dict[str, Value]]:
        """The keys and values of each variant, the values of `key` fastest."""
        combinations = [
            dict(zip(self.across, found, strict=True)) for found in product(*self.across.values())
        ]
        return [{self.key: value, **other} for other in combinations for value in self.values]

    def variants(self, changed: Variant) -> list[Variant]:
        """Return a variant for each of `changes` to the one called `of`."""
        named = [(self._name(change), change) for change in self.changes]
        return [
            changed.model_copy(
                update={
                    "name": name,
                    "label": changed.label
                    and changed.label + name.removeprefix(self.of).replace("_", " "),
                    "datasets": self.datasets or changed.datasets,
                    "settings": _with(changed.settings, change),
                }
            )
            for name, change in named
        ]

    def _name(self, change: dict[str, Value]) -> str:
        others = [f"_{_label(value)}" for key, value in change.items() if key != self.key]
        value = change[self.key]
        number = isinstance(value, int | float | tuple) and not isinstance(value, bool)
        own = f"{self.of}_{self.name}{'' if number else '_'}{_label(value)}"
        return "".join([own, *others])


def _with(settings: dict[str, Any], change: dict[str, Value]) -> dict[str, Any]:
    """Return settings with the values of keys such as flow.steps."""
    for where, value in change.items():
        section, key = where.split(".")
        settings = settings | {section: settings.get(section, {}) | {key: value}}
    return settings


def _label(value: Value) -> str:
    """Return a value as part of a variant's name: `4`, `2-3-4`, `conv`, `true`, `none`."""
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return value if isinstance(value, str) else str(value).lower()
