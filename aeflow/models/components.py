"""Score components of an image: not combined, not standardised (spec: Anomaly score).

All of them are "higher is more anomalous".
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from aeflow.core.types import FlowScore, ReconstructionScore
from aeflow.models.losses import LOG_2PI, flow_nll, reconstruction_loss


def local_energy(z: Tensor) -> Tensor:
    """Return mean_c z'^2 / 2 at each position, (B, C, h, w) -> (B, h, w)."""
    return 0.5 * z.square().mean(dim=1)


def local_density(z: Tensor) -> Tensor:
    """Return -exp(-local energy) at each position, (B, C, h, w) -> (B, h, w)."""
    return -torch.exp(-local_energy(z))


def flow_scores(z: Tensor, log_det: Tensor) -> dict[FlowScore, Tensor]:
    """Return every definition of S_flow, each (B,).

    Args:
        z: z', (B, C, h, w).
        log_det: (B,), nats.
    """
    latent_energy = local_energy(z).mean(dim=(1, 2))
    local = local_density(z)
    return {
        FlowScore.DENSITY: -torch.exp(-latent_energy - 0.5 * LOG_2PI),
        FlowScore.LATENT_ENERGY: latent_energy,
        FlowScore.NLL: flow_nll(z, log_det, "nats_per_dim"),
        FlowScore.LOCAL_DENSITY_MEAN: local.mean(dim=(1, 2)),
        FlowScore.LOCAL_DENSITY_MAX: local.amax(dim=(1, 2)),
    }


def reconstruction_scores(
    images: Tensor, reconstruction: Tensor
) -> dict[ReconstructionScore, Tensor]:
    """Return every definition of S_recon, each (B,), of images in [0, 1], (B, 3, H, W).

    `data_range` is fixed: the library's default takes it from the batch, and the score of an
    image would then depend on its neighbours.
    """
    ssim = structural_similarity_index_measure(
        reconstruction, images, data_range=1.0, reduction="none"
    )
    assert isinstance(ssim, Tensor)
    return {
        ReconstructionScore.SSIM: -ssim.reshape(len(images)),
        ReconstructionScore.MSE: reconstruction_loss(images, reconstruction),
    }


def flow_map(z: Tensor, size: int) -> Tensor:
    """Return the local density, bilinear to (B, size, size): FastFlow's map."""
    density = local_density(z)
    return F.interpolate(density[:, None], (size, size), mode="bilinear", align_corners=False)[
        :, 0
    ]


def difference_map(images: Tensor, reconstruction: Tensor) -> Tensor:
    """Return mean_c |x - x'|, (B, 3, H, W) twice -> (B, H, W)."""
    return (images - reconstruction).abs().mean(dim=1)
