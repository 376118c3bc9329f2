"""The configuration of a study: which datasets, which variants, which seeds.

`config/config.default.yaml` and `config/config.schema.json` are generated from these models
(`python scripts/write_generated.py`). Unknown keys are errors.
"""

import json
import re
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import read_json
from aeflow.core.schema import NAME, NAME_RULE, Name, Seed, check_unique, validate
from aeflow.core.types import AnomalyMap, Method, ReconstructionScore
from aeflow.study.cards import DATASET_CARDS, DatasetCard
from aeflow.study.entries import Ablation, DatasetEntry, Variant
from aeflow.study.settings import (
    AnalysisSettings,
    CellSettings,
    DataSettings,
    EvaluationSettings,
    FitSettings,
)

_CELL_KEYS = [f"{section}.{key}" for section, keys in CellSettings() for key in dict(keys)]
# Folders of results/ that are no study's.
RESERVED = ("logs", "benchmarks", "bench")
# Of tables whose other columns are called after variants.
COLUMNS = ("image_id", "split", "gt_label", "defect", "category", "component", "compressed_bits")
MAX_CELLS = 300_000  # before categories
Logger = Literal["dvclive", "tensorboard"]
_CHECKED = "checked"  # context of a study that was checked before it was written


class Study(CellSettings):
    """A whole study."""

    study: Name = Field("paper", description="Name; results/<study>/.")
    seeds: list[Seed] = Field(
        [0, 1, 2], min_length=1, max_length=1000, description="One training per seed."
    )
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
    max_cache_gib: float = Field(
        20.0,
        ge=0,
        le=1e6,
        description="A dataset's category whose half-precision features exceed this many GiB "
        "is not cached: the encoder then runs inside training and scoring.",
    )
    loggers: list[Logger] = Field(
        [],
        description="Programs for which losses and metrics of each cell are written, for dvclive "
        "settings too, in results/<study>/logged/ (`pip install -e '.[loggers]'`).",
    )
    evaluation: EvaluationSettings = EvaluationSettings()
    analysis: AnalysisSettings = AnalysisSettings()

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if info.context == _CHECKED:
            return self
        if self.study.casefold() in RESERVED:
            raise ValueError(f"study: results/{self.study}/ is there for every study: rename it")
        names: dict[str, list[str]] = {
            "datasets": [entry.name for entry in self.datasets],
            "ablations": [ablation.name for ablation in self.ablations],
            "variants": [variant.name for variant in self.variants],
            "seeds": [str(seed) for seed in self.seeds],
            "loggers": [*self.loggers],
        }
        for entry in self.datasets:
            names[f"datasets[{entry.name}].categories"] = entry.categories or []
        for key, entries in (("datasets", self.datasets), ("variants", self.variants)):
            for named in entries:
                for section, keys in named.settings.items():
                    if not isinstance(keys, dict):
                        where = f"{key}[{named.name}].settings.{section}"
                        raise ValueError(f"{where} must be a mapping of keys")
        for variant in self.variants:
            names[f"variants[{variant.name}].datasets"] = variant.datasets or []
        for key, listed in names.items():
            check_unique(key, listed)
        made = len(self.variants) + sum(ablation.size for ablation in self.ablations)
        if made * len(self.datasets) * len(self.seeds) > MAX_CELLS:
            raise ValueError(
                f"{len(self.datasets)} datasets x {made} variants x {len(self.seeds)} seeds are "
                f"more than {MAX_CELLS:,}: ask for less in one study"
            )
        for ablation in self.ablations:  # all, before the variants of any are made
            where = f"ablations[{ablation.name}].of"
            _check_known(where, [ablation.of], self.named, "; `ablations: []` asks for none")
        for ablation in self.ablations:
            self._check_ablation(ablation)
        check_unique("variants and ablations", [v.name for v in self.all_variants])
        check_unique("variants' labels", [self.label(v.name) for v in self.all_variants])
        self._check_names()
        self._check_archives()
        for entry in self.datasets:
            self._check_cells(entry.name)
        return self

    def _check_cells(self, dataset: str) -> None:
        """Check the settings of every cell of a dataset."""
        variants = self.variants_on(dataset)
        statistics = any(variant.method == Method.GRADIENT for variant in variants)
        for variant in variants:
            cell = self.cell(dataset, variant.name)
            if cell.score.correct != "none" and not statistics:
                raise ValueError(
                    f"score.correct: {cell.score.correct} of {variant.name} needs a variant of "
                    f"the method gradient on {dataset}, whose table has the complexity of images"
                )
            asked, of = cell.score.reconstruction, cell.decoder.target
            counts = variant.method == Method.AUTOENCODER or cell.score.beta < 1
            if variant.method.has_decoder and counts and asked.target != of:
                fitting = " or ".join(each for each in ReconstructionScore if each.target == of)
                raise ValueError(
                    f"score.reconstruction: {asked} of {variant.name} is of {asked.target}, and "
                    f"its decoder.target is {of}: choose {fitting}"
                )
            fixed = _fixed(variant.method, cell)
            if cell.encoder.finetune and fixed:
                raise ValueError(
                    f"encoder.finetune of {variant.name}: {fixed} is fitted to features before "
                    "the training, and an encoder that is trained too would shrink its own until "
                    "nothing is unusual: leave it frozen, as by default"
                )

    def _check_ablation(self, ablation: Ablation) -> None:
        where = f"ablations[{ablation.name}]"
        method = self._explicit(ablation.of).method
        if not method.fitted:
            raise ValueError(f"{where}.of: {ablation.of} is not trained, so it has no settings")
        _check_known(f"{where}.key", [ablation.key], _CELL_KEYS)
        _check_known(f"{where}.across", list(ablation.across), _CELL_KEYS)
        check_unique(f"{where}.key and across", [ablation.key, *ablation.across])
        _check_known(f"{where}.datasets", ablation.datasets or [], self._dataset_names)
        check_unique(f"{where}.values", [str(value) for value in ablation.values])
        check_unique(f"{where}.datasets", ablation.datasets or [])
        for variant in self._ablated[ablation.name]:
            if not re.fullmatch(NAME, variant.name):
                raise ValueError(f"{where} makes a variant {variant.name!r}, and {NAME_RULE}")

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
            check_unique(f"{where}.members", variant.members)
            if variant.name.casefold() in COLUMNS:
                raise ValueError(f"{where}: tables have a column of that name: choose another")
            for member in map(self.variant, variant.members):
                if member.method == Method.FUSION:
                    raise ValueError(f"{where}.members: {member.name} is itself a fusion")
            alone = [self.variant(name) for name in variant.members if len(variant.members) == 1]
            if alone and not self.draws(alone[0].name):
                raise ValueError(
                    f"{where}.members: {alone[0].name} draws no random numbers, so there is no "
                    "ensemble of its seeds: name two variants or more"
                )
            for member in map(self.variant, variant.members):
                absent = [d for d in datasets if variant.runs_on(d) and not member.runs_on(d)]
                if absent:
                    raise ValueError(f"{where}.members: {member.name} does not run on {absent[0]}")
        fusions: dict[str, str] = {}
        for variant in self.variants:
            if variant.method == Method.FUSION:
                what = variant.model_copy(
                    update={"name": "", "label": None, "members": sorted(variant.members)}
                ).model_dump_json()
                if what in fusions:
                    raise ValueError(f"variants: {fusions[what]} and {variant.name} are the same")
                fusions[what] = variant.name
        _check_known("analysis.reference", [self.reference], self.named)

    def _check_archives(self) -> None:
        origins: dict[str, DatasetEntry] = {}
        for entry in self.datasets:
            other = origins.setdefault(entry.archive.casefold(), entry)
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
    def _cards(self) -> dict[str, DatasetCard]:
        return {}

    @cached_property
    def _cells(self) -> dict[tuple[str, str], CellSettings]:
        return {}

    @cached_property
    def _by_settings(self) -> dict[str, CellSettings]:
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
    def named(self) -> list[str]:
        """The variants that the configuration names one by one, not its ablations'."""
        return [variant.name for variant in self.variants]

    def _explicit(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)

    def with_variant(self, variant: Variant) -> "Study":
        """Return the study with one more variant, whose names nobody checks."""
        content = self.model_dump() | {"variants": [*self.variants, variant]}
        return Study.model_validate(content, context=_CHECKED)

    def dataset(self, name: str) -> DatasetEntry:
        """Return the entry called `name`."""
        return next(entry for entry in self.datasets if entry.name == name)

    def entry_of(self, archive: str) -> DatasetEntry:
        """Return the first dataset that reads an archive."""
        return next(entry for entry in self.datasets if entry.archive == archive)

    def card(self, dataset: str) -> DatasetCard:
        """Return the card of a dataset of the study.

        Raises:
            ConfigError: as `DatasetEntry.load_card`, or the dataset needs a source and has none.
        """
        if dataset not in self._cards:
            entry = self.dataset(dataset)
            card = entry.load_card()
            if entry.source is None and not card.has_source:
                raise ConfigError(
                    f"datasets[{dataset}]: give a `source`, a folder or an archive of images."
                )
            self._cards[dataset] = card
        return self._cards[dataset]

    def categories(self, dataset: str) -> list[str]:
        """Return the categories of a dataset that the study uses; `["all"]` if it has none."""
        card = self.card(dataset)  # which knows whether there are such categories
        return self.dataset(dataset).categories or card.categories

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`, an ablation's too; ConfigError: there is none."""
        if name not in self._by_name:
            raise ConfigError(f"The study has no variant '{name}'.")
        return self._by_name[name]

    def label(self, variant: str) -> str:
        """Return what people see in the place of a variant's name: its label, or its name."""
        return self.variant(variant).label or variant

    @property
    def labels(self) -> dict[str, str]:
        """Each variant's name -> its `label`."""
        return {variant.name: self.label(variant.name) for variant in self.all_variants}

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
        own, of_dataset = self.variant(variant).settings, self.dataset(dataset).settings
        key = json.dumps([of_dataset, own], sort_keys=True, default=str)
        if key in self._by_settings:
            return self._by_settings[key]
        merged = {name: getattr(self, name).model_dump() for name in CellSettings.model_fields}
        layers = (
            (f"datasets[{dataset}].settings", of_dataset),
            (self._places[variant], own),
        )
        for where, layer in layers:
            for section, keys in layer.items():
                merged.setdefault(section, {}).update(keys)
            merged = validate(CellSettings, merged, where).model_dump()
        return self._by_settings.setdefault(key, CellSettings.model_validate(merged))

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

        Raises:
            ConfigError: there is no such variant, or it does not run on the dataset.
        """
        first = self._first(dataset)
        if self.variant(variant).name not in first:
            raise ConfigError(f"The variant '{variant}' does not run on {dataset}.")
        return first[variant]

    def readers(self, dataset: str, training: str) -> list[str]:
        """Return the variants that read the score table of a training, as `trained_as`."""
        return [name for name, first in self._first(dataset).items() if first == training]

    def _first(self, dataset: str) -> dict[str, str]:
        """Return each variant that runs on a dataset -> the first with the same training."""
        if dataset not in self._trainings:
            shared: dict[tuple[str, ...], str] = {}
            self._trainings[dataset] = {
                variant.name: shared.setdefault(self._training(dataset, variant), variant.name)
                for variant in self.variants_on(dataset)
            }
        return self._trainings[dataset]

    def _training(self, dataset: str, variant: Variant) -> tuple[str, ...]:
        """Return what decides a variant's score components."""
        if variant.method == Method.FUSION:
            return ("fusion", variant.name)
        if variant.method == Method.GRADIENT:
            return ("gradient",)
        return (variant.method, self.fit_settings(dataset, variant.name).model_dump_json())

    def seeds_of(self, variant: str) -> list[int]:
        """Return the seeds of a variant.

        One that draws no random numbers needs only the first; so does an ensemble of seeds.
        """
        members = self.variant(variant).members
        if len(members) > 1:
            return max((self.seeds_of(member) for member in members), key=len)
        return self.seeds if self.draws(variant) and not members else self.seeds[:1]

    def draws(self, variant: str) -> bool:
        """Whether random numbers are behind the scores of a variant, or of one of its members."""
        chosen = self.variant(variant)
        if chosen.members:
            return any(self.draws(member) for member in chosen.members)
        if chosen.method == Method.GAUSSIAN:  # in closed form, of images that may be drawn
            on = [entry.name for entry in self.datasets if chosen.runs_on(entry.name)]
            return any(self.cell(dataset, variant).training.max_normals for dataset in on)
        return chosen.method.fitted

    def map_of(self, dataset: str, variant: str) -> str | None:
        """Return the anomaly map that a variant is judged by; None: it makes none.

        The configured one, or the first that the method makes. A peer's has the method's name.
        """
        method, cell = self.variant(variant).method, self.cell(dataset, variant)
        made: list[str] = []
        if method.has_flow:
            made += [AnomalyMap.FLOW, AnomalyMap.ENERGY, AnomalyMap.NLL]
        if method.has_decoder:
            made.append(AnomalyMap.RESIDUAL if cell.target_stage else AnomalyMap.DIFFERENCE)
        if method.peer and method != Method.GANOMALY:
            made.append(method.value)
        return cell.score.map.value if cell.score.map in made else next(iter(made), None)

    def ablation_rows(self) -> list[dict[str, Any]]:
        """Return a row for each dataset and variant of an ablation, as far as the study runs them.

        Returns:
            dataset, ablation, of, key, value (as in the configuration), across (further key ->
            value), is_default (whether `of` has these values on the dataset), variant, trained_as
            (the variant whose training it shares).
        """
        return [
            {
                **{"dataset": entry.name, "ablation": ablation.name, "of": ablation.of},
                **{"key": ablation.key, "value": change[ablation.key]},
                "across": {key: value for key, value in change.items() if key != ablation.key},
                "is_default": all(
                    self.value(entry.name, variant.name, key)
                    == self.value(entry.name, ablation.of, key)
                    for key in change
                ),
                "variant": variant.name,
                "trained_as": self.trained_as(entry.name, variant.name),
            }
            for entry in self.datasets
            for ablation in self.ablations
            for change, variant in zip(ablation.changes, self._ablated[ablation.name], strict=True)
            if variant.runs_on(entry.name)
        ]

    def value(self, dataset: str, variant: str, key: str) -> Any:
        """Return a cell's value of a key such as flow.steps."""
        section, name = key.split(".")
        return getattr(getattr(self.cell(dataset, variant), section), name)


def read_study(path: Path) -> Study:
    """Return the study that a run wrote, without checking once more what entries say of others.

    Raises:
        DataError: the file is missing or no JSON.
        ConfigError: it holds no study, as that of another version.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: snakemake writes it when a run starts.")
    return validate(Study, read_json(path), str(path), context=_CHECKED)


def _fixed(method: Method, cell: CellSettings) -> str | None:
    """Return what of a model rests on the encoder's features as they are before the training."""
    if not method.ours:
        return None  # whose encoder is frozen whatever this says
    if method.closed:
        return f"the method {method}"
    if method.has_flow and cell.flow.standardise != "none":
        return f"flow.standardise: {cell.flow.standardise}"
    return "decoder.target: features" if cell.target_stage and method.has_decoder else None


def _check_known(key: str, names: list[str], known: list[str], remedy: str = "") -> None:
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"{key} names {name}, which is not in the study ({hint}){remedy}")


def _origin(entry: DatasetEntry) -> tuple[str | None, ...]:
    """Return what decides the content of an entry's archive."""
    return entry.card_name, entry.edition, entry.source, entry.sha256
