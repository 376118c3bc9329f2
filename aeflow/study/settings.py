"""What one cell of a study is: data, encoder, flow, loss, training, score, threshold.

Every point that the paper leaves open is a key here (docs/method.md). PA and UR are the two public
student reproductions.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from aeflow.core.schema import NAME, Seed, Strict
from aeflow.core.types import (
    AnomalyMap,
    FlowScore,
    GradientScore,
    Method,
    ReconstructionScore,
)

Intensity = Literal["full", "range", "percentiles", "window"]


class DataSettings(Strict):
    """How images are prepared and split."""

    image_size: int = Field(
        256, ge=32, le=1024, multiple_of=32, description="Side of the square image, pixels."
    )
    grayscale: bool = Field(
        False, description="Convert to gray before resizing (open point; PA does)."
    )
    center_crop: int | None = Field(
        None,
        ge=32,
        description="Crop this many pixels from the resized image and resize back to "
        "image_size (open point; PA crops 224 of 256).",
    )
    resize: Literal["squash", "crop", "pad"] = Field(
        "squash",
        description="How an image that is no square becomes one. squash: both sides are scaled "
        "(the paper's). crop: the square in its centre. pad: whole, with black beside it. Masks "
        "alike.",
    )
    intensity: Intensity = Field(
        "full",
        description="Which levels of images of more than 8 bits become black and white. full: "
        "those that the file's type can hold. range: the lowest and highest of the training "
        "normals; percentiles: without the 0.5 % darkest and brightest pixels of each. window: "
        "the VOI window of each DICOM file.",
    )
    frame: int | None = Field(
        None,
        ge=1,
        description="Which frame of files that have several (TIFF, GIF, DICOM), counted from 1; "
        "null: the first, with a warning, and none of a DICOM file.",
    )
    val_fraction: float = Field(
        0.15,
        gt=0,
        lt=0.9,
        description="Share of the training normals held out for validation, by patient or "
        "group where known; not where the dataset has a validation split of its own.",
    )
    max_val_anomalous: int = Field(
        400,
        ge=0,
        le=1_000_000,
        description="At most this many anomalous images, of the training folder or the dataset's "
        "own validation split, are used for validation, without persons who appear in test. 0 "
        "for none.",
    )
    split_seed: Seed = Field(
        0,
        description="Seed of the validation split, and of the test where the dataset has none.",
    )
    max_unusable_share: float = Field(
        0.0, ge=0, lt=1, description="More unreadable images than this share are an error."
    )

    @model_validator(mode="after")
    def _check_crop(self) -> Self:
        if self.center_crop is not None and self.center_crop > self.image_size:
            raise ValueError("data.center_crop is larger than data.image_size")
        return self


def _listed(value: Any) -> Any:
    """Return a number as a list of itself."""
    return [value] if isinstance(value, int) else value


Stage = Annotated[int, Field(ge=1, le=6)]


class EncoderSettings(Strict):
    """The pretrained encoder x -> z."""

    name: str = Field(
        "wide_resnet50_2",
        pattern=NAME,
        description="`wide_resnet50_2` (the paper's), `efficientnet_lite0` (its weights come "
        "with a Python package), or any timm or convolutional torchvision backbone.",
    )
    stages: Annotated[list[Stage], BeforeValidator(_listed)] = Field(
        [3],
        min_length=1,
        description="Stages whose outputs are z; stage k has stride 2^(k+1). One number stands "
        "for itself. Of several, each has a flow of its own; their maps are added up (`maps`).",
    )
    finetune: bool = Field(
        False,
        description="Train the encoder too (open point; PA does). The likelihood of z is then "
        "no longer well posed. Needs flow.standardise: none and decoder.target: pixels.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sorted(set(self.stages)) != self.stages:
            raise ValueError(
                f"encoder.stages: {self.stages} must name each stage once, the lowest first"
            )
        return self

    @property
    def stage_name(self) -> str:
        """Its stages' name in tables."""
        return f"{self.name}-stage{'-'.join(map(str, self.stages))}"


class FeatureSettings(Strict):
    """What happens to the encoder's features before any method sees them."""

    normalise: Literal["none", "position", "image", "instance"] = Field(
        "none",
        description="position: the features of each position are divided by their rms over the "
        "channels; image: those of an image by their rms; instance: each channel of an image gets "
        "mean 0 and sd 1.",
    )


