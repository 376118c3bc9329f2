"""Losses against scipy and hand-computed values."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from aeflow.models.losses import flow_nll, reconstruction_loss, total_loss


def test_nll_is_scipys_density_with_the_change_of_variables() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 4, 2, 5, generator=generator, dtype=torch.float64)
    log_det = torch.randn(3, generator=generator, dtype=torch.float64)
    expected = -stats.norm.logpdf(z.numpy()).reshape(3, -1).sum(1) - log_det.numpy()
    np.testing.assert_allclose(flow_nll(z, log_det, "sum").numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        flow_nll(z, log_det, "nats_per_dim").numpy(), expected / 40, rtol=1e-12
    )
    np.testing.assert_allclose(
        flow_nll(z, log_det, "bits_per_dim").numpy(), expected / 40 / math.log(2), rtol=1e-12
    )


def test_nll_by_hand() -> None:
    z = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    value = flow_nll(z, torch.tensor([0.5]), "sum").item()
    assert value == pytest.approx(0.5 * 5 + math.log(2 * math.pi) - 0.5)


def test_reconstruction_loss_by_hand() -> None:
    target = torch.zeros(2, 3, 2, 2)
    reconstruction = torch.zeros(2, 3, 2, 2)
    reconstruction[1, 0, 0, 0] = 0.6
    assert reconstruction_loss(target, reconstruction).tolist() == pytest.approx([0, 0.36 / 12])


def test_total_loss_weights_the_flow_by_alpha() -> None:
    assert total_loss(torch.tensor(4.0), torch.tensor(2.0), 0.25).item() == 0.25 * 4 + 0.75 * 2
