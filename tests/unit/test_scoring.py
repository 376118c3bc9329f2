"""Score components against numpy and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from aeflow.core.types import FlowScore, ReconstructionScore
from aeflow.models.components import difference_map, flow_map, flow_scores, reconstruction_scores


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0)).double()


def test_flow_scores_follow_their_definitions(z: torch.Tensor) -> None:
    log_det = torch.tensor([0.3, -2.0, 7.0], dtype=torch.float64)
    scores = {name: value.numpy() for name, value in flow_scores(z, log_det).items()}
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
    assert set(scores) == set(FlowScore)
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


def test_ssim_is_scikit_images() -> None:
    generator = np.random.default_rng(0)
    image = generator.random((3, 64, 48)).astype(np.float32)
    other = np.clip(image + generator.normal(0, 0.2, image.shape), 0, 1).astype(np.float32)
    ours = reconstruction_scores(torch.from_numpy(image)[None], torch.from_numpy(other)[None])
    expected = np.mean(
        [
            structural_similarity(
                a, b, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
            )
            for a, b in zip(image, other, strict=True)
        ]
    )
    # The borders are treated differently: theirs are cut, the library's are reflected.
    assert -ours[ReconstructionScore.SSIM].item() == pytest.approx(expected, abs=5e-3)


def test_the_score_of_an_image_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 32, 32, generator=generator)
    images[1:] *= 0.2  # a batch whose range differs from that of its first image
    others = torch.rand(5, 3, 32, 32, generator=generator)
    together = reconstruction_scores(images, others)
    alone = reconstruction_scores(images[:1], others[:1])
    for name in ReconstructionScore:
        torch.testing.assert_close(together[name][:1], alone[name], rtol=1e-5, atol=1e-6)


def test_maps() -> None:
    z = torch.zeros(1, 2, 4, 4)
    z[0, :, 1, 2] = 4.0
    values = flow_map(z, 16)[0]
    row, column = divmod(int(values.argmax()), 16)
    assert (row // 4, column // 4) == (1, 2)
    assert values.min().item() == -1  # density exp(0) where z' is zero
    a, b = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    b[0, :, 0, 1] = torch.tensor([0.3, 0.0, -0.6])
    assert difference_map(a, b)[0, 0, 1].item() == pytest.approx(0.3)