class FlowSettings(Strict):
    """The normalizing flow z -> z'."""

    steps: int = Field(8, ge=0, le=64, description="Coupling steps; 0: the standardisation alone.")
    coupling: Literal["affine", "additive"] = Field(
        "affine", description="additive: shifts alone, so that no step changes volumes."
    )
    subnet: Literal["conv", "resnet"] = Field(
        "conv", description="Network inside a coupling step (open point)."
    )
    hidden_channels: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Hidden width of the conv subnet; null: as many as its input (UR). PA: 256.",
    )
    standardise: Literal["none", "channel", "position", "whiten"] = Field(
        "none",
        description="A fixed affine step before the first coupling step, from the training "
        "normals' mean and sd per channel, or per channel and position; whiten: mean and "
        "covariance of the channels at each position (a Gaussian per position, as in PaDiM). Its "
        "log-determinant counts. Not in the paper: raw features cost a flow many epochs to scale.",
    )
    clamp: float = Field(
        2.0, gt=0, le=10, description="The log-scale of a step stays within +-clamp."
    )
    noise: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Sd of the noise that is added to standardised features in training.",
    )


class GaussianSettings(Strict):
    """Whitening: all of the method `gaussian`, and `flow.standardise: whiten`."""

    covariance: Literal["position", "shared"] = Field(
        "position",
        description="position: mean and covariance of the channels at each position; shared: one "
        "of all positions.",
    )
    ridge: float = Field(
        0.01,
        gt=0,
        le=10,
        description="Share of a position's mean variance that is added to each of its channels, "
        "so that few images give a covariance of full rank.",
    )


class PatchcoreSettings(Strict):
    """anomalib's PatchCore, as the method `patchcore`."""

    coreset: float = Field(
        0.01,
        gt=0,
        le=0.5,
        description="Share of the training positions that is kept. anomalib's 0.1 takes ten times "
        "as long; the paper reports both.",
    )


class MapSettings(Strict):
    """The flow's local energy and local nll, of all stages together."""

    standardise: Literal["none", "position"] | None = Field(
        None,
        description="position: minus the mean and divided by the sd of validation normals at each "
        "position, both with some of all positions', then asinh. null: so of several stages, not "
        "of one.",
    )
    weights: list[Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        None, description="Weight of each stage; null: all the same."
    )


class DecoderSettings(Strict):
    """The decoder z' -> x', of the last of `encoder.stages`."""

    target: Literal["pixels", "features"] = Field(
        "pixels", description="What is reconstructed; features: those of `decoder.stage`."
    )
    stage: Stage | None = Field(
        None, description="Stage of the target `features`; null: the one before z's."
    )
    output: Literal["sigmoid", "tanh"] = Field(
        "sigmoid",
        description="sigmoid: pixels in [0, 1]. tanh: PA's, against an ImageNet-normalised "
        "target that tanh cannot reach (open point).",
    )


class LossSettings(Strict):
    """L = alpha * L_flow + (1 - alpha) * L_recon."""

    alpha: float = Field(0.5, ge=0, le=1, description="Weight of the flow's loss.")
    flow_scale: Literal["nats_per_dim", "bits_per_dim", "sum"] = Field(
        "nats_per_dim", description="Unit of L_flow (open point; PA: bits_per_dim)."
    )


