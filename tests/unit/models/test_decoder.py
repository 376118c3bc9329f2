"""Shapes, widths and ranges of the decoders, and the whole model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from aeflow.encoder.features import Shape
from aeflow.models.aeflow import AEFlow
from aeflow.models.components import local_energy, local_nll
from aeflow.models.decoder import Decoder, FeatureDecoder, decoder_widths
from aeflow.study.settings import DecoderSettings, FlowSettings, GaussianSettings, MapSettings


def make_model(
    shapes: Sequence[Shape],
    flow: FlowSettings,
    decoder: DecoderSettings | None,
    target: Shape | None = None,
    **maps: Any,
) -> AEFlow:
    settings = {"gaussian": GaussianSettings(), "maps": MapSettings(**maps)}
    return AEFlow(shapes, flow, decoder=decoder, target=target, **settings)


def test_the_papers_widths() -> None:
    assert decoder_widths(1024, 16) == [512, 256, 64, 3]


def test_other_widths_halve_down_to_sixteen() -> None:
    assert decoder_widths(112, 16) == [56, 28, 16, 3]
    assert decoder_widths(320, 32) == [160, 80, 40, 20, 3]
    assert decoder_widths(8, 2) == [3]


@pytest.mark.parametrize("stride", [0, 1, 3, 12])
def test_a_stride_that_is_no_power_of_two_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match="stride"):
        decoder_widths(16, stride)


def test_the_papers_decoder_has_four_transposed_and_three_plain_convolutions() -> None:
    layers = list(Decoder(1024, 16, DecoderSettings()).layers)
    transposed = [layer for layer in layers if isinstance(layer, torch.nn.ConvTranspose2d)]
    plain = [layer for layer in layers if type(layer) is torch.nn.Conv2d]
    assert [(layer.out_channels, layer.kernel_size, layer.stride) for layer in transposed] == [
        (width, (2, 2), (2, 2)) for width in (512, 256, 64, 3)
    ]
    assert [(layer.in_channels, layer.out_channels) for layer in plain] == [
        (512, 512),
        (256, 256),
        (64, 64),
    ]


@pytest.mark.parametrize(("channels", "stride"), [(6, 2), (10, 8), (20, 32)])
def test_the_reconstruction_has_the_images_size(channels: int, stride: int) -> None:
    shape = Shape(channels, 3, stride)
    model = make_model([shape], FlowSettings(steps=2), DecoderSettings())
    out = model([torch.randn(2, channels, 3, 3)])
    assert [z.shape for z in out.z] == [(2, channels, 3, 3)]
    assert [log_det.shape for log_det in out.log_det] == [(2, 3, 3)]
    assert out.reconstruction.shape == (2, 3, 3 * stride, 3 * stride)
    assert 0 <= out.reconstruction.min() <= out.reconstruction.max() <= 1


# z of stages 2 and 3 of images of 64 pixels, and what a decoder of features may reconstruct.
SHAPES = [Shape(6, 8, 8), Shape(10, 4, 16)]
TARGETS = [None, Shape(5, 16, 4), Shape(6, 8, 8), Shape(24, 16, 4)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stages", [1, 2])
def test_each_stage_has_a_flow_and_the_decoder_reads_the_last(
    target: Shape | None, stages: int
) -> None:
    shapes = SHAPES[-stages:]
    model = make_model(shapes, FlowSettings(steps=2), DecoderSettings(), target)
    z = [torch.randn(2, shape.channels, shape.side, shape.side) for shape in shapes]
    out = model(z)
    assert [each.shape for each in out.z] == [each.shape for each in z]
    assert [each.shape for each in out.log_det] == [(2, each.side, each.side) for each in shapes]
    expected = (2, 3, 64, 64) if target is None else (2, target.channels, *[target.side] * 2)
    assert out.reconstruction.shape == expected
    torch.testing.assert_close(out.reconstruction, model.decoder(out.z[-1]))
    for flow, each, found in zip(model.flows, z, out.z, strict=True):
        torch.testing.assert_close(flow(each)[0], found)


@pytest.mark.parametrize("subnet", ["conv", "resnet"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_parameter_gets_a_gradient(subnet: str, target: Shape | None) -> None:
    flow = FlowSettings(steps=3, subnet=subnet)
    model = make_model(SHAPES, flow, DecoderSettings(), target).train()
    with torch.no_grad():  # a new step is the identity, and passes none on
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    out = model([torch.randn(4, each.channels, each.side, each.side) for each in SHAPES])
    loss = out.reconstruction.square().sum()
    for z, log_det in zip(out.z, out.log_det, strict=True):
        loss = loss + z.square().sum() - log_det.sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_tanh_works_on_imagenet_normalised_pixels() -> None:
    decoder = Decoder(4, 2, DecoderSettings(output="tanh"))
    images = torch.rand(2, 3, 8, 8)
    target = decoder.target(images)
    assert target[0, 0, 0, 0].item() == pytest.approx((images[0, 0, 0, 0].item() - 0.485) / 0.229)
    torch.testing.assert_close(decoder.pixels(target), images)
    assert target.max() > 1, "what tanh cannot reach"


def test_a_decoder_of_features_ends_without_a_bound_and_doubles_the_side_as_often_as_needed() -> (
    None
):
    layers = list(FeatureDecoder(40, 4, 24, 16, 0.1).layers)
    assert [type(layer).__name__ for layer in layers] == [
        *["ConvTranspose2d", "ReLU", "Conv2d", "ReLU"] * 2,
        "Conv2d",
    ]
    assert [layer.out_channels for layer in layers if hasattr(layer, "out_channels")] == [24] * 5
    out = FeatureDecoder(40, 4, 24, 16, 0.1)(100 * torch.randn(2, 40, 4, 4))
    assert out.min() < -1
    assert out.max() > 1


def test_the_target_is_standardised_per_channel_and_the_residual_whitened_at_each_position() -> (
    None
):
    """Against numpy, with the shrinkage that the classes say."""
    decoder = FeatureDecoder(6, 2, 3, 4, 0.1)
    draw = np.random.default_rng(0)
    features = draw.normal(size=(40, 3, 4, 4)) * np.array([0.1, 1, 20])[:, None, None] + 5
    for part in np.split(features, [7, 30]):
        decoder.standardisation.add(torch.from_numpy(part).float())
    decoder.standardisation.fit()
    variance = features.var(axis=(0, 2, 3))
    sd = np.sqrt(variance + 0.01 * variance.mean())[:, None, None]
    expected = (features - features.mean(axis=(0, 2, 3))[:, None, None]) / sd
    target = decoder.target(torch.from_numpy(features).float())
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)

    residual = draw.normal(size=(40, 3, 4, 4)) @ draw.normal(size=(4, 4)) + 1
    decoder.residual.add(torch.from_numpy(residual).float())
    decoder.residual.fit()
    found = local_energy(decoder.residual(torch.from_numpy(residual).float())[0]).numpy()
    for y in range(4):
        for x in range(4):
            own = residual[:, :, y, x]
            covariance = np.cov(own.T, bias=True)
            covariance += 0.1 * np.trace(covariance) / 3 * np.eye(3)
            delta = own - own.mean(axis=0)
            squared = np.einsum("bi,ij,bj->b", delta, np.linalg.inv(covariance), delta)
            np.testing.assert_allclose(found[:, y, x], squared / 6, rtol=1e-4)


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (0.5, 0), (0, 2), (2, 2)])
def test_maps_of_several_stages_by_hand(weights: tuple[float, float]) -> None:
    """On the scales of each position, enlarged to the finest side, and weighted."""
    torch.manual_seed(0)
    model = make_model(SHAPES, FlowSettings(steps=1), None, weights=list(weights)).eval()
    for scale in model.scales:
        scale.mean.copy_(torch.rand_like(scale.mean))
        scale.sd.copy_(torch.rand_like(scale.sd) + 0.5)
    with torch.no_grad():
        out = model([torch.randn(3, each.channels, each.side, each.side) for each in SHAPES])
        found = model.maps(out).numpy()
    scaled = []
    for scale, z, log_det in zip(model.scales, out.z, out.log_det, strict=True):
        energy = z.square().mean(1) / 2
        nll = energy + 0.5 * np.log(2 * np.pi) - log_det / z.shape[1]
        maps = torch.stack([energy, nll]).numpy()
        mean, sd = scale.mean.numpy()[:, None], scale.sd.numpy()[:, None]
        scaled.append(np.arcsinh((maps - mean) / sd))
    # Twice the side, bilinear: three quarters of the nearer value and one of the other, and the
    # value itself beyond the border.
    padded = np.pad(scaled[1], [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    rows = np.empty((2, 3, 8, 6))
    rows[:, :, ::2] = (3 * padded[:, :, 1:-1] + padded[:, :, :-2]) / 4
    rows[:, :, 1::2] = (3 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    large = np.empty((2, 3, 8, 8))
    large[..., ::2] = (3 * rows[..., 1:-1] + rows[..., :-2]) / 4
    large[..., 1::2] = (3 * rows[..., 1:-1] + rows[..., 2:]) / 4
    first, second = weights
    expected = (first * scaled[0] + second * large) / (first + second)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("standardise", [None, "none"])
def test_the_maps_of_one_stage_are_its_own(standardise: str | None) -> None:
    torch.manual_seed(0)
    flow = FlowSettings(steps=2)
    model = make_model(SHAPES[:1], flow, None, standardise=standardise).eval()
    out = model([torch.randn(3, 6, 8, 8)])
    energy, nll = model.maps(out)
    assert torch.equal(energy, local_energy(out.z[0]))
    assert torch.equal(nll, local_nll(out.z[0], out.log_det[0]))
    scaled = make_model(SHAPES[:1], flow, None, standardise="position")
    assert len(scaled.scales) == 1
    torch.testing.assert_close(scaled.maps(out)[0], torch.asinh(energy))


def test_without_scales_the_maps_of_several_stages_are_added_as_they_are() -> None:
    model = make_model(SHAPES, FlowSettings(steps=1), None, standardise="none").eval()
    assert not model.scales
    out = model([torch.full((1, each.channels, each.side, each.side), 2.0) for each in SHAPES])
    out = out._replace(z=[torch.full_like(z, 2.0 * k) for k, z in enumerate(out.z, start=1)])
    # Energies 2 and 8.
    torch.testing.assert_close(model.maps(out)[0], torch.full((1, 8, 8), 5.0))
