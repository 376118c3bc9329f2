"""Which cells answer what a key of the configuration changes."""

from typing import Any

from aeflow.study.entries import Ablation
from aeflow.study.study import Study


def ablation_rows(study: Study) -> list[dict[str, Any]]:
    """Return a row for each dataset, ablation and value, as far as the study runs them.

    Returns:
        dataset, ablation, of, key, value (as in the configuration), is_default (whether `of` has
        that value on the dataset), variant, trained_as (the variant whose training it shares).
    """
    return [
        {
            "dataset": entry.name,
            "ablation": ablation.name,
            "of": ablation.of,
            "key": ablation.key,
            "value": value,
            "is_default": _is_default(study, entry.name, ablation, variant.name),
            "variant": variant.name,
            "trained_as": study.trained_as(entry.name, variant.name),
        }
        for entry in study.datasets
        for ablation in study.ablations
        for value, variant in zip(
            ablation.values, ablation.variants(study.variant(ablation.of)), strict=True
        )
        if variant.runs_on(entry.name)
    ]


def _is_default(study: Study, dataset: str, ablation: Ablation, variant: str) -> bool:
    section, key = ablation.key.split(".")
    own, other = (
        getattr(getattr(study.cell(dataset, name), section), key)
        for name in (variant, ablation.of)
    )
    return bool(own == other)
