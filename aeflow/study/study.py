"""The configuration of a study: which datasets, which variants, which seeds.

`config/config.default.yaml` and `config/config.schema.json` are generated from these models
(`python scripts/write_config.py`). Unknown keys are errors.
"""

from difflib import get_close_matches
from functools import cached_property
from typing import Self

from pydantic import Field, model_validator

from aeflow.core.errors import ConfigError
from aeflow.core.schema import NAME, validate
from aeflow.core.types import Method
from aeflow.study.cards import DATASET_CARDS, DatasetCard
from aeflow.study.entries import Ablation, DatasetEntry, Variant
from aeflow.study.settings import (
    AnalysisSettings,
    CellSettings,
    DataSettings,
    EvaluationSettings,
    FeatureSettings,
    FitSettings,
)

_CELL_KEYS = [f"{section}.{key}" for section, keys in CellSettings() for key in dict(keys)]


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
    ablations: list[Ablation] = Field([], description="What to change, one key at a time.")
    data: DataSettings = DataSettings()
    features: FeatureSettings = FeatureSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    analysis: AnalysisSettings = AnalysisSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(seed < 0 for seed in self.seeds):
            raise ValueError("seeds must not be negative")
        if self.data.center_crop is not None and self.data.center_crop > self.data.image_size:
            raise ValueError("data.center_crop is larger than data.image_size")
        names = {
            "datasets": [entry.name for entry in self.datasets],
            "ablations": [ablation.name for ablation in self.ablations],
            "variants": [variant.name for variant in self.variants],
            "seeds": [str(seed) for seed in self.seeds],
        }
        for key, listed in names.items():
            _check_unique(key, listed)
        for ablation in self.ablations:
            self._check_ablation(ablation)
        _check_unique("variants and ablations", [v.name for v in self.all_variants])
        self._check_names()
        self._check_archives()
        for entry in self.datasets:
            for variant in self.variants_on(entry.name):
                self.cell(entry.name, variant.name)  # settings of every cell are valid
        return self

    def _check_ablation(self, ablation: Ablation) -> None:
        names = [variant.name for variant in self.variants]
        where = f"ablations[{ablation.name}]"
        _check_known(f"{where}.of", [ablation.of], names, "; `ablations: []` asks for none")
        method = self._explicit(ablation.of).method
        if not (method.trained or method.peer):
            raise ValueError(f"{where}.of: {ablation.of} is not trained, so it has no settings")
        _check_known(f"{where}.key", [ablation.key], _CELL_KEYS)
        _check_known(f"{where}.datasets", ablation.datasets or [], self._dataset_names)
        _check_unique(f"{where}.values", [str(value) for value in ablation.values])

    def _check_names(self) -> None:
        """Check the names that entries use of one another."""
        datasets = [entry.name for entry in self.datasets]
        known = [variant.name for variant in self.all_variants]
        for variant in self.all_variants:
            where = f"variants[{variant.name}]"
            _check_known(f"{where}.datasets", variant.datasets or [], self._dataset_names)
            _check_known(f"{where}.members", variant.members, known)
            if (variant.method == Method.FUSION) != bool(variant.members):
                raise ValueError(f"{where}.members belongs to the method fusion, and to no other")
            if variant.members and len(set(variant.members)) < 2:
                raise ValueError(f"{where}.members: a fusion needs two different variants or more")
            for member in map(self.variant, variant.members):
                if member.method == Method.FUSION:
                    raise ValueError(f"{where}.members: {member.name} is itself a fusion")
                absent = [d for d in datasets if variant.runs_on(d) and not member.runs_on(d)]
                if absent:
                    raise ValueError(f"{where}.members: {member.name} does not run on {absent[0]}")
        explicit = [variant.name for variant in self.variants]
        _check_known("analysis.ensembles", self.analysis.ensembles or [], explicit)
        _check_known("analysis.reference", [self.reference], explicit)
        for name in self.analysis.ensembles or []:
            if len(self.seeds_of(name)) < 2:
                raise ValueError(
                    f"analysis.ensembles: {name} has one seed, and an ensemble needs two or more"
                )

    def _check_archives(self) -> None:
        origins: dict[str, DatasetEntry] = {}
        for entry in self.datasets:
            other = origins.setdefault(entry.archive, entry)
            if _origin(other) != _origin(entry):
                raise ValueError(
                    f"datasets {other.name} and {entry.name} would both be fetched to "
                    f"data/raw/{entry.archive}.zip: give one of them another name"
                )

    @cached_property
    def _dataset_names(self) -> list[str]:
        """The study's datasets, and every card: an overlay replaces the datasets and keeps the
        variants and ablations of others.
        """
        cards = sorted(path.stem for path in DATASET_CARDS.glob("*.yaml"))
        return [*(entry.name for entry in self.datasets), *cards]

    @cached_property
    def all_variants(self) -> list[Variant]:
        """The variants, then those of the ablations."""
        return [*self.variants, *(v for found in self._ablated.values() for v in found)]

    @cached_property
    def _ablated(self) -> dict[str, list[Variant]]:
        return {a.name: a.variants(self._explicit(a.of)) for a in self.ablations}

    @cached_property
    def _places(self) -> dict[str, str]:
        """Return the key of the configuration that each variant's settings stand under."""
        places = {variant.name: f"variants[{variant.name}].settings" for variant in self.variants}
        for ablation, variants in self._ablated.items():
            places |= {v.name: f"ablations[{ablation}].values ({v.name})" for v in variants}
        return places

    @cached_property
    def _by_name(self) -> dict[str, Variant]:
        return {variant.name: variant for variant in self.all_variants}

    @cached_property
    def _cells(self) -> dict[tuple[str, str], CellSettings]:
        return {}

    @cached_property
    def _fits(self) -> dict[tuple[str, str], FitSettings]:
        return {}

    @cached_property
    def _trainings(self) -> dict[str, dict[str, str]]:
        return {}

    @property
    def reference(self) -> str:
        """The variant that every other is tested against."""
        return self.analysis.reference or self.variants[0].name

    @property
    def ensembles(self) -> list[str]:
        """The variants whose seeds are made an ensemble."""
        if self.analysis.ensembles is not None:
            return self.analysis.ensembles
        return [v.name for v in self.variants if len(self.seeds_of(v.name)) > 1]

    def _explicit(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)

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
        """Return the variant called `name`, an ablation's too.

        Raises:
            ConfigError: there is none.
        """
        if name not in self._by_name:
            raise ConfigError(f"The study has no variant '{name}'.")
        return self._by_name[name]

    def variants_on(self, dataset: str) -> list[Variant]:
        """Return every variant that runs on a dataset, those of the ablations too."""
        return [variant for variant in self.all_variants if variant.runs_on(dataset)]

    def cell(self, dataset: str, variant: str) -> CellSettings:
        """Return the settings of one cell: the study's, then the dataset's, then the variant's."""
        key = (dataset, variant)
        if key not in self._cells:
            self._cells[key] = self._merged(dataset, variant)
        return self._cells[key]

    def _merged(self, dataset: str, variant: str) -> CellSettings:
        merged = {key: getattr(self, key).model_dump() for key in CellSettings.model_fields}
        own = self.variant(variant).settings
        layers = (
            (f"datasets[{dataset}].settings", self.dataset(dataset).settings),
            (self._places[variant], own),
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
        key = (dataset, variant)
        if key not in self._fits:
            cell = self.cell(dataset, variant)
            fields = FitSettings.model_fields
            self._fits[key] = FitSettings(**{name: getattr(cell, name) for name in fields})
        return self._fits[key]

    def trained_as(self, dataset: str, variant: str) -> str:
        """Return the first variant with the same method and training as `variant`.

        Variants that differ in score or threshold alone share its checkpoints and score files.
        """
        first = self._trainings.setdefault(dataset, {})
        if not first:
            shared: dict[tuple[str, ...], str] = {}
            for other in self.variants_on(dataset):
                first[other.name] = shared.setdefault(self._training(dataset, other), other.name)
        return first[self.variant(variant).name]

    def _training(self, dataset: str, variant: Variant) -> tuple[str, ...]:
        """Return what decides a variant's score components."""
        if variant.method == Method.FUSION:
            return ("fusion", variant.name)
        if variant.method == Method.GRADIENT:
            return ("gradient",)
        return (variant.method, self.fit_settings(dataset, variant.name).model_dump_json())

    def seeds_of(self, variant: str) -> list[int]:
        """Return the seeds of a variant; one that draws no random numbers needs only the first."""
        chosen = self.variant(variant)
        if chosen.method == Method.FUSION:
            return max((self.seeds_of(member) for member in chosen.members), key=len)
        return self.seeds[:1] if chosen.method == Method.GRADIENT else self.seeds


def _check_unique(key: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{key} names {', '.join(twice)} twice")


def _check_known(key: str, names: list[str], known: list[str], remedy: str = "") -> None:
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"{key} names {name}, which is not in the study ({hint}){remedy}")


def _origin(entry: DatasetEntry) -> tuple[str | None, ...]:
    """Return what decides the content of an entry's archive."""
    return entry.card_name, entry.edition, entry.source, entry.sha256
