"""Names shared by every layer: splits, score components, columns of the score table."""

from enum import StrEnum
from pathlib import Path


class Split(StrEnum):
    """Part of a dataset. Training images are always normal."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Method(StrEnum):
    """How an image gets its scores.

    `flow` is AE-FLOW without its decoder, `autoencoder` without its flow, `gaussian` the flow
    without coupling steps, `gradient` the trivial baseline: one number per image, no training.
    `fusion` is the mean of other variants' scores. `fastflow`, `patchcore`, `padim` and
    `ganomaly` are anomalib's.
    """

    AEFLOW = "aeflow"
    FLOW = "flow"
    AUTOENCODER = "autoencoder"
    GAUSSIAN = "gaussian"
    GRADIENT = "gradient"
    FUSION = "fusion"
    FASTFLOW = "fastflow"
    PATCHCORE = "patchcore"
    PADIM = "padim"
    GANOMALY = "ganomaly"

    @property
    def ours(self) -> bool:
        """Whether a model of ours is fitted."""
        return self in (Method.AEFLOW, Method.FLOW, Method.AUTOENCODER, Method.GAUSSIAN)

    @property
    def peer(self) -> bool:
        """Whether another model is fitted, which makes one score and gives it its name."""
        return not self.ours and self not in (Method.GRADIENT, Method.FUSION)

    @property
    def fitted(self) -> bool:
        """Whether anything is fitted to training images."""
        return self.ours or self.peer

    @property
    def closed(self) -> bool:
        """Whether the fit has a closed form, without epochs."""
        return self in (Method.GAUSSIAN, Method.PADIM, Method.PATCHCORE)

    @property
    def encoded(self) -> bool:
        """Whether it sees features of an encoder."""
        return self.fitted and self != Method.GANOMALY

    @property
    def file(self) -> Path:
        """The file that fits and scores it."""
        return Path("aeflow/methods", f"{Method.AEFLOW if self.ours else self}.py")

    @property
    def has_flow(self) -> bool:
        """Whether the model has a flow: S_flow, a flow map, L_flow."""
        return self in (Method.AEFLOW, Method.FLOW, Method.GAUSSIAN)

    @property
    def has_decoder(self) -> bool:
        """Whether the model has a decoder: S_recon, a difference map, L_recon."""
        return self in (Method.AEFLOW, Method.AUTOENCODER)


class FlowScore(StrEnum):
    """Definitions of S_flow, all "higher is more anomalous" (docs/method.md)."""

    DENSITY = "density"
    LATENT_ENERGY = "latent_energy"
    NLL = "nll"
    LOCAL_DENSITY_MEAN = "local_density_mean"
    LOCAL_DENSITY_MAX = "local_density_max"
    LOCAL_ENERGY_TOP = "local_energy_top"
    LOCAL_NLL_MAX = "local_nll_max"
    LOCAL_NLL_TOP = "local_nll_top"


class ReconstructionScore(StrEnum):
    """Definitions of S_recon, all "higher is more anomalous"; `ssim` holds -SSIM(x, x').

    Of pixels the first three, of features the others (docs/method.md).
    """

    SSIM = "ssim"
    MSE = "mse"
    CENTRED_MSE = "centred_mse"
    RESIDUAL = "residual"
    RESIDUAL_TOP = "residual_top"

    @property
    def target(self) -> str:
        """What the decoder must reconstruct: pixels or features."""
        return "features" if self.startswith("residual") else "pixels"


def top_component(name: str, share: float) -> str:
    """Return the column of a score that is the mean of this share of the highest positions."""
    return f"{name}_{share:g}"


class GradientScore(StrEnum):
    """The trivial baseline: mean absolute vertical gradient, as it is and negated."""

    HIGH_GRADIENT = "high_gradient"
    LOW_GRADIENT = "low_gradient"


class AnomalyMap(StrEnum):
    """Maps of the image's size, higher is more anomalous.

    Of the flow: local density (`flow`), its exponent (`energy`), and that with the log-determinant
    (`nll`). Of the decoder: |x - x'|, or the whitened residual of features.
    """

    FLOW = "flow"
    ENERGY = "energy"
    NLL = "nll"
    DIFFERENCE = "difference"
    RESIDUAL = "residual"


# First columns of every score table; one column per score component follows.
SCORE_TABLE_COLUMNS = ("image_id", "split", "gt_label", "defect")
# Columns of a prepared index.
INDEX_COLUMNS = (*SCORE_TABLE_COLUMNS, "group", "source", "sha256")
NORMAL, ANOMALOUS = 0, 1
# Mean and sd of ImageNet's pixels in [0, 1], red, green, blue.
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
