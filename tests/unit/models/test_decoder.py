"""Shapes, widths and ranges of the decoder, and the whole model."""

import pytest
import torch

from aeflow.models.aeflow import AEFlow
from aeflow.models.decoder import Decoder, decoder_widths
from aeflow.study.settings import DecoderSettings, FlowSettings


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
    model = AEFlow(channels, 3, stride, FlowSettings(steps=2), DecoderSettings())
    out = model(torch.randn(2, channels, 3, 3))
    assert out.z.shape == (2, channels, 3, 3)
    assert out.log_det.shape == (2,)
    assert out.reconstruction.shape == (2, 3, 3 * stride, 3 * stride)
    assert 0 <= out.reconstruction.min() <= out.reconstruction.max() <= 1


@pytest.mark.parametrize("subnet", ["conv", "resnet"])
def test_every_parameter_gets_a_gradient(subnet: str) -> None:
    model = AEFlow(6, 4, 8, FlowSettings(steps=3, subnet=subnet), DecoderSettings()).train()
    out = model(torch.randn(4, 6, 4, 4))
    (out.reconstruction.square().sum() + out.z.square().sum() - out.log_det.sum()).backward()
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
