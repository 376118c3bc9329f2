"""The encoder: which map it cuts out, and that a frozen one stays as it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from aeflow.core.errors import ConfigError
from aeflow.core.tensors import save_tensors
from aeflow.encoder.encoder import Encoder, load_encoder

Write = Callable[..., tuple[nn.Module, Path]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that makes a random model that has seen images, and its file."""

    def make(library: str, architecture: str, side: int = 64) -> tuple[nn.Module, Path]:
        torch.manual_seed(5)
        if library == "timm":
            model = timm.create_model(architecture)
        else:
            model = torchvision.models.get_model(architecture, weights=None)
        model.train()(torch.randn(4, 3, side, side))
        facts = {"library": library, "architecture": architecture}
        facts |= {"mean": json.dumps([0.5, 0.4, 0.3]), "sd": json.dumps([0.2, 0.3, 0.4])}
        path = tmp_path / f"{architecture}.safetensors"
        save_tensors(path, model.state_dict(), facts)
        return model.eval(), path

    return make


def normalised(x: torch.Tensor) -> torch.Tensor:
    """Apply the mean and sd of the files that `write` makes."""
    mean, sd = torch.tensor([[0.5, 0.4, 0.3], [0.2, 0.3, 0.4]]).view(2, 3, 1, 1)
    return (x - mean) / sd


@pytest.mark.parametrize(
    ("stage", "blocks", "channels"), [(1, 2, 24), (2, 3, 40), (3, 5, 112), (4, 7, 320)]
)
def test_lite0_is_the_plain_model_up_to_its_stage(
    lite0: Path, stage: int, blocks: int, channels: int
) -> None:
    plain = timm.create_model("tf_efficientnet_lite0").eval()
    plain.load_state_dict(load_file(lite0))
    encoder = load_encoder(lite0, [stage])
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = plain.bn1(plain.conv_stem((x - 0.5) / 0.5))
        for block in plain.blocks[:blocks]:
            expected = block(expected)
        (z,) = encoder(x)
    assert (encoder.stages, encoder.channels) == ([stage], [channels])
    side = 64 // 2 ** (stage + 1)
    assert z.shape == (2, channels, side, side)
    torch.testing.assert_close(z, expected)


def resnet_stages(model: nn.Module, x: torch.Tensor, stage: int) -> torch.Tensor:
    z = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    for block in [model.layer1, model.layer2, model.layer3, model.layer4][:stage]:
        z = block(z)
    return z


@pytest.mark.parametrize(
    ("architecture", "stage", "channels", "expected"),
    [
        # The next stage begins with maps of the same stride; they are not the end of this one.
        ("resnet50", 1, 256, lambda model, x: resnet_stages(model, x, 1)),
        ("mobilenet_v2", 3, 96, lambda model, x: model.features[:14](x)),
    ],
)
def test_a_torchvision_model_is_cut_after_its_stage(
    write: Write, architecture: str, stage: int, channels: int, expected: Callable[..., Any]
) -> None:
    model, path = write("torchvision", architecture)
    encoder = load_encoder(path, [stage])
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (z,) = encoder(x)
        torch.testing.assert_close(z, expected(model, normalised(x)))
    side = 64 // 2 ** (stage + 1)
    assert z.shape == (1, channels, side, side)
    assert not any(module._forward_hooks for module in encoder.modules())
    # What comes after is not there.
    names = {name for name, _ in encoder.named_parameters()}
    assert not any("layer4" in name or "fc." in name or "classifier" in name for name in names)


@pytest.mark.parametrize(("architecture", "index"), [("test_resnet", 3), ("test_convnext", 2)])
def test_stage_3_has_stride_16_in_every_timm_model(
    write: Write, architecture: str, index: int
) -> None:
    """A ConvNeXt has no map of stride 2, so that timm counts its maps from another one."""
    model, path = write("timm", architecture)
    encoder = load_encoder(path, [3])
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.forward_intermediates(
            normalised(x), indices=[index], intermediates_only=True
        )[0]
        (z,) = encoder(x)
    assert z.shape == (1, encoder.channels[0], 4, 4)
    torch.testing.assert_close(z, expected)


