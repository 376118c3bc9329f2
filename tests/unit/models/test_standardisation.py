"""The fixed affine step before the flow."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from aeflow.core.errors import ConfigError, TrainingError
from aeflow.models.flow import NormalizingFlow
from aeflow.models.standardisation import Standardisation, Whitening
from aeflow.study.settings import FlowSettings


def correlated(count: int) -> torch.Tensor:
    """Features of 4 channels at 2 x 2 positions, each with a mixing and a mean of its own."""
    torch.manual_seed(0)
    mixing = torch.randn(4, 4, 4, dtype=torch.float64)
    z = torch.randn(count, 4, 4, dtype=torch.float64)
    mixed = torch.einsum("pij,npj->npi", mixing, z) + torch.arange(4.0).double()[:, None]
    return mixed.transpose(1, 2).reshape(count, 4, 2, 2)


@pytest.mark.parametrize("kind", ["channel", "position"])
def test_standardised_features_have_mean_0_and_sd_1(kind: str) -> None:
    torch.manual_seed(0)
    features = torch.randn(400, 3, 2, 2, dtype=torch.float64) * torch.tensor([0.1, 1, 20]).view(
        3, 1, 1
    ) + torch.arange(12, dtype=torch.float64).view(3, 2, 2)
    flow = NormalizingFlow(3, 2, FlowSettings(steps=1, standardise=kind)).double()
    flow.standardisation.fit(features.split(64))
    out, log_det = flow.standardisation(features)
    if kind == "position":
        torch.testing.assert_close(out.mean(0), torch.zeros(3, 2, 2).double(), atol=1e-6, rtol=0)
        assert out[:, 2].std(0).sub(1).abs().max() < 0.01
    else:
        expected = (features[:, 2] - features[:, 2].mean()) / features[:, 2].std()
        torch.testing.assert_close(out[:, 2], expected, atol=0.05, rtol=0.01)
    back, minus_log_det = flow.standardisation.inverse(out)
    torch.testing.assert_close(back, features)
    assert minus_log_det == -log_det


@pytest.mark.parametrize("kind", ["channel", "position"])
def test_a_channel_that_never_changes_does_not_explode(kind: str) -> None:
    features = torch.randn(50, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    features[:, 1] = 7.0
    standardisation = NormalizingFlow(3, 2, FlowSettings(standardise=kind)).standardisation
    standardisation.fit([features])
    out, log_det = standardisation(features + 0.01)
    assert out[:, 1].abs().max() < 1
    assert log_det.isfinite()


@pytest.mark.parametrize("kind", ["channel", "position", "whiten"])
def test_standardisation_counts_in_the_log_det(kind: str) -> None:
    flow = NormalizingFlow(4, 2, FlowSettings(steps=2, standardise=kind)).double()
    torch.manual_seed(0)
    flow.standardisation.fit([5 * torch.randn(50, 4, 2, 2).double() + 3])
    z = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda vector: flow(vector.view_as(z))[0].flatten(), z.flatten()
    )
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(flow(z)[1][0], expected)
    torch.testing.assert_close(flow.inverse(flow(z)[0])[0], z)


def test_the_length_of_whitened_features_is_the_mahalanobis_distance() -> None:
    features = correlated(300)
    whitening = Whitening(4, 2).double()
    whitening.fit(features.split(70))
    out, log_det = whitening(features)
    total = 0.0
    for position in range(4):
        own = features.flatten(2)[..., position].numpy()
        covariance = np.cov(own.T, bias=True)
        covariance += whitening.RIDGE * np.diag(covariance).mean() * np.eye(4)
        expected = [mahalanobis(z, own.mean(0), np.linalg.inv(covariance)) for z in own]
        found = out.flatten(2)[..., position].norm(dim=1)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
        total -= 0.5 * np.linalg.slogdet(covariance)[1]
    assert log_det.item() == pytest.approx(total)


def test_whitening_is_inverted_and_loaded_exactly() -> None:
    features = correlated(50).float()
    whitening = Whitening(4, 2)
    whitening.fit([features])
    loaded = Whitening(4, 2)
    loaded.load_state_dict(whitening.state_dict())
    out, log_det = loaded(features)
    assert torch.equal(out, whitening(features)[0])
    back, minus_log_det = loaded.inverse(out)
    torch.testing.assert_close(back, features, rtol=1e-4, atol=1e-4)
    assert minus_log_det == -log_det


def test_a_position_that_never_changes_and_few_images_are_no_obstacle() -> None:
    features = correlated(3)  # fewer images than channels
    features[:, :, 0, 0] = 7.0
    whitening = Whitening(4, 2).double()
    whitening.fit([features])
    out, log_det = whitening(features)
    assert out.isfinite().all()
    assert log_det.isfinite()
    assert not out[:, :, 0, 0].any()


def test_matrices_that_would_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"256 matrices of 1024 x 1024.*choose position"):
        Whitening(1024, 16)


@pytest.mark.parametrize("kind", ["channel", "position", "whiten"])
@pytest.mark.parametrize("images", [1, 3])
def test_images_that_do_not_differ_are_refused(kind: str, images: int) -> None:
    """Else the log of no variance made every loss NaN, with a word about the learning rate."""
    shape = {"channel": (3, 1, 1), "position": (3, 2, 2)}
    module = Whitening(3, 2) if kind == "whiten" else Standardisation(*shape[kind])
    one = torch.full((1, 3, 2, 2), 0.1) if kind == "channel" else torch.rand(1, 3, 2, 2)
    with pytest.raises(TrainingError, match=f"flow.standardise: {kind} needs training normals"):
        module.fit([one] * images)
