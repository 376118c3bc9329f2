"""The flow against autograd, against itself backwards, and against FrEIA."""

from typing import Any

import pytest
import torch
from FrEIA.modules import AllInOneBlock
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aeflow.models.components import local_nll
from aeflow.models.flow import CouplingStep, NormalizingFlow, conv_subnet
from aeflow.models.losses import flow_nll
from aeflow.study.settings import FlowSettings, GaussianSettings

SUBNETS = ["conv", "resnet"]
GAUSSIAN = GaussianSettings()


def make_flow(
    channels: int, subnet: str, steps: int, dtype: torch.dtype, side: int = 1, **more: Any
) -> NormalizingFlow:
    """Return a flow that is far from the identity, so that a wrong sign cannot hide."""
    torch.manual_seed(channels + steps)
    gaussian = GaussianSettings(covariance=more.pop("covariance", "position"))
    settings = FlowSettings(steps=steps, subnet=subnet, **more)
    flow = NormalizingFlow(channels, side, settings, gaussian).to(dtype)
    if flow.standardisation is not None:
        scale = torch.linspace(0.2, 3, channels * side * side).view(channels, side, side)
        flow.standardisation.add(scale * torch.randn(9, channels, side, side) + 2)
        flow.standardisation.fit()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return flow.eval()


def log_det_by_autograd(flow: nn.Module, z: Tensor) -> Tensor:
    """Return log|det| of the Jacobian at one image, (1, C, h, w)."""

    def flat(vector: Tensor) -> Tensor:
        return flow(vector.view_as(z))[0].flatten()

    jacobian = torch.autograd.functional.jacobian(flat, z.flatten())
    return torch.linalg.slogdet(jacobian).logabsdet


