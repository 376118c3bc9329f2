"""The flow against autograd, against itself backwards, and against FrEIA."""

import pytest
import torch
from FrEIA.modules import AllInOneBlock
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aeflow.models.flow import CouplingStep, NormalizingFlow, conv_subnet
from aeflow.study.settings import FlowSettings

SUBNETS = ["conv", "resnet"]


def make_flow(channels: int, subnet: str, steps: int, dtype: torch.dtype) -> NormalizingFlow:
    """Return a flow that is far from the identity, so that a wrong sign cannot hide."""
    torch.manual_seed(channels + steps)
    flow = NormalizingFlow(channels, 1, FlowSettings(steps=steps, subnet=subnet)).to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return flow.eval()


@pytest.mark.parametrize("subnet", SUBNETS)
@pytest.mark.parametrize("channels", [2, 5])
def test_log_det_is_that_of_the_jacobian(subnet: str, channels: int) -> None:
    flow = make_flow(channels, subnet, steps=3, dtype=torch.float64)
    z = torch.randn(1, channels, 2, 3, dtype=torch.float64)

    def flat(vector: Tensor) -> Tensor:
        return flow(vector.view_as(z))[0].flatten()

    jacobian = torch.autograd.functional.jacobian(flat, z.flatten())
    expected = torch.linalg.slogdet(jacobian).logabsdet
    assert abs(expected) > 0.1
    torch.testing.assert_close(flow(z)[1][0], expected, rtol=1e-10, atol=1e-10)


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
    torch.testing.assert_close(log_det, expected_log_det, rtol=1e-5, atol=1e-4)
    (expected_back,), _ = theirs([z], rev=True)
    torch.testing.assert_close(ours.inverse(z)[0], expected_back, rtol=1e-5, atol=1e-5)


def test_a_loaded_flow_gives_the_same_numbers_both_ways() -> None:
    flow = make_flow(6, "conv", 4, torch.float32)
    torch.manual_seed(99)  # another permutation, other weights
    other = NormalizingFlow(6, 3, FlowSettings(steps=4)).eval()
    other.load_state_dict(flow.state_dict())
    z = torch.randn(2, 6, 3, 3)
    assert torch.equal(other(z)[0], flow(z)[0])
    assert torch.equal(other.inverse(z)[0], flow.inverse(z)[0])


def test_the_log_scale_stays_within_the_clamp() -> None:
    step = CouplingStep(4, conv_subnet, clamp=1.5)
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.mul_(1e4)
    log_det = step(torch.randn(8, 4, 1, 1))[1]
    assert log_det.abs().max() <= 2 * 1.5 + 1e-6
    assert log_det.abs().max() > 1.5


def test_channels_last_is_kept() -> None:
    flow = NormalizingFlow(8, 4, FlowSettings(steps=2)).to(memory_format=torch.channels_last)
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
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(latent).sum((1, 2, 3)) + log_det
    weights = (log_p - wide.log_prob(z).sum((1, 2, 3))).exp()
    assert weights.mean().item() == pytest.approx(1.0, abs=0.05)
