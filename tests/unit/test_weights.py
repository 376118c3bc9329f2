"""Pretrained weights: where they come from, whether they arrive, and what is refused."""

import pickle
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
import yaml
from safetensors.torch import load_file, save_file

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import sha256_file
from aeflow.encoder.encoder import load_encoder
from aeflow.encoder.weights import fetch_weights


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that writes the card `mine` into a folder of its own and enters it."""
    folder = tmp_path / "config/encoders"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def write(weights: dict[str, Any], **changes: Any) -> dict[str, Any]:
        content = {
            "name": "mine",
            "title": "A file of one's own",
            "library": "timm",
            "architecture": "test_resnet",
            "weights": weights,
            "mean": [0.1, 0.2, 0.3],
            "sd": [0.4, 0.5, 0.6],
            "licence": "none",
            **changes,
        }
        (folder / "mine.yaml").write_text(yaml.safe_dump(content))
        return content

    return write


def random_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dict in which no tensor has its initial value."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: 0.5 + torch.rand(tensor.shape, generator=generator)
        if name.endswith("running_var")
        else (tensor + 0.02 * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
        for name, tensor in model.state_dict().items()
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve tmp_path/served on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


def test_the_papers_encoder_from_a_server(
    tmp_path: Path, server: str, card: Callable[..., dict[str, Any]]
) -> None:
    model = torchvision.models.wide_resnet50_2(weights=None).eval()
    model.load_state_dict(random_state(model))
    file, out = tmp_path / "served/wide.pth", tmp_path / "wide.safetensors"
    torch.save(model.state_dict(), file)
    try:
        sha256 = sha256_file(file)
        card(
            {"name": "wide.pth", "urls": [f"{server}/wide.pth"], "sha256": sha256[:8]},
            library="torchvision",
            architecture="wide_resnet50_2",
        )
        assert fetch_weights("mine", out, mirror=None)["library"] == "torchvision"
        encoder = load_encoder(out, 3)
    finally:
        file.unlink()
        out.unlink(missing_ok=True)
    x = torch.rand(1, 3, 256, 256)
    mean, sd = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]).view(2, 3, 1, 1)
    with torch.no_grad():
        stem = model.maxpool(model.relu(model.bn1(model.conv1((x - mean) / sd))))
        expected = model.layer3(model.layer2(model.layer1(stem)))
        z = encoder(x)
    assert (encoder.channels, encoder.stride) == (1024, 16)
    assert z.shape == (1, 1024, 16, 16)
    torch.testing.assert_close(z, expected)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_ones_own(
    tmp_path: Path, card: Callable[..., dict[str, Any]], suffix: str
) -> None:
    model = timm.create_model("test_resnet").eval()
    model.load_state_dict(random_state(model))
    file = tmp_path / f"own{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), file)
    card({"name": file.name, "urls": [str(file)]})
    out = tmp_path / "weights/mine.safetensors"
    fetch_weights("mine", out, mirror=None)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.forward_intermediates(
            (x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1))
            / torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1),
            indices=[3],
            intermediates_only=True,
        )[0]
        z = load_encoder(out, 3)(x)
    assert z.shape == (2, 192, 4, 4)
    torch.testing.assert_close(z, expected)
    assert [path.name for path in out.parent.iterdir()] == ["mine.safetensors"]


def test_the_mirror_comes_first(tmp_path: Path, card: Callable[..., dict[str, Any]]) -> None:
    state = random_state(timm.create_model("test_resnet"))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    torch.save(state, mirror / "own.pth")
    card({"name": "own.pth", "urls": ["https://weights.invalid/own.pth"]})
    fetch_weights("mine", tmp_path / "out.safetensors", str(mirror))
    written = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


def refused(tmp_path: Path, content: Any, *words: str) -> None:
    """Fetch a file of this content, and expect a DataError with these words and no output."""
    torch.save(content, tmp_path / "own.pth")
    expect(DataError, tmp_path, *words)


def expect(error: type[Exception], tmp_path: Path, *words: str) -> None:
    with pytest.raises(error) as caught:
        fetch_weights("mine", tmp_path / "weights/out.safetensors", mirror=None)
    for word in words:
        assert word in str(caught.value)
    assert not list((tmp_path / "weights").glob("*"))


@pytest.fixture
def own(tmp_path: Path, card: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return card({"name": "own.pth", "urls": [str(tmp_path / "own.pth")]})


class Attack:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "code ran")


@pytest.mark.parametrize("saved_by", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o, 2))])
def test_a_pickle_with_code_is_refused_and_does_not_run(
    tmp_path: Path, own: dict[str, Any], saved_by: Callable[[Any, Path], None]
) -> None:
    state = timm.create_model("test_resnet").state_dict()
    state["conv_stem.weight"] = Attack(tmp_path / "ran")
    saved_by(state, tmp_path / "own.pth")
    expect(DataError, tmp_path, "own.pth holds no plain state dict")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(state))  # the control: the attack is real
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [torch.zeros(3), {"state_dict": {"a": torch.zeros(3)}}, [1, 2], None]
)
def test_what_is_no_state_dict_is_refused(
    tmp_path: Path, own: dict[str, Any], content: Any
) -> None:
    refused(tmp_path, content, "own.pth holds no plain state dict")


def test_a_damaged_file_is_refused(tmp_path: Path, own: dict[str, Any]) -> None:
    (tmp_path / "own.pth").write_bytes(b"\x80\x02nonsense")
    expect(DataError, tmp_path, "own.pth holds no plain state dict")


def test_a_state_dict_of_another_architecture_is_refused(
    tmp_path: Path, own: dict[str, Any]
) -> None:
    other = timm.create_model("test_efficientnet").state_dict()
    refused(tmp_path, other, "own.pth does not fit timm's test_resnet")


def test_one_tensor_of_another_shape_is_enough(tmp_path: Path, own: dict[str, Any]) -> None:
    state = timm.create_model("test_resnet").state_dict()
    state["fc.weight"] = state["fc.weight"][:, :-1]
    refused(tmp_path, state, "does not fit")
    del state["fc.weight"]
    refused(tmp_path, state, "does not fit")


def test_a_wrong_checksum_is_refused(tmp_path: Path, card: Callable[..., dict[str, Any]]) -> None:
    card({"name": "own.pth", "urls": [str(tmp_path / "own.pth")], "sha256": "0" * 8})
    state = timm.create_model("test_resnet").state_dict()
    refused(tmp_path, state, "wrong checksum", "00000000", "AEFLOW_MIRROR")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("wide_resnet50_3", "wide_resnet50_2"), ("regnet_y_400m", "regnet_y_400mf")],
)
def test_an_unknown_architecture_suggests_the_closest(
    tmp_path: Path, name: str, suggestion: str
) -> None:
    with pytest.raises(ConfigError, match=rf"'{name}'.*did you mean .*{suggestion}"):
        fetch_weights(name, tmp_path / "out", mirror=None)


def test_a_card_with_an_unknown_architecture(
    card: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    card({"name": "own.pth", "urls": ["nowhere"]}, library="torchvision", architecture="resnet_18")
    expect(ConfigError, tmp_path, "'resnet_18' in torchvision", "did you mean resnet18")


def test_without_network_the_message_says_how_to_use_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("aeflow.encoder.weights.timm.create_model", fail)
    card = re.escape("config/encoders/resnet18.yaml")
    with pytest.raises(DataError, match=f"resnet18 .*no route to host.*{card}"):
        fetch_weights("resnet18", tmp_path / "out", mirror=None)
