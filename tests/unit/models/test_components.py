"""Losses and score components against scipy, scikit-image and torchmetrics."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from aeflow.core.types import FlowScore, ReconstructionScore, top_component
from aeflow.models.components import (
    difference_map,
    enlarge,
    flow_scores,
    local_energy,
    local_nll,
    reconstruction_scores,
    residual_scores,
    ssim,
)
from aeflow.models.losses import flow_nll, reconstruction_loss, total_loss


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def log_det(z: torch.Tensor) -> torch.Tensor:
    """Of each position, (B, h, w)."""
    return torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(1)).double() * 3


def scores_of(
    z: torch.Tensor, log_det: torch.Tensor, shares: Sequence[float] = ()
) -> dict[str, torch.Tensor]:
    return flow_scores(local_energy(z), local_nll(z, log_det), shares)


def test_nll_is_scipys_density_with_the_change_of_variables(
    z: torch.Tensor, log_det: torch.Tensor
) -> None:
    nats = -stats.norm.logpdf(z.numpy()).reshape(3, -1).sum(1) - log_det.sum((1, 2)).numpy()
    for scale, unit in {"sum": 1, "nats_per_dim": 40, "bits_per_dim": 40 * math.log(2)}.items():
        found = flow_nll(z, log_det, scale).numpy()
        np.testing.assert_allclose(found, nats / unit, rtol=1e-12)


def test_local_nll_is_scipys_density_at_each_position_and_its_mean_is_the_loss(
    z: torch.Tensor, log_det: torch.Tensor
) -> None:
    found = local_nll(z, log_det)
    expected = -(stats.norm.logpdf(z.numpy()).sum(axis=1) + log_det.numpy()) / 4
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mean((1, 2)), flow_nll(z, log_det), rtol=1e-12)


def test_losses_by_hand() -> None:
    z = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    value = flow_nll(z, torch.tensor([[[0.5]]]), "sum").item()
    assert value == pytest.approx(0.5 * 5 + math.log(2 * math.pi) - 0.5)
    image, other = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    other[1, 0, 0, 0] = 0.6
    assert reconstruction_loss(image, other).tolist() == pytest.approx([0, 0.36 / 12])
    assert total_loss(torch.tensor(4.0), torch.tensor(2.0), 0.25).item() == 0.25 * 4 + 0.75 * 2
    with pytest.raises(ValueError, match="L_flow, L_recon or both"):
        total_loss(None, None, 0.5)


def highest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the mean of the `count` highest of each image's values, (B, h, w) -> (B,)."""
    return np.sort(values.reshape(len(values), -1))[:, -count:].mean(axis=1)


# Of 2 x 5 positions.
@pytest.mark.parametrize(
    ("share", "count"),
    [(1e-9, 1), (0.03, 1), (0.1, 1), (0.24, 2), (0.5, 5), (0.96, 10), (1.0, 10)],
)
def test_a_top_is_the_mean_of_the_highest_positions(
    z: torch.Tensor, log_det: torch.Tensor, share: float, count: int
) -> None:
    """At least of one, whatever the share; of all, it is the mean."""
    energy, nll = local_energy(z), local_nll(z, log_det)
    found = flow_scores(energy, nll, [share]) | residual_scores(energy, [share])
    for name, values in (
        ("local_energy_top", energy),
        ("local_nll_top", nll),
        ("residual_top", energy),
    ):
        expected = highest(values.numpy(), count)
        np.testing.assert_allclose(found[f"{name}_{share:g}"], expected, rtol=1e-12)
    if share == 1:
        torch.testing.assert_close(found["local_nll_top_1"], found["nll"])
        torch.testing.assert_close(found["local_energy_top_1"], found["latent_energy"])
        torch.testing.assert_close(found["residual_top_1"], found["residual"])


def test_each_share_has_a_column_of_its_own(z: torch.Tensor, log_det: torch.Tensor) -> None:
    shares = [0.01, 0.5, 1.0]
    tops = [name for name in scores_of(z, log_det, shares) if "_top" in name]
    assert tops == [
        f"{name}_top_{share}"
        for name in ("local_energy", "local_nll")
        for share in ("0.01", "0.5", "1")
    ]
    assert top_component("residual_top", 0.03) == "residual_top_0.03"
    assert not [name for name in scores_of(z, log_det) if "_top" in name]


