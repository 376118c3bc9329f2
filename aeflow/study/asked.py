"""What a step may know of the configuration: a model per step.

A rule records the JSON of it (`as_json`) in its params, so that a change makes the step run
again; its script gets the same model and nothing else of the study. So no script can read what its
rule does not record.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from aeflow.core.schema import Strict
from aeflow.core.types import Method
from aeflow.study.cards import ENCODER_CARDS, DatasetCard, load_encoder_card
from aeflow.study.settings import (
    DataSettings,
    EvaluationSettings,
    FitSettings,
    ScoreSettings,
    ThresholdSettings,
)


class Asked(Strict):
    """Base of what a step is asked for."""

    def as_json(self) -> Any:
        """Return what shapes the step's result, as plain JSON."""
        return self.model_dump(mode="json")


class FetchAsked(Asked):
    """A dataset's files."""

    card: DatasetCard
    source: str | None
    sha256: str | None
    seen: str | None = Field(None, description="Digest of a source on this machine.")

    def as_json(self) -> Any:
        """Return the bytes where they are known, not their place: a new mirror reruns nothing."""
        own = self.source and (self.seen or self.sha256 or self.source)
        files = [] if own else [f.sha256 or f.md5 or f.name for f in self.card.files]
        return {"own": own, "files": files} | self.card.model_dump(
            mode="json", include={"conversion"}
        )


class PrepareAsked(Asked):
    """The images of a dataset's category, or their masks."""

    dataset: str
    category: str
    data: DataSettings
    card: DatasetCard
    source: Path | None = Field(None, description="A folder that is read where it is.")
    seen: str | None = Field(None, description="Digest of what the folder holds of them.")

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.dataset}/{self.category}"

    def as_json(self) -> Any:
        """Return all but what the card tells people, and the folder's place."""
        content: dict[str, Any] = self.model_dump(mode="json", exclude={"card", "source"})
        shaping = {"layout", "counts", "split"}
        return content | {"card": self.card.model_dump(mode="json", include=shaping)}


class WeightsAsked(Asked):
    """An encoder's weights."""

    encoder: str

    def as_json(self) -> Any:
        """Return what tells one file of weights from another: the card's facts but its source."""
        if not (ENCODER_CARDS / f"{self.encoder}.yaml").is_file():
            return {"encoder": self.encoder}
        card = load_encoder_card(self.encoder)
        facts = card.model_dump(mode="json", include={"library", "architecture", "mean", "sd"})
        return {"encoder": self.encoder, "sha256": card.weights.sha256, **facts}


class FeaturesAsked(Asked):
    """The features of a dataset's category."""

    stages: list[int]
    max_cache_gib: float
    threads: int

    def as_json(self) -> Any:
        """Return all but the number of threads."""
        return self.model_dump(mode="json", exclude={"threads"})


class FitAsked(Asked):
    """A training."""

    method: Method
    settings: FitSettings
    seed: int


class ScoreAsked(Asked):
    """The scores of a training, or of a method without one."""

    method: Method
    settings: FitSettings
    fpr_limit: float
    top_shares: list[float] = Field(description="Of positions, for each a score `..._top`.")
    maps: list[str] = Field(description="Anomaly maps that are judged and kept in the gallery.")

    def as_json(self) -> Any:
        """Return the method alone where nothing is fitted: such scores have no settings."""
        shaping = None if self.method.fitted else {"method"}
        return self.model_dump(mode="json", include=shaping)


class MemberAsked(Strict):
    """What makes a member's components its score."""

    name: str = Field(description="The column's.")
    method: Method
    score: ScoreSettings


class FuseAsked(Asked):
    """The scores of several variants, or of one variant's seeds, as components of one more."""

    members: list[MemberAsked]


class VariantAsked(Strict):
    """How a variant that reads a score table is judged."""

    method: Method
    encoder: str | None
    map: str | None = Field(description="Name of the anomaly map behind pixel metrics.")
    score: ScoreSettings
    threshold: ThresholdSettings


class JudgeAsked(Asked):
    """The metrics of every variant that reads one score table."""

    variants: dict[str, VariantAsked]
    evaluation: EvaluationSettings
