"""The configuration of a study: which datasets, which variants, which seeds.

`config/config.default.yaml` and `config/config.schema.json` are generated from these models
(`python scripts/write_config.py`). Unknown keys are errors.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from aeflow.cards import DATASET_CARDS, DatasetCard, Protocol, load_dataset_card
from aeflow.errors import ConfigError
from aeflow.settings import (
    CellSettings,
    DataSettings,
    EvaluationSettings,
    FeatureSettings,
    FitSettings,
)
from aeflow.types import Method
from aeflow.validation import NAME, Strict, validate


class DatasetEntry(Strict):
    """A dataset of the study: its card, where it comes from, what is different for it."""

    name: str = Field(pattern=NAME, description="Name in paths and tables.")
    card: str | None = Field(
        None, pattern=NAME, description="A card in config/datasets/; null: the one called `name`."
    )
    edition: str | None = Field(
        None, pattern=NAME, description="One of the card's editions, such as an image size."
    )
    split: Protocol | None = Field(
        None, description="official or patient_disjoint, where it is not to be the card's."
    )
    source: str | None = Field(
        None,
        description="Replaces the card's source: a URL (http, https, file), a local archive "
        "or a folder.",
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Checksum of a replaced source."
    )
    categories: list[str] | None = Field(
        None, min_length=1, description="Use only these categories; null: all of the card."
    )
    settings: dict[str, Any] = Field(
        {}, description="Keys of encoder, flow, ... that differ for this dataset."
    )

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

    def load_card(self, folder: Path = DATASET_CARDS) -> DatasetCard:
        """Read the entry's card, with its edition and its split.

        Raises:
            ConfigError: there is no such card or edition, or it has no such category.
        """
        card = load_dataset_card(self.card_name, folder, edition=self.edition)
        card.check_categories(self.categories)
        return card if self.split is None else card.model_copy(update={"split": self.split})


class Variant(Strict):
    """A cell of the study: a method and what is different for it."""

    name: str = Field(pattern=NAME, description="Name in paths and tables.")
    method: Method = Field(
        Method.AEFLOW,
        description="aeflow; flow: without the decoder; autoencoder: without the flow; gradient: "
        "the trivial baseline, one number per image, no training.",
    )
    settings: dict[str, Any] = Field(
        {}, description="Keys of encoder, flow, ... that differ for this variant."
    )


class Study(CellSettings):
    """A whole study."""

    study: str = Field("paper", pattern=NAME, description="Name; results/<study>/.")
    seeds: list[int] = Field([0, 1, 2], min_length=1, description="One training per seed.")
    datasets: list[DatasetEntry] = Field(
        [DatasetEntry(name="chest_xray")], min_length=1, description="What to run on."
    )
    variants: list[Variant] = Field(
        [Variant(name="aeflow"), Variant(name="gradient", method=Method.GRADIENT)],
        min_length=1,
        description="What to run.",
    )
    data: DataSettings = DataSettings()
    features: FeatureSettings = FeatureSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, names in (
            ("datasets", [entry.name for entry in self.datasets]),
            ("variants", [variant.name for variant in self.variants]),
            ("seeds", [str(seed) for seed in self.seeds]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key} names {', '.join(twice)} twice")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError("seeds must not be negative")
        if self.data.center_crop is not None and self.data.center_crop > self.data.image_size:
            raise ValueError("data.center_crop is larger than data.image_size")
        origins: dict[str, DatasetEntry] = {}
        for entry in self.datasets:
            other = origins.setdefault(entry.archive, entry)
            if _origin(other) != _origin(entry):
                raise ValueError(
                    f"datasets {other.name} and {entry.name} would both be fetched to "
                    f"data/raw/{entry.archive}.zip: give one of them another name"
                )
            for variant in self.variants:
                self.cell(entry.name, variant.name)  # settings of every cell are valid
        return self

    def dataset(self, name: str) -> DatasetEntry:
        """Return the entry called `name`."""
        return next(entry for entry in self.datasets if entry.name == name)

    def load_cards(self) -> dict[str, DatasetCard]:
        """Read the card of every entry, by the entry's name.

        Raises:
            ConfigError: as `DatasetEntry.load_card`, or an entry needs a source and has none.
        """
        cards = {entry.name: entry.load_card() for entry in self.datasets}
        for entry in self.datasets:
            if entry.source is None and not cards[entry.name].has_source:
                raise ConfigError(
                    f"datasets[{entry.name}]: give a `source`, a folder or an archive of images."
                )
        return cards

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`."""
        return next(variant for variant in self.variants if variant.name == name)

    def cell(self, dataset: str, variant: str) -> CellSettings:
        """Return the settings of one cell: the study's, then the dataset's, then the variant's."""
        merged = {key: getattr(self, key).model_dump() for key in CellSettings.model_fields}
        layers = (
            (f"datasets[{dataset}].settings", self.dataset(dataset).settings),
            (f"variants[{variant}].settings", self.variant(variant).settings),
        )
        for where, layer in layers:
            for section, keys in layer.items():
                if not isinstance(keys, dict):
                    raise ConfigError(f"{where}.{section} must be a mapping of keys.")
                merged.setdefault(section, {}).update(keys)
            merged = validate(CellSettings, merged, where).model_dump()
        return CellSettings.model_validate(merged)

    def fit_settings(self, dataset: str, variant: str) -> FitSettings:
        """Return the part of a cell's settings that its training depends on."""
        cell = self.cell(dataset, variant).model_dump()
        return FitSettings.model_validate({key: cell[key] for key in FitSettings.model_fields})

    def trained_as(self, dataset: str, variant: str) -> str:
        """Return the first variant with the same method and training as `variant`.

        Variants that differ in score or threshold alone share its checkpoints and score files.
        """
        method, fit = self.variant(variant).method, self.fit_settings(dataset, variant)
        return next(
            other.name
            for other in self.variants
            if other.method == method
            and (not method.trained or self.fit_settings(dataset, other.name) == fit)
        )

    def seeds_of(self, variant: str) -> list[int]:
        """Return the seeds of a variant; one that draws no random numbers needs only the first."""
        return self.seeds if self.variant(variant).method.trained else self.seeds[:1]


def _origin(entry: DatasetEntry) -> tuple[str | None, ...]:
    """Return what decides the content of an entry's archive."""
    return entry.card_name, entry.edition, entry.source, entry.sha256
