"""A detector's file, whatever stands in it: one that works, or a sentence."""

import copy
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from aeflow.core.errors import AeflowError, DataError
from aeflow.core.tensors import save_tensors
from aeflow.core.types import Method
from aeflow.data.image_files import ImageFacts
from aeflow.detector import predictions
from aeflow.detector.detector import BATCH, Detector, Packed
from aeflow.encoder.encoder import build_encoder, create_backbone
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import detector_of
from aeflow.training.checkpoints import restore

SIDE = 32
ENCODER = {
    **{"library": "timm", "architecture": "test_resnet"},
    **{"mean": "[0.5, 0.5, 0.5]", "sd": "[0.2, 0.2, 0.2]"},
}


def member(name: str, method: str, map_name: str | None, **settings: Any) -> dict[str, Any]:
    fit = {"encoder": {"name": "tiny", "stages": [2]}, "flow": {"steps": 1}} | settings
    fit["training"] = {"threads": 1, "device": "cpu"}
    return {
        "computes": {
            **{"method": method, "settings": fit, "fpr_limit": 0.3, "top_shares": [0.03]},
            "maps": [map_name] if map_name else [],
        },
        "score": {"name": name, "method": method, "score": {}},
        **{"map": map_name, "map_scale": [0.0, 1.0] if map_name else None},
    }


def facts_of() -> dict[str, Any]:
    """A fusion of a flow and the gradient, with something under every key."""
    return {
        **{"study": "small", "dataset": "tiles", "category": "all", "variant": "both"},
        "judged": {
            **{"method": "fusion", "encoder": None, "map": None, "score": {}},
            "threshold": {"rule": "specificity"},
        },
        "members": [member("flow", "flow", "flow"), member("gradient", "gradient", None)],
        **{"encoders": {"tiny": ENCODER}, "data": {"image_size": SIDE}, "levels": [0, 255]},
        "kinds": [{"bits": 8, "smallest": [32, 32], "largest": [64, 32]}],
        **{"map_scale": [0.0, 2.0], "made_from": {"a": "0"}, "versions": {"python": "3"}},
    }


def tensors_of(facts: Packed) -> dict[str, Tensor]:
    """What random weights make of random validation images."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    weights = create_backbone("timm", "test_resnet").state_dict()
    tensors = {f"encoder.tiny.{name}": tensor for name, tensor in weights.items()}
    tensors["validation.gt_label"] = torch.tensor([0] * 12 + [1] * 4)
    source = FeatureSource(images, torch.device("cpu"), None, build_encoder(ENCODER, weights, [2]))
    for number, each in enumerate(facts.members):
        if each.computes.method.fitted:
            method = Method(each.computes.method)
            learner = detector_of(method)(source, each.computes.settings, method)
            held = {name: t.clone() for name, t in learner.module.state_dict().items()}
            tensors |= {f"member{number}.{name}": tensor for name, tensor in held.items()}
            restore(learner, held, each.computes)
            found = learner.score(np.arange(BATCH)).components
        else:
            found = detector_of(Method.GRADIENT)(images).score(np.arange(BATCH)).components
        for name, values in found.items():
            tensors[f"validation.member{number}.{name}"] = torch.from_numpy(values)
    return tensors


@pytest.fixture(scope="module")
def whole() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts, every default written out, and the tensors."""
    facts = Packed.model_validate(facts_of())
    return json.loads(facts.model_dump_json()), tensors_of(facts)


