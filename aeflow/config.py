"""The configuration of a study: which datasets, which variants, which seeds.

`config/config.default.yaml` and `config/config.schema.json` are generated from these models
(`python scripts/write_config.py`). Unknown keys are errors.
"""

from typing import Any, Self

from pydantic import Field, model_validator

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

    name: str = Field(pattern=NAME, description="A card in config/datasets/.")
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
        for entry in self.datasets:
            for variant in self.variants:
                self.cell(entry.name, variant.name)  # settings of every cell are valid
        return self

    def dataset(self, name: str) -> DatasetEntry:
        """Return the entry called `name`."""
        return next(entry for entry in self.datasets if entry.name == name)

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