@pytest.mark.parametrize(
    ("library", "architecture"), [("timm", "test_resnet"), ("torchvision", "resnet18")]
)
def test_several_stages_are_those_of_encoders_of_one_each(
    write: Write, library: str, architecture: str
) -> None:
    """In the order asked for, the body run once."""
    _, path = write(library, architecture)
    encoder = load_encoder(path, [1, 3, 4])
    calls = []
    encoder.body.register_forward_hook(lambda *_: calls.append(1))
    x = torch.rand(2, 3, 64, 64)
    found = encoder(x)
    assert calls == [1]
    assert encoder.stages == [1, 3, 4]
    assert [z.shape[1] for z in found] == encoder.channels
    assert [z.shape[2] for z in found] == [16, 4, 2]
    for stage, z in zip(encoder.stages, found, strict=True):
        torch.testing.assert_close(z, load_encoder(path, [stage])(x)[0])


@pytest.mark.parametrize("stages", [[5], [2, 5], [1, 6]])
def test_one_lacking_stage_of_several_is_named(write: Write, stages: list[int]) -> None:
    _, path = write("timm", "test_resnet")
    words = rf"encoder.stages: test_resnet has the stages 1, 2, 3, 4, not {stages[-1]}\."
    with pytest.raises(ConfigError, match=words):
        load_encoder(path, stages)


def test_a_vision_transformer_takes_images_of_any_size(write: Write) -> None:
    """It was made for 224 x 224; all its blocks have stride 16, and its last one is stage 3."""
    model, path = write("timm", "vit_tiny_patch16_224", side=224)
    encoder = load_encoder(path, [3])
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = model.forward_intermediates(
            normalised(x), indices=[11], intermediates_only=True
        )[0]
        torch.testing.assert_close(encoder(x)[0], expected)
        assert encoder(torch.rand(1, 3, 96, 96))[0].shape == (1, 192, 6, 6)


@pytest.mark.parametrize(
    ("library", "architecture"), [("timm", "test_resnet"), ("torchvision", "resnet18")]
)
def test_a_stage_out_of_range_names_those_that_exist(
    write: Write, library: str, architecture: str
) -> None:
    _, path = write(library, architecture)
    with pytest.raises(ConfigError, match=rf"{architecture} has the stages 1, 2, 3, 4, not 5"):
        load_encoder(path, [5])


def test_an_encoder_draws_no_random_number(write: Write) -> None:
    """Else the first weights of a flow would depend on whether its features were cached."""
    for library, architecture in (("timm", "test_resnet"), ("torchvision", "resnet18")):
        _, path = write(library, architecture)
        torch.manual_seed(1)
        expected = torch.rand(1)
        torch.manual_seed(1)
        load_encoder(path, [3])
        assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("library", "architecture"), [("timm", "test_resnet"), ("torchvision", "resnet18")]
)
@pytest.mark.parametrize("finetune", [False, True])
def test_only_a_fine_tuned_encoder_changes(
    write: Write, library: str, architecture: str, finetune: bool
) -> None:
    _, path = write(library, architecture)
    encoder = load_encoder(path, [3], finetune)
    last = nn.Conv2d(encoder.channels[0], 1, 1)
    whole = nn.ModuleList([encoder, last]).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    optimizer = torch.optim.Adam(whole.parameters(), lr=0.1)
    for _ in range(2):  # some layers start at zero, and let no gradient through the first time
        optimizer.zero_grad()
        last(encoder(torch.rand(4, 3, 64, 64))[0]).square().mean().backward()
        optimizer.step()
    after = encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert encoder.training == encoder(torch.rand(1, 3, 64, 64))[0].requires_grad == finetune
    if not finetune:
        assert not changed
        assert not any(module.training for module in encoder.modules())
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
        return
    assert {name for name, _ in encoder.named_parameters()} <= changed
    assert any("running_mean" in name for name in changed)
    assert not any(module.training for module in whole.eval().modules())


def test_mean_and_sd_are_not_saved_with_a_fine_tuned_encoder() -> None:
    encoder = Encoder(nn.Conv2d(3, 4, 1), [0], [4], finetune=True)
    assert set(encoder.state_dict()) == {"body.weight", "body.bias"}