def use(path: Path) -> Detector:
    """Load a detector and use all that its facts are for."""
    detector = Detector.load(path)
    picture = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    table = detector.predictions([picture, picture.astype(np.uint16)[..., 0] * 9])
    assert np.isfinite(table["pred_score"]).all()
    assert {*detector.predictions([])} == {*table}
    numbers = table[detector.components].to_numpy().ravel()
    assert all(float(f"{number:.7g}") == number for number in numbers), "as in score tables"
    assert detector.score_samples([]).shape == (0,)
    if detector.threshold.value is not None:
        assert set(detector.predict([picture])) <= {-1, 1}
    shown = ImageFacts("PNG", 40, 30, 16, 3, 1, None)
    assert all(isinstance(said, str) for said in predictions._unlike(1.0, detector, shown))
    assert detector.told()
    maps = detector.examine(np.zeros((1, *detector._images.shape[1:]), np.uint8)).maps
    assert maps is None or np.isfinite(maps).all()
    return detector


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every key and item in JSON."""
    if isinstance(content, dict | list):
        named = content.items() if isinstance(content, dict) else enumerate(content)
        for name, value in named:
            yield (*at, name)
            yield from places(value, (*at, name))


GONE = object()
ODD = (GONE, None, True, -1, 10**400, float("nan"), "\n", [[]])


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    content = copy.deepcopy(content)
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    if value is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


def test_a_detector_as_it_was_packed_is_used(whole, tmp_path, torch_as_it_was):
    facts, tensors = whole
    path = tmp_path / "d.safetensors"
    save_tensors(path, tensors, {"detector": json.dumps(facts)})
    detector = use(path)
    assert detector.components[0] == "flow.density"
    assert detector.facts.model_dump(mode="json") == facts
    # The scores of the validation images are those that `examine` gives the same ones.
    assert detector.validation[1].shape == (16,)


def test_whatever_a_fact_says_there_is_a_detector_or_a_sentence(whole, tmp_path, torch_as_it_was):
    facts, tensors = whole
    path, said = tmp_path / "d.safetensors", dict[Any, AeflowError | None]()
    for place, value in product(places(facts), ODD):
        told, held = json.dumps(changed(facts, place, value)), tensors
        try:
            if Packed.model_validate_json(told).model_dump(mode="json") == facts:
                continue  # a default was left out
        except ValidationError:
            held = {"x": torch.zeros(1)}  # which is told before tensors are read
        save_tensors(path, held, {"detector": told})
        try:
            use(path)
            said[place, str(value)] = None
        except AeflowError as error:
            said[place, str(value)] = error
    sentences = {key: error for key, error in said.items() if error is not None}
    assert {type(error) for error in sentences.values()} == {DataError}
    odd = [key for key, e in sentences.items() if "\n" in str(e) or "d.safetensors" not in str(e)]
    assert odd == []
    assert 20 < len(said) - len(sentences) < len(sentences)
    other = changed(facts, ("encoders", "tiny", "architecture"), "hf-hub:someone/model")
    save_tensors(path, tensors, {"detector": json.dumps(other)})
    with pytest.raises(DataError, match=r"changed \(encoders\.tiny\.architecture: "):
        use(path)  # and nothing is fetched


@pytest.mark.parametrize("told", ["", "{", "[" * 100_000, "null", "5", 5, ["x"], {"study": "x"}])
def test_facts_that_are_none_are_told(told, tmp_path):
    path = tmp_path / "d.safetensors"
    save_tensors(path, {"x": torch.zeros(1)}, {"detector": told})
    with pytest.raises(DataError, match="packed by another version of aeflow, or changed"):
        Detector.load(path)
    content = save({"x": torch.zeros(1)}, {"facts": "[" * 100_000})
    path.write_bytes(content)
    with pytest.raises(DataError, match="was not written by this program"):
        Detector.load(path)


@pytest.mark.parametrize("change", ["gone", "short", "flat", "text", "nan", "halved"])
def test_tensors_that_do_not_fit_are_a_sentence(change, whole, tmp_path, torch_as_it_was):
    facts, tensors = whole
    path, used, said = tmp_path / "d.safetensors", set[str](), list[str]()
    scored = (
        "validation.gt_label",
        "validation.member0.density",
        "validation.member1.low_gradient",
    )
    places = ("encoder.tiny.conv1.0", "member0.flows.0")  # the first tensor of each
    for name in [*scored, *(next(n for n in tensors if n.startswith(place)) for place in places)]:
        one = tensors[name]
        other = {
            **{"short": one[:-1] if one.ndim else one[None], "flat": one[None]},
            **{"text": torch.zeros_like(one, dtype=torch.uint8), "halved": one.half()},
            "nan": torch.full_like(one, float("nan")) if one.is_floating_point() else one,
        }
        held = {key: value for key, value in tensors.items() if key != name}
        save_tensors(
            path,
            held if change == "gone" else held | {name: other[change]},
            {"detector": json.dumps(facts)},
        )
        try:
            use(path)
            used.add(name)
        except DataError as error:
            said.append(str(error))
    assert not any("\n" in each for each in said)
    if change in ("short", "flat", "gone"):
        assert used == set()


def test_an_image_may_be_a_path_an_array_or_of_pil(whole, tmp_path, torch_as_it_was):
    """One or several, upright by EXIF however it comes, and a sentence for what is no image."""
    facts, tensors = whole
    save_tensors(tmp_path / "d.safetensors", tensors, {"detector": json.dumps(facts)})
    detector = Detector.load(tmp_path / "d.safetensors")
    pixels = np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    file = tmp_path / "turned.png"
    Image.fromarray(pixels).save(file, exif=turned)
    upright = Image.fromarray(pixels).rotate(-90, expand=True)
    alone = detector.predictions(upright)["pred_score"].tolist()
    paths = pd.Series([str(file), str(file)])
    for given in (np.asarray(upright), file, Image.open(file), paths, np.array(paths), [upright]):
        scores = detector.predictions(given)["pred_score"].tolist()
        assert scores == pytest.approx(alone * len(scores))
        assert len(scores) == (2 if getattr(given, "ndim", 0) == 1 else 1)
    assert len(detector.predictions(Image.fromarray(pixels).convert("CMYK"))) == 1
    for odd in (
        pixels[..., :1],
        pixels.astype(np.uint16),
        pixels.astype(np.float32),
        pixels[0, 0],
    ):
        with pytest.raises(DataError, match="is no image"):
            detector.predictions([odd])
