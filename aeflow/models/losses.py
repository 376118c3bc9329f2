"""The losses of AE-FLOW (docs/method.md)."""

import math
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)


def flow_nll(
    z: Tensor,
    log_det: Tensor,
    scale: Literal["nats_per_dim", "bits_per_dim", "sum"] = "nats_per_dim",
) -> Tensor:
    """Return L_flow = -log N(z'; 0, I) - log|det dz'/dz| of each image, constant included.

    Of z', (B, C, h, w), and log_det, (B, h, w): per dimension, or the sum over dimensions in nats.
    """
    dimensions = z[0].numel()
    log_det = log_det.sum(dim=(1, 2))
    nats = 0.5 * z.square().sum(dim=(1, 2, 3)) + 0.5 * dimensions * LOG_2PI - log_det
    if scale == "sum":
        return nats
    return nats / (dimensions if scale == "nats_per_dim" else dimensions * math.log(2))


def reconstruction_loss(target: Tensor, reconstruction: Tensor) -> Tensor:
    """Return L_recon = MSE(x, x') of each image, (B, C, H, W) twice -> (B,)."""
    return F.mse_loss(reconstruction, target, reduction="none").mean(dim=(1, 2, 3))


def total_loss(flow: Tensor | None, reconstruction: Tensor | None, alpha: float) -> Tensor:
    """Return L = alpha * L_flow + (1 - alpha) * L_recon; a part alone is the loss, unweighted."""
    if flow is not None and reconstruction is not None:
        return alpha * flow + (1 - alpha) * reconstruction
    if flow is None and reconstruction is None:
        raise ValueError("A loss needs L_flow, L_recon or both.")
    alone = reconstruction if flow is None else flow
    assert alone is not None
    return alone
