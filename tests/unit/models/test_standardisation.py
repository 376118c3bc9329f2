"""The fixed affine step before the flow."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from scipy.stats import multivariate_normal
from sklearn.covariance import EmpiricalCovariance

from aeflow.core.errors import ConfigError, TrainingError
from aeflow.models.components import local_nll
from aeflow.models.flow import NormalizingFlow
from aeflow.models.standardisation import MapScale, Standardisation, Whitening
from aeflow.study.settings import FlowSettings, GaussianSettings

Fixed = Standardisation | Whitening
RIDGE = 0.1
KINDS = ["channel", "position", "whiten", "shared"]


def make(kind: str, steps: int = 0, channels: int = 3) -> NormalizingFlow:
    """Return a flow that begins with a standardisation, of 2 x 2 positions."""
    covariance = "shared" if kind == "shared" else "position"
    gaussian = GaussianSettings(covariance=covariance, ridge=RIDGE)
    standardise = "whiten" if kind == "shared" else kind
    settings = FlowSettings(steps=steps, standardise=standardise)
    return NormalizingFlow(channels, 2, settings, gaussian)


def fit(module: Fixed, *batches: torch.Tensor) -> Fixed:
    for batch in batches:
        module.add(batch)
    module.fit()
    return module


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
    flow = make(kind, steps=1).double()
    fit(flow.standardisation, *features.split(64))
    out, log_det = flow.standardisation(features)
    if kind == "position":
        torch.testing.assert_close(out.mean(0), torch.zeros(3, 2, 2).double(), atol=1e-6, rtol=0)
        assert out[:, 2].std(0).sub(1).abs().max() < 0.01
    else:
        expected = (features[:, 2] - features[:, 2].mean()) / features[:, 2].std()
        torch.testing.assert_close(out[:, 2], expected, atol=0.05, rtol=0.01)
    back, minus_log_det = flow.standardisation.inverse(out)
    torch.testing.assert_close(back, features)
    assert torch.equal(minus_log_det, -log_det)


@pytest.mark.parametrize("kind", ["channel", "position"])
def test_a_channel_that_never_changes_does_not_explode(kind: str) -> None:
    features = torch.randn(50, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    features[:, 1] = 7.0
    standardisation = fit(make(kind).standardisation, features)
    out, log_det = standardisation(features + 0.01)
    assert out[:, 1].abs().max() < 1
    assert log_det.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_standardisation_counts_in_the_log_det(kind: str) -> None:
    flow = make(kind, steps=2, channels=4).double()
    torch.manual_seed(0)
    fit(flow.standardisation, 5 * torch.randn(50, 4, 2, 2).double() + 3)
    z = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda vector: flow(vector.view_as(z))[0].flatten(), z.flatten()
    )
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(flow(z)[1][0].sum(), expected)
    torch.testing.assert_close(flow.inverse(flow(z)[0])[0], z)


@pytest.mark.parametrize("kind", KINDS)
def test_its_log_det_is_the_same_at_every_position_whatever_varies_where(kind: str) -> None:
    """Else the map of a likelihood would show where normals vary, on every image alike."""
    module = fit(
        make(kind).standardisation, torch.randn(50, 3, 2, 2) * torch.arange(1.0, 5).view(2, 2)
    )
    log_det = module(torch.randn(3, 3, 2, 2))[1]
    assert log_det.shape == (3, 2, 2)
    assert torch.equal(log_det, log_det[:1, :1, :1].expand(3, 2, 2))
    assert log_det.abs().min() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_any_size_give_the_same_mean_and_covariance(kind: str) -> None:
    features = correlated(20).float() + 3
    states = {}
    for size in (1, 3, 20):
        module = fit(make(kind, channels=4).standardisation, *features.split(size))
        states[size] = module.state_dict()
    names = states[20].keys()
    assert names == {"mean", "factor" if kind in ("whiten", "shared") else "log_sd"}
    for size in (1, 3):
        for name in names:
            torch.testing.assert_close(states[size][name], states[20][name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_fit_knows_nothing_of_the_first(kind: str) -> None:
    first, second = correlated(20).float() + 50, 3 * correlated(30).float()
    again = fit(fit(make(kind, channels=4).standardisation, first), second)
    for name, tensor in fit(make(kind, channels=4).standardisation, second).state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", ["whiten", "shared"])
@pytest.mark.parametrize("ridge", [0.001, 0.1, 3.0])
def test_the_likelihood_of_a_gaussian_is_scipys(kind: str, ridge: float) -> None:
    """With sklearn's covariance and the ridge, position by position or over all of them."""
    features = correlated(300)
    module = Whitening(4, 1 if kind == "shared" else 2, ridge)
    fit(module, *features.float().split(128))
    z, log_det = module(features.float())
    vectors = features.permute(2, 3, 0, 1).numpy()  # (h, w, B, C)
    expected = np.empty((300, 2, 2))
    logdets = []
    for y in range(2):
        for x in range(2):
            own = vectors.reshape(-1, 4) if kind == "shared" else vectors[y, x]
            fitted = EmpiricalCovariance().fit(own)
            mean_variance = np.trace(fitted.covariance_) / 4
            covariance = fitted.covariance_ + ridge * mean_variance * np.eye(4)
            normal = multivariate_normal(fitted.location_, covariance)
            expected[:, y, x] = -normal.logpdf(vectors[y, x]) / 4
            logdets.append(0.5 * np.linalg.slogdet(covariance)[1] / 4)
    found = local_nll(z, log_det).numpy()
    # The likelihood of the image is that of the Gaussians; the volume's share is even.
    np.testing.assert_allclose(found.mean((1, 2)), expected.mean((1, 2)), rtol=1e-4)
    even = expected - np.reshape(logdets, (2, 2)) + np.mean(logdets)
    np.testing.assert_allclose(found, even, rtol=1e-3, atol=1e-4)


