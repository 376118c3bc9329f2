"""Score components of an image: not combined, not standardised; higher is more anomalous."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from aeflow.core.types import FlowScore, ReconstructionScore, top_component
from aeflow.models.losses import LOG_2PI, reconstruction_loss


def local_energy(z: Tensor) -> Tensor:
    """Return mean_c z'^2 / 2 at each position, (B, C, h, w) -> (B, h, w)."""
    return 0.5 * z.square().mean(dim=1)


def local_nll(z: Tensor, log_det: Tensor) -> Tensor:
    """Return -log p(z) at each position in nats per dimension; its mean is L_flow.

    Of z', (B, C, h, w), and log_det, (B, h, w) -> (B, h, w).
    """
    return local_energy(z) + 0.5 * LOG_2PI - log_det / z.shape[1]


def flow_scores(energy: Tensor, nll: Tensor, shares: Sequence[float]) -> dict[str, Tensor]:
    """Return every definition of S_flow, each (B,).

    Args:
        energy: local energy, (B, h, w).
        nll: local nll, (B, h, w).
        shares: of positions, for the scores that are a mean of the highest.
    """
    latent_energy, density = energy.mean(dim=(1, 2)), -torch.exp(-energy)
    return {
        FlowScore.DENSITY: -torch.exp(-latent_energy - 0.5 * LOG_2PI),
        FlowScore.LATENT_ENERGY: latent_energy,
        FlowScore.NLL: nll.mean(dim=(1, 2)),
        FlowScore.LOCAL_DENSITY_MEAN: density.mean(dim=(1, 2)),
        FlowScore.LOCAL_DENSITY_MAX: density.amax(dim=(1, 2)),
        FlowScore.LOCAL_NLL_MAX: nll.amax(dim=(1, 2)),
        **_tops(FlowScore.LOCAL_ENERGY_TOP, energy, shares),
        **_tops(FlowScore.LOCAL_NLL_TOP, nll, shares),
    }


def reconstruction_scores(images: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
    """Return every definition of S_recon, each (B,), of images in [0, 1], (B, 3, H, W)."""
    difference = images - reconstruction
    centred = difference - difference.mean(dim=(1, 2, 3), keepdim=True)
    return {
        ReconstructionScore.SSIM: -ssim(reconstruction, images),
        ReconstructionScore.MSE: reconstruction_loss(images, reconstruction),
        ReconstructionScore.CENTRED_MSE: centred.square().mean(dim=(1, 2, 3)),
    }


def residual_scores(energy: Tensor, shares: Sequence[float]) -> dict[str, Tensor]:
    """Return S_recon of features, each (B,), of the local energy of their residual, (B, h, w)."""
    return {
        ReconstructionScore.RESIDUAL: energy.mean(dim=(1, 2)),
        **_tops(ReconstructionScore.RESIDUAL_TOP, energy, shares),
    }


def _tops(name: str, values: Tensor, shares: Sequence[float]) -> dict[str, Tensor]:
    """Return the mean of each share of the highest values, (B, h, w) -> (B,)."""
    flat = values.flatten(1)
    return {
        top_component(name, share): flat.topk(max(1, round(share * flat.shape[1]))).values.mean(1)
        for share in shares
    }


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the structural similarity of images in [0, 1], (B, C, H, W) twice -> (B,).

    The mean over all pixels and channels, with a Gaussian window of 11 x 11 pixels and sd 1.5
    (Wang et al. 2004); beyond the border, pixels are reflected.
    """
    c1, c2, radius = 0.01**2, 0.03**2, 5
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-((offsets / 1.5) ** 2) / 2)
    weights = (weights / weights.sum())[None]
    window = (weights.T @ weights).expand(x.shape[1], 1, -1, -1)
    x, y = (F.pad(image, (radius,) * 4, mode="reflect") for image in (x, y))
    moments = F.conv2d(torch.cat((x, y, x * x, y * y, x * y)), window, groups=x.shape[1])
    mean_x, mean_y, square_x, square_y, product = moments.chunk(5)
    means = mean_x * mean_y
    # Rounding may leave a variance below 0.
    variance_x = (square_x - mean_x**2).clamp(min=0)
    variance_y = (square_y - mean_y**2).clamp(min=0)
    above = (2 * means + c1) * (2 * (product - means) + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    similarity: Tensor = (above / below).flatten(1).mean(1)
    return similarity


def enlarge(values: Tensor, size: int) -> Tensor:
    """Return maps (B, h, w), bilinear to (B, size, size)."""
    return F.interpolate(values[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def difference_map(images: Tensor, reconstruction: Tensor) -> Tensor:
    """Return mean_c |x - x'|, (B, 3, H, W) twice -> (B, H, W)."""
    return (images - reconstruction).abs().mean(dim=1)
