"""What one cell of a study is: data, encoder, flow, loss, training, score, threshold.

Every point that the paper leaves open is a key here (docs/method.md). PA and UR are the two public
student reproductions.
"""

from typing import Literal

from pydantic import Field

from aeflow.core.schema import NAME, Seed, Strict
from aeflow.core.types import AnomalyMap, FlowScore, GradientScore, ReconstructionScore


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
    intensity: Literal["full", "range", "percentiles", "window"] = Field(
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


class EncoderSettings(Strict):
    """The pretrained encoder x -> z."""

    name: str = Field(
        "wide_resnet50_2",
        pattern=NAME,
        description="`wide_resnet50_2` (the paper's), `efficientnet_lite0` (its weights come "
        "with a Python package), or any timm or convolutional torchvision backbone.",
    )
    stage: int = Field(
        3, ge=1, le=6, description="Stage whose output is z; stage k has stride 2^(k+1)."
    )
    finetune: bool = Field(
        False,
        description="Train the encoder too (open point; PA does). The likelihood of z is then "
        "no longer well posed.",
    )

    @property
    def stage_name(self) -> str:
        """Its stage's name in paths and tables."""
        return f"{self.name}-stage{self.stage}"


class FlowSettings(Strict):
    """The normalizing flow z -> z'."""

    steps: int = Field(8, ge=1, le=64, description="Affine coupling steps.")
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


class DecoderSettings(Strict):
    """The decoder z' -> x'."""

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
        "best_val_loss is the loss of the validation normals.",
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = Field(
        "auto", description="auto: CUDA, then MPS, then CPU."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: autocast; likelihoods stay float32."
    )
    compile: bool = Field(False, description="Use torch.compile.")
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
    gradient: GradientScore = Field(
        GradientScore.LOW_GRADIENT, description="Score of the method `gradient`."
    )
    map: AnomalyMap = Field(
        AnomalyMap.FLOW, description="Map behind pixel_auroc and aupro of the tables."
    )


class ThresholdSettings(Strict):
    """How the threshold is fitted, always on validation images."""

    rule: Literal["f1_max", "normal_quantile"] = Field(
        "f1_max",
        description="f1_max needs validation anomalies; without any it falls back to "
        "normal_quantile, and the table says so.",
    )
    quantile: float = Field(
        0.95, gt=0, lt=1, description="Quantile of the validation normals' scores."
    )


class FitSettings(Strict):
    """Everything that a training depends on, seed and data aside."""

    encoder: EncoderSettings = EncoderSettings()
    flow: FlowSettings = FlowSettings()
    decoder: DecoderSettings = DecoderSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()


class CellSettings(FitSettings):
    """What one model is and how it is judged. A dataset or a variant may change any key."""

    score: ScoreSettings = ScoreSettings()
    threshold: ThresholdSettings = ThresholdSettings()


class FeatureSettings(Strict):
    """The cache of the frozen encoder's features."""

    max_cache_gib: float = Field(
        20.0,
        ge=0,
        le=1e6,
        description="A dataset's category whose half-precision features exceed this many GiB "
        "is not cached: the encoder then runs inside training and scoring.",
    )


class EvaluationSettings(Strict):
    """Metrics and their uncertainty."""

    bootstrap_replicates: int = Field(
        1000, ge=0, le=100_000, description="Stratified bootstrap replicates; 0: no intervals."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
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