def test_the_length_of_whitened_features_is_the_mahalanobis_distance() -> None:
    features = correlated(300)
    whitening = fit(Whitening(4, 2, RIDGE).double(), *features.split(70))
    out, log_det = whitening(features)
    total = 0.0
    for position in range(4):
        own = features.flatten(2)[..., position].numpy()
        covariance = np.cov(own.T, bias=True)
        covariance += RIDGE * np.diag(covariance).mean() * np.eye(4)
        expected = [mahalanobis(z, own.mean(0), np.linalg.inv(covariance)) for z in own]
        found = out.flatten(2)[..., position].norm(dim=1)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
        total -= 0.5 * np.linalg.slogdet(covariance)[1]
    assert log_det.sum((1, 2)).tolist() == pytest.approx([total] * 300)


@pytest.mark.parametrize("side", [1, 2])
def test_whitening_is_inverted_and_loaded_exactly(side: int) -> None:
    features = correlated(50).float()
    whitening = fit(Whitening(4, side, RIDGE), features)
    loaded = Whitening(4, side, RIDGE)
    state = whitening.state_dict()
    assert state["factor"].shape == (side * side, 10), "a triangle: half of each matrix"
    loaded.load_state_dict(state)
    out, log_det = loaded(features)
    assert torch.equal(out, whitening(features)[0])
    back, minus_log_det = loaded.inverse(out)
    torch.testing.assert_close(back, features, rtol=1e-4, atol=1e-4)
    assert torch.equal(minus_log_det, -log_det)


def test_a_position_that_never_changes_and_few_images_are_no_obstacle() -> None:
    features = correlated(3)  # fewer images than channels
    features[:, :, 0, 0] = 7.0
    whitening = fit(Whitening(4, 2, RIDGE).double(), features)
    out, log_det = whitening(features)
    assert out.isfinite().all()
    assert log_det.isfinite().all()
    assert not out[:, :, 0, 0].any()


def test_matrices_that_would_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"256 matrices of 1024 x 1024.*choose shared"):
        Whitening(1024, 16, RIDGE)


@pytest.mark.parametrize("kind", ["channel", "position", "whiten"])
@pytest.mark.parametrize("images", [1, 3])
def test_images_that_do_not_differ_are_refused(kind: str, images: int) -> None:
    """Else the log of no variance made every loss NaN, with a word about the learning rate."""
    shape = {"channel": (3, 1, 1), "position": (3, 2, 2)}
    module = Whitening(3, 2, RIDGE) if kind == "whiten" else Standardisation(*shape[kind])
    one = torch.full((1, 3, 2, 2), 0.1) if kind == "channel" else torch.rand(1, 3, 2, 2)
    with pytest.raises(TrainingError, match=rf"(: {kind}|Whitening) needs training normals"):
        fit(module, *[one] * images)


def made_up_maps(count: int) -> torch.Tensor:
    """Return maps of energy and nll of 2 x 2 positions, each with a scale of its own."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.1, 0.2], [5.0, 6.0]]])
    noise = torch.randn(2, count, 2, 2, generator=generator).abs()
    return noise * scale[:, None] + 7 * scale[:, None]


@pytest.mark.parametrize("count", [1, 2, 9, 400])
def test_a_positions_scale_counts_with_that_of_all_as_of_five_images(count: int) -> None:
    maps = made_up_maps(count)
    scale = MapScale(2)
    for batch in maps.split(4, dim=1):
        scale.add(batch)
    scale.fit()
    values = maps.double().numpy()
    mean, variance = values.mean(axis=1), values.var(axis=1)
    everything = values.reshape(2, -1)
    share = 5 / (count + 5)
    mean_of_all, variance_of_all = (
        of.reshape(2, 1, 1) for of in (everything.mean(axis=1), everything.var(axis=1))
    )
    expected_mean = (1 - share) * mean + share * mean_of_all
    expected_sd = np.sqrt((1 - share) * variance + share * variance_of_all)
    np.testing.assert_allclose(scale.mean, expected_mean, rtol=1e-5)
    np.testing.assert_allclose(scale.sd, expected_sd, rtol=1e-5)
    others = made_up_maps(3)
    expected = np.arcsinh((others.numpy() - expected_mean[:, None]) / expected_sd[:, None])
    np.testing.assert_allclose(scale(others), expected, rtol=1e-4, atol=1e-5)


def test_maps_that_do_not_vary_say_nothing() -> None:
    maps = made_up_maps(5)
    maps[0] = 3.0
    scale = MapScale(2)
    scale.add(maps)
    scale.fit()
    found = scale(made_up_maps(4))
    assert not found[0].any()
    assert found[1].abs().min() > 0
    assert found.isfinite().all()