@pytest.mark.parametrize("subnet", SUBNETS)
@pytest.mark.parametrize("channels", [2, 5])
def test_log_det_is_that_of_the_jacobian(subnet: str, channels: int) -> None:
    flow = make_flow(channels, subnet, steps=3, dtype=torch.float64)
    z = torch.randn(1, channels, 2, 3, dtype=torch.float64)
    expected = log_det_by_autograd(flow, z)
    assert abs(expected) > 0.1
    torch.testing.assert_close(flow(z)[1][0].sum(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("coupling", ["affine", "additive"])
@pytest.mark.parametrize("subnet", SUBNETS)
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(
    ("standardise", "covariance"),
    [
        ("none", ""),
        ("channel", ""),
        ("position", ""),
        ("whiten", "position"),
        ("whiten", "shared"),
    ],
)
def test_the_log_det_of_all_positions_is_that_of_the_jacobian(
    coupling: str, subnet: str, steps: int, standardise: str, covariance: str
) -> None:
    """With whatever comes before the first step, and the likelihood that follows from it."""
    more = {"covariance": covariance} if covariance else {}
    more |= {"coupling": coupling, "standardise": standardise}
    flow = make_flow(4, subnet, steps, torch.float64, 2, **more)
    z = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    latent, log_det = flow(z)
    assert log_det.shape == (2, 2, 2)
    expected = torch.stack([log_det_by_autograd(flow, each[None]) for each in z])
    torch.testing.assert_close(log_det.sum((1, 2)), expected, rtol=1e-9, atol=1e-9)
    if standardise != "none":
        assert expected.abs().min() > 0.1
    torch.testing.assert_close(flow.inverse(latent)[0], z, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(flow.inverse(latent)[1], -log_det, rtol=1e-9, atol=1e-9)
    by_position = local_nll(latent, log_det).mean((1, 2))
    torch.testing.assert_close(by_position, flow_nll(latent, log_det))
    density = torch.distributions.Normal(0, 1).log_prob(latent).sum((1, 2, 3)) + expected
    torch.testing.assert_close(by_position, -density / 16)


def test_the_log_det_of_a_position_is_what_its_own_channels_gain() -> None:
    """With 1 x 1 subnets a position sees no other, so that its share is that of its own block."""
    flow = make_flow(4, "conv", 3, torch.float64)
    with torch.no_grad():
        for step in flow.steps:
            kernel = step.subnet[0].weight
            centre = kernel[:, :, 1, 1].clone()
            kernel.zero_()
            kernel[:, :, 1, 1] = centre
    z = torch.randn(1, 4, 2, 3, dtype=torch.float64)
    shares = flow(z)[1][0]
    for y in range(2):
        for x in range(3):
            alone = z[:, :, y : y + 1, x : x + 1]
            torch.testing.assert_close(shares[y, x], log_det_by_autograd(flow, alone))
    assert shares.std() > 0.1


@pytest.mark.parametrize("subnet", SUBNETS)
def test_additive_steps_leave_volumes_exactly_as_they_are(subnet: str) -> None:
    """NICE: shifts alone, which do move the features; not even rounding is left in log_det."""
    flow = make_flow(5, subnet, 4, torch.float32, coupling="additive").train()
    z = torch.randn(3, 5, 3, 3)
    out, log_det = flow(z)
    assert torch.equal(log_det, torch.zeros(3, 3, 3))
    assert (out - z).abs().mean() > 0.1
    affine = make_flow(5, subnet, 4, torch.float32)
    step, other = flow.steps[0], affine.steps[0]
    assert step.subnet(z[:, :3]).shape[1] == other.subnet(z[:, :3]).shape[1] // 2 == 2
    a = step.subnet.eval()(z[:, :3])
    shifted = torch.cat((z[:, :3], z[:, 3:] + 0.1 * a), 1)[:, step.permutation]
    torch.testing.assert_close(step(z)[0], shifted)


def test_noise_is_added_in_training_alone_and_after_the_standardisation() -> None:
    flow = make_flow(4, "conv", 0, torch.float64, 2, standardise="whiten", noise=0.5)
    z = 3 * torch.randn(4000, 4, 2, 2, dtype=torch.float64)
    quiet, log_det = flow.eval()(z)
    assert torch.equal(quiet, flow.standardisation(z)[0])
    assert torch.equal(flow(z)[0], quiet)
    torch.manual_seed(3)
    loud, same = flow.train()(z)
    torch.manual_seed(3)
    assert torch.equal(flow(z)[0], loud)
    assert not torch.equal(flow(z)[0], loud)
    assert torch.equal(same, log_det)
    noise = loud - quiet
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std((0, 2, 3)).tolist() == pytest.approx([0.5] * 4, abs=0.02)
    torch.testing.assert_close(flow.inverse(quiet)[0], z)  # backwards there is none


@settings(max_examples=40, deadline=None)
@given(
    subnet=st.sampled_from(SUBNETS),
    batch=st.integers(1, 3),
    channels=st.integers(2, 9),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    steps=st.integers(1, 5),
)
def test_inverse_undoes_forward(
    subnet: str, batch: int, channels: int, height: int, width: int, steps: int
) -> None:
    flow = make_flow(channels, subnet, steps, torch.float64)
    z = torch.randn(batch, channels, height, width, dtype=torch.float64)
    latent, log_det = flow(z)
    back, minus_log_det = flow.inverse(latent)
    assert not torch.allclose(latent, z)
    torch.testing.assert_close(back, z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(minus_log_det, -log_det, rtol=1e-9, atol=1e-9)


def test_one_step_equals_freia_on_copied_weights() -> None:
    channels = 7
    torch.manual_seed(0)
    theirs = AllInOneBlock(
        [(channels, 4, 5)],
        subnet_constructor=conv_subnet,
        affine_clamping=1.5,
        global_affine_init=1.0,
    )
    ours = CouplingStep(channels, conv_subnet, clamp=1.5)
    with torch.no_grad():
        for parameter in theirs.subnet.parameters():
            parameter.add_(torch.randn_like(parameter))
    ours.subnet.load_state_dict(theirs.subnet.state_dict())
    ours.permutation = theirs.w_perm[:, :, 0, 0].argmax(1)
    ours.inverse_permutation = ours.permutation.argsort()
    z = torch.randn(3, channels, 4, 5)
    (expected,), expected_log_det = theirs([z])
    latent, log_det = ours(z)
    torch.testing.assert_close(latent, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_det.sum((1, 2)), expected_log_det, rtol=1e-5, atol=1e-4)
    (expected_back,), _ = theirs([z], rev=True)
    torch.testing.assert_close(ours.inverse(z)[0], expected_back, rtol=1e-5, atol=1e-5)


def test_a_loaded_flow_gives_the_same_numbers_both_ways() -> None:
    flow = make_flow(6, "conv", 4, torch.float32)
    torch.manual_seed(99)  # another permutation, other weights
    other = NormalizingFlow(6, 3, FlowSettings(steps=4), GAUSSIAN).eval()
    other.load_state_dict(flow.state_dict())
    z = torch.randn(2, 6, 3, 3)
    assert torch.equal(other(z)[0], flow(z)[0])
    assert torch.equal(other.inverse(z)[0], flow.inverse(z)[0])


def test_the_log_scale_stays_within_the_clamp() -> None:
    step = CouplingStep(4, conv_subnet, clamp=1.5)
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.normal_(std=1e4)
    log_det = step(torch.randn(8, 4, 1, 1))[1]
    assert log_det.abs().max() <= 2 * 1.5 + 1e-6
    assert log_det.abs().max() > 1.5


def test_channels_last_is_kept() -> None:
    flow = NormalizingFlow(8, 4, FlowSettings(steps=2), GAUSSIAN)
    flow = flow.to(memory_format=torch.channels_last)
    z = torch.randn(2, 4, 4, 8).permute(0, 3, 1, 2)
    assert flow(z)[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("subnet", SUBNETS)
def test_the_likelihood_integrates_to_one(subnet: str) -> None:
    """Importance sampling over z with a wide Gaussian: the density of z must sum to 1."""
    flow = make_flow(2, subnet, steps=2, dtype=torch.float64)
    torch.manual_seed(1)
    wide = torch.distributions.Normal(0.0, 4.0)
    z = wide.sample((200_000, 2, 1, 1)).double()
    latent, log_det = flow(z)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(latent).sum((1, 2, 3)) + log_det[:, 0, 0]
    weights = (log_p - wide.log_prob(z).sum((1, 2, 3))).exp()
    assert weights.mean().item() == pytest.approx(1.0, abs=0.05)
