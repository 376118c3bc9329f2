"""Pretrained weights: where they come from, whether they arrive, and what is refused."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import timm
import torch
import torchvision
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.tensors import read_facts
from aeflow.encoder.encoder import load_encoder
from aeflow.encoder.weights import fetch_weights
from aeflow.study.asked import WeightsAsked
from scripts import fetch_weights as script

ESPRESSO = 967  # ImageNet's class
Card = Callable[..., None]


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """Return a function that writes the card `mine` into a folder of its own and enters it."""
    folder = tmp_path / "config/encoders"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def write(file: Path | str, **changes: Any) -> None:
        content = {
            "name": "mine",
            "title": "A file of one's own",
            "library": "timm",
            "architecture": "test_resnet",
            "weights": {"name": Path(file).name, "urls": [str(file)]},
            "mean": [0.1, 0.2, 0.3],
            "sd": [0.4, 0.5, 0.6],
            "licence": "none",
            **changes,
        }
        (folder / "mine.yaml").write_text(yaml.safe_dump(content))

    return write


def random_model(library: str = "timm", architecture: str = "test_resnet") -> torch.nn.Module:
    """Return a model in which no tensor has its initial value."""
    generator = torch.Generator().manual_seed(3)
    create = {"timm": timm.create_model, "torchvision": torchvision.models.get_model}[library]
    model = create(architecture).eval()
    model.load_state_dict(
        {
            name: 0.5 + torch.rand(tensor.shape, generator=generator)
            if name.endswith("running_var")
            else (tensor + 0.02 * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
            for name, tensor in model.state_dict().items()
        }
    )
    return model


def normalised(x: torch.Tensor) -> torch.Tensor:
    """Apply the card's mean and sd."""
    mean, sd = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]).view(2, 3, 1, 1)
    return (x - mean) / sd


def test_the_papers_encoder(tmp_path: Path, card: Card) -> None:
    model = random_model("torchvision", "wide_resnet50_2")
    file, out = tmp_path / "wide.pth", tmp_path / "wide.safetensors"
    torch.save(model.state_dict(), file)
    try:
        source = {"name": "wide.pth", "urls": [str(file)], "sha256": sha256_file(file)[:8]}
        card(file, library="torchvision", architecture="wide_resnet50_2", weights=source)
        assert fetch_weights("mine", out, mirror=None)["library"] == "torchvision"
        encoder = load_encoder(out, [3])
    finally:
        file.unlink()
        out.unlink(missing_ok=True)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        stem = model.maxpool(model.relu(model.bn1(model.conv1(normalised(x)))))
        expected = model.layer3(model.layer2(model.layer1(stem)))
        (z,) = encoder(x)
    assert encoder.channels == [1024]
    torch.testing.assert_close(z, expected)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_file_of_ones_own(tmp_path: Path, card: Card, suffix: str, mirrored: bool) -> None:
    model = random_model()
    file, out = tmp_path / f"own{suffix}", tmp_path / "weights/mine.safetensors"
    (save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), file)
    card(f"https://weights.invalid/{file.name}" if mirrored else file)
    facts = fetch_weights("mine", out, str(tmp_path) if mirrored else None)
    assert facts == {
        "library": "timm",
        "architecture": "test_resnet",
        "mean": [0.1, 0.2, 0.3],
        "sd": [0.4, 0.5, 0.6],
    }
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.forward_intermediates(
            normalised(x), indices=[3], intermediates_only=True
        )[0]
        torch.testing.assert_close(load_encoder(out, [3])(x)[0], expected)
    assert [path.name for path in out.parent.iterdir()] == ["mine.safetensors"]


class Attack:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "code ran")


@pytest.mark.parametrize("saved_by", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o, 2))])
def test_a_pickle_with_code_is_refused_and_does_not_run(
    tmp_path: Path, card: Card, saved_by: Callable[[Any, Path], None]
) -> None:
    card(tmp_path / "own.pth")
    state = random_model().state_dict()
    state["conv_stem.weight"] = Attack(tmp_path / "ran")
    saved_by(state, tmp_path / "own.pth")
    with pytest.raises(DataError, match=r"own\.pth holds no plain state dict"):
        fetch_weights("mine", tmp_path / "out", mirror=None)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(state))  # the control: the attack is real
    assert (tmp_path / "ran").exists()


def without_a_row() -> dict[str, torch.Tensor]:
    state = random_model().state_dict()
    return state | {"fc.weight": state["fc.weight"][:, :-1]}


def without_a_tensor() -> dict[str, torch.Tensor]:
    state = random_model().state_dict()
    del state["fc.weight"]
    return state


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: torch.zeros(3), "holds no plain state dict"),
        (lambda: {"state_dict": {"a": torch.zeros(3)}}, "holds no plain state dict"),
        (lambda: None, "holds no plain state dict"),
        (lambda: b"nonsense", "holds no plain state dict"),
        (lambda: random_model(architecture="test_efficientnet").state_dict(), "does not fit timm"),
        (without_a_row, "does not fit timm's test_resnet"),
        (without_a_tensor, "does not fit timm's test_resnet"),
        ("0" * 8, "wrong checksum"),
    ],
)
def test_what_is_refused(tmp_path: Path, card: Card, content: Any, words: str) -> None:
    file = tmp_path / "own.pth"
    if isinstance(content, str):
        weights = {"name": file.name, "urls": [str(file)], "sha256": content}
        card(file, weights=weights)
        content = without_a_row
    else:
        card(file)
    if isinstance(made := content(), bytes):
        file.write_bytes(made)
    else:
        torch.save(made, file)
    with pytest.raises(DataError, match=words) as caught:
        fetch_weights("mine", tmp_path / "weights/out.safetensors", mirror=None)
    assert "own.pth" in str(caught.value)
    assert not list((tmp_path / "weights").glob("*"))


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("wide_resnet50_3", "timm or torchvision; did you mean .*wide_resnet50_2"),
        ("regnet_y_400m", "timm or torchvision; did you mean .*regnet_y_400mf"),
        ("mine", "torchvision; did you mean resnet18"),  # the card's
    ],
)
def test_an_unknown_architecture_suggests_the_closest(
    tmp_path: Path, card: Card, name: str, suggestion: str
) -> None:
    card("nowhere", library="torchvision", architecture="resnet_18")
    with pytest.raises(ConfigError, match=rf"there is no '\w+' in {suggestion}"):
        fetch_weights(name, tmp_path / "out", mirror=None)


def test_without_network_the_message_says_how_to_use_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", fail)
    card = re.escape("config/encoders/resnet18.yaml")
    with pytest.raises(DataError, match=f"resnet18 .*no route to host.*{card}"):
        fetch_weights("resnet18", tmp_path / "out", mirror=None)


def test_the_weights_of_the_package_come_by_the_script(lite0: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    facts = script.fetch_weights(WeightsAsked(encoder="efficientnet_lite0"), again)
    assert again.read_bytes() == lite0.read_bytes()
    assert facts["architecture"] == read_facts(again)["architecture"] == "tf_efficientnet_lite0"


def test_the_weights_recognise_a_cup_of_coffee(lite0: Path) -> None:
    """An independent truth about names, order and the card's mean and sd."""
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(load_file(lite0))
    photograph = Image.fromarray(skimage.data.coffee()).resize((224, 224), Image.BICUBIC)
    x = torch.from_numpy(np.asarray(photograph) / 255).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        probability = model((x - 0.5) / 0.5).softmax(1)[0]
    assert probability.argmax() == ESPRESSO
    assert probability[ESPRESSO] > 0.9