def test_flow_scores_follow_their_definitions(z: torch.Tensor, log_det: torch.Tensor) -> None:
    x = z.numpy()
    log_density = -0.5 * x**2 - 0.5 * math.log(2 * math.pi)
    energy, nll = (x**2 / 2).mean(axis=1), -(log_density.sum(axis=1) + log_det.numpy()) / 4
    local = -np.exp(-energy)
    expected = {
        FlowScore.DENSITY: -np.exp(log_density.mean(axis=(1, 2, 3))),
        FlowScore.LATENT_ENERGY: (x**2 / 2).mean(axis=(1, 2, 3)),
        FlowScore.NLL: nll.mean(axis=(1, 2)),
        FlowScore.LOCAL_DENSITY_MEAN: local.mean(axis=(1, 2)),
        FlowScore.LOCAL_DENSITY_MAX: local.max(axis=(1, 2)),
        FlowScore.LOCAL_NLL_MAX: nll.max(axis=(1, 2)),
        "local_energy_top_0.3": highest(energy, 3),
        "local_nll_top_0.3": highest(nll, 3),
    }
    scores = scores_of(z, log_det, [0.3])
    assert set(scores) == set(expected)
    assert {name.removesuffix("_0.3") for name in scores} == set(FlowScore)
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-12, err_msg=name)


def test_scores_do_not_underflow_at_the_papers_size() -> None:
    z = 3 * torch.randn(2, 1024, 16, 16, generator=torch.Generator().manual_seed(0))
    for name, value in scores_of(z, torch.zeros(2, 16, 16), [0.03]).items():
        assert torch.isfinite(value).all(), name
        assert value.abs().min() > 1e-6, name
        assert value[0] != value[1], name


def test_every_score_is_higher_for_a_stranger_image(z: torch.Tensor) -> None:
    z[1] = 3 * z[0]
    for name, value in scores_of(z, torch.zeros(3, 2, 5), [0.03]).items():
        assert value[1] > value[0], name
    image = torch.rand(1, 3, 32, 32)
    near, far = (image + 0.01).clamp(0, 1), torch.rand(1, 3, 32, 32)
    good, bad = reconstruction_scores(image, near), reconstruction_scores(image, far)
    energies = (local_energy(2 * z[:1]), local_energy(z[:1]))
    stranger, plain = (residual_scores(energy, [0.03]) for energy in energies)
    bad, good = bad | stranger, good | plain
    assert {name.removesuffix("_0.03") for name in bad} == set(ReconstructionScore)
    for name in bad:
        assert bad[name] > good[name], name


def test_a_shift_of_all_pixels_does_not_count_in_the_centred_mse() -> None:
    """What is left is the variance of the difference, over pixels and channels together."""
    images, other = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    shifts = torch.tensor([0.25, -0.5]).view(2, 1, 1, 1)
    found = reconstruction_scores(images, other + shifts)["centred_mse"]
    expected = (images - other).numpy().reshape(2, -1).var(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    alone = reconstruction_scores(images, images + shifts)
    assert alone["centred_mse"].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert alone["mse"].tolist() == pytest.approx([0.0625, 0.25])
    tinted = images + torch.tensor([0.3, 0.0, -0.3]).view(3, 1, 1)  # a shift of each channel does
    assert reconstruction_scores(images, tinted)["centred_mse"].tolist() == pytest.approx(
        [0.06] * 2
    )


@pytest.mark.parametrize("name", [*ReconstructionScore])
def test_what_a_score_compares_is_what_the_decoder_must_reconstruct(name: str) -> None:
    of_pixels = name in reconstruction_scores(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
    assert ReconstructionScore(name).target == ("pixels" if of_pixels else "features")


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
    values = enlarge(-torch.exp(-local_energy(z)), 16)[0]
    row, column = divmod(int(values.argmax()), 16)
    assert (row // 4, column // 4) == (1, 2)
    assert values.min().item() == -1  # density exp(0) where z' is zero
    a, b = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    b[0, :, 0, 1] = torch.tensor([0.3, 0.0, -0.6])
    assert difference_map(a, b)[0, 0, 1].item() == pytest.approx(0.3)