class TrainingSettings(Strict):
    """The optimisation."""

    epochs: int = Field(100, ge=1, le=1_000_000, description="Passes over the training normals.")
    batch_size: int = Field(64, ge=1, le=65_536, description="Images per step.")
    lr: float = Field(2e-3, gt=0, le=1, description="Adam's learning rate.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Adam's weight decay (L2).")
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant",
        description="cosine: from lr down to 0 at the last step, along half a cosine.",
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's first-moment decay.")
    gradient_clip: float | None = Field(
        None, gt=0, le=1e9, description="Clip the gradient's norm to this; null: never."
    )
    epoch_rule: Literal["best_val_loss", "last"] = Field(
        "best_val_loss",
        description="Which epoch is kept. Neither rule sees an anomalous or a test image: "
        "best_val_loss is the lowest loss of the validation normals.",
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = Field(
        "auto", description="auto: CUDA, then MPS, then CPU."
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="bfloat16: autocast; likelihoods stay float32. auto: so where the device "
        "multiplies such numbers itself (docs/speed.md). Another machine may then give other "
        "digits.",
    )
    compile: bool = Field(False, description="Use torch.compile.")
    max_normals: int | None = Field(
        None,
        ge=1,
        description="Train on at most this many normals, drawn by the seed; null: on all. "
        "Validation stays as it is.",
    )
    threads: int = Field(
        2,
        ge=1,
        le=1024,
        description="CPU threads of a training. Part of the result: sums are reordered when "
        "it changes, so the same seed gives the same bytes only for the same number.",
    )


class ScoreSettings(Strict):
    """S = beta * S_flow + (1 - beta) * S_recon."""

    beta: float = Field(0.9, ge=0, le=1, description="Weight of the flow's score.")
    flow: FlowScore = Field(FlowScore.DENSITY, description="Definition of S_flow (open point).")
    reconstruction: ReconstructionScore = Field(
        ReconstructionScore.SSIM, description="Definition of S_recon."
    )
    scaling: Literal["raw", "standardised"] = Field(
        "raw",
        description="raw: as the paper writes it. standardised: mean and sd of each component "
        "over validation normals first (open point).",
    )
    correct: Literal["none", "complexity"] = Field(
        "none",
        description="complexity: each component without what the image's complexity explains, by "
        "a regression on validation normals (Serrà et al. 2020); needs a variant `gradient`.",
    )
    top_share: float = Field(
        0.03,
        gt=0,
        le=1,
        description="Share of the positions whose mean is a score `..._top`; at least one is.",
    )
    gradient: GradientScore = Field(
        GradientScore.LOW_GRADIENT,
        description="Score of the method `gradient`: its mean gradient, or minus that (low).",
    )
    map: AnomalyMap = Field(
        AnomalyMap.FLOW,
        description="Map behind pixel_auroc and aupro of the tables, where the method makes it.",
    )


class ThresholdSettings(Strict):
    """How the threshold is fitted, always on validation images."""

    rule: Literal["f1_max", "youden", "cost", "sensitivity", "specificity"] = Field(
        "f1_max",
        description="All but specificity need validation anomalies; without any f1_max falls back "
        "to specificity, and the table says so, and the others give no threshold. youden: highest "
        "sensitivity + specificity - 1. cost: lowest expected cost.",
    )
    specificity: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Share of the normals that are to be called normal: this quantile of the "
        "validation normals' scores.",
    )
    sensitivity: float = Field(
        0.95, gt=0, lt=1, description="Share of the validation anomalies that are to be found."
    )
    cost: float = Field(
        1.0, gt=0, le=1e6, description="Of a missed anomaly, when a false alarm costs 1."
    )
    prevalence: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="For cost: share of anomalous images where the detector will be used, which "
        "validation does not know.",
    )

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, content: Any) -> Any:
        """Say what an older configuration's words are called now."""
        if isinstance(content, dict) and (
            "quantile" in content or content.get("rule") == "normal_quantile"
        ):
            raise ValueError(
                "the rule normal_quantile is called specificity now, and its key quantile is "
                "threshold.specificity"
            )
        return content


class FitSettings(Strict):
    """Everything that a training depends on, seed and data aside."""

    encoder: EncoderSettings = EncoderSettings()
    features: FeatureSettings = FeatureSettings()
    flow: FlowSettings = FlowSettings()
    gaussian: GaussianSettings = GaussianSettings()
    patchcore: PatchcoreSettings = PatchcoreSettings()
    maps: MapSettings = MapSettings()
    decoder: DecoderSettings = DecoderSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        weights, stages = self.maps.weights, self.encoder.stages
        if weights is not None and (len(weights) != len(stages) or not sum(weights)):
            raise ValueError(
                f"maps.weights: {weights} must be a weight for each of encoder.stages {stages}, "
                "not all 0"
            )
        target = self.target_stage
        if target is not None and not 1 <= target < self.encoder.stages[-1]:
            raise ValueError(
                f"decoder.stage: {target} must be before the last of encoder.stages "
                f"({self.encoder.stages[-1]}), whose z' is decoded"
            )
        return self

    @property
    def target_stage(self) -> int | None:
        """The stage that a decoder of features reconstructs; None: it reconstructs pixels."""
        if self.decoder.target == "pixels":
            return None
        return self.decoder.stage or self.encoder.stages[-1] - 1

    def stages_of(self, method: Method) -> list[int]:
        """Return the stages whose features a method reads: z's, and the decoder's target."""
        target = self.target_stage if method.has_decoder else None
        return sorted({*self.encoder.stages, *([target] if target else [])})


class CellSettings(FitSettings):
    """What one model is and how it is judged. A dataset or a variant may change any key."""

    score: ScoreSettings = ScoreSettings()
    threshold: ThresholdSettings = ThresholdSettings()


class EvaluationSettings(Strict):
    """Metrics and their uncertainty."""

    bootstrap_replicates: int = Field(
        1000, ge=0, le=100_000, description="Stratified bootstrap replicates; 0: no intervals."
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Level of the bootstrap's intervals; Student's and DeLong's always have 95 %.",
    )
    fpr_limit: float = Field(
        0.3, gt=0, le=1, description="AUPRO integrates up to this false-positive rate."
    )


class AnalysisSettings(Strict):
    """What is computed from stored scores, in seconds, for the variants (not for ablations)."""

    reference: str | None = Field(
        None,
        pattern=NAME,
        description="The variant that every other is tested against (DeLong); null: the first.",
    )
