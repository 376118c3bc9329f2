"""Losses and score components against scipy, scikit-image and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from aeflow.core.types import FlowScore, ReconstructionScore
from aeflow.models.components import (
    difference_map,
    enlarge,
    flow_scores,
    local_density,
    reconstruction_scores,
    ssim,
)
from aeflow.models.losses import flow_nll, reconstruction_loss, total_loss


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0)).double()


def test_nll_is_scipys_density_with_the_change_of_variables(z: torch.Tensor) -> None:
    log_det = torch.tensor([0.3, -2.0, 7.0], dtype=torch.float64)
    nats = -stats.norm.logpdf(z.numpy()).reshape(3, -1).sum(1) - log_det.numpy()
    for scale, unit in {"sum": 1, "nats_per_dim": 40, "bits_per_dim": 40 * math.log(2)}.items():
        found = flow_nll(z, log_det, scale).numpy()
        np.testing.assert_allclose(found, nats / unit, rtol=1e-12)


def test_losses_by_hand() -> None:
    z = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    value = flow_nll(z, torch.tensor([0.5]), "sum").item()
    assert value == pytest.approx(0.5 * 5 + math.log(2 * math.pi) - 0.5)
    image, other = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    other[1, 0, 0, 0] = 0.6
    assert reconstruction_loss(image, other).tolist() == pytest.approx([0, 0.36 / 12])
    assert total_loss(torch.tensor(4.0), torch.tensor(2.0), 0.25).item() == 0.25 * 4 + 0.75 * 2
    with pytest.raises(ValueError, match="L_flow, L_recon or both"):
        total_loss(None, None, 0.5)


def test_flow_scores_follow_their_definitions(z: torch.Tensor) -> None:
    log_det = torch.tensor([0.3, -2.0, 7.0], dtype=torch.float64)
    x = z.numpy()
    log_density = -0.5 * x**2 - 0.5 * math.log(2 * math.pi)
    local = -np.exp(-(x**2 / 2).mean(axis=1))
    expected = {
        FlowScore.DENSITY: -np.exp(log_density.mean(axis=(1, 2, 3))),
        FlowScore.LATENT_ENERGY: (x**2 / 2).mean(axis=(1, 2, 3)),
        FlowScore.NLL: -(log_density.sum(axis=(1, 2, 3)) + log_det.numpy()) / 40,
        FlowScore.LOCAL_DENSITY_MEAN: local.mean(axis=(1, 2)),
        FlowScore.LOCAL_DENSITY_MAX: local.max(axis=(1, 2)),
    }
    scores = flow_scores(z, log_det)
    assert set(scores) == set(expected) == set(FlowScore)
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-12, err_msg=name)


def test_scores_do_not_underflow_at_the_papers_size() -> None:
    z = 3 * torch.randn(2, 1024, 16, 16, generator=torch.Generator().manual_seed(0))
    for name, value in flow_scores(z, torch.zeros(2)).items():
        assert torch.isfinite(value).all(), name
        assert value.abs().min() > 1e-6, name
        assert value[0] != value[1], name


def test_every_score_is_higher_for_a_stranger_image(z: torch.Tensor) -> None:
    z[1] = 3 * z[0]
    for name, value in flow_scores(z, torch.zeros(3)).items():
        assert value[1] > value[0], name
    image = torch.rand(1, 3, 32, 32)
    near, far = (image + 0.01).clamp(0, 1), torch.rand(1, 3, 32, 32)
    good, bad = reconstruction_scores(image, near), reconstruction_scores(image, far)
    for name in ReconstructionScore:
        assert bad[name] > good[name], name


def noisy_pair(shape: tuple[int, ...], sd: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    image = generator.random(shape)
    other = np.clip(image + generator.normal(0, sd, shape), 0, 1)
    return torch.from_numpy(image), torch.from_numpy(other)


@pytest.mark.parametrize("sd", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ssim_is_torchmetrics(sd: float, dtype: torch.dtype) -> None:
    """Its `data_range` is fixed: by default an image's score would depend on its batch."""
    image, other = (x.to(dtype) for x in noisy_pair((3, 3, 64, 48), sd))
    image[2], other[2] = 0.5, 0.25  # no variance at all
    expected = structural_similarity_index_measure(image, other, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(image, other), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sd", [0.02, 0.3])
def test_ssim_is_scikit_images(sd: float) -> None:
    """In a gray frame, so that it does not matter what either sees beyond the border."""
    image, other = (np.pad(x, [(0, 0), (10, 10), (10, 10)]) for x in noisy_pair((3, 64, 48), sd))
    _, theirs = structural_similarity(
        image,
        other,
        data_range=1.0,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    found = ssim(torch.from_numpy(image)[None], torch.from_numpy(other)[None]).item()
    assert found == pytest.approx(theirs.mean(), abs=1e-9)
    assert theirs.min() < 0.999


def test_maps() -> None:
    z = torch.zeros(1, 2, 4, 4)
    z[0, :, 1, 2] = 4.0
    values = enlarge(local_density(z), 16)[0]
    row, column = divmod(int(values.argmax()), 16)
    assert (row // 4, column // 4) == (1, 2)
    assert values.min().item() == -1  # density exp(0) where z' is zero
    a, b = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    b[0, :, 0, 1] = torch.tensor([0.3, 0.0, -0.6])
    assert difference_map(a, b)[0, 0, 1].item() == pytest.approx(0.3)
