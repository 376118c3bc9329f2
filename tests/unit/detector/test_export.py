"""A detector outside of aeflow says what it says inside."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from aeflow.cli import main
from aeflow.core.errors import CheckpointError, ConfigError
from aeflow.core.files import sha256_file
from aeflow.core.tensors import save_tensors
from aeflow.core.types import Method
from aeflow.detector.detector import Detector, Member, Packed
from aeflow.detector.export import ENDINGS, NEEDED, WITHIN, Graph, export
from aeflow.encoder.encoder import build_encoder
from aeflow.encoder.features import FeatureSource
from aeflow.judging.thresholds import Threshold
from aeflow.methods.method import detector_of
from aeflow.study.asked import MemberAsked, ScoreAsked, VariantAsked
from aeflow.study.settings import CellSettings, DataSettings, FitSettings

WHY = "pip install -e '.[export]'"
onnxruntime = pytest.importorskip("onnxruntime", reason=WHY)
openvino = pytest.importorskip("openvino", reason=WHY)
ROOT = Path(__file__).parents[3]
SIDE, NAME = 64, "tiny"
ENCODER = {"library": "timm", "architecture": "test_resnet"}
ENCODER |= {"mean": "[0.5, 0.4, 0.3]", "sd": "[0.2, 0.3, 0.4]"}
TRAIN, VALIDATION = np.arange(20), np.arange(20, 32)
# Name -> its members: method and settings; of a score those that its method reads.
DETECTORS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "aeflow": [("aeflow", {"score": {"scaling": "standardised", "map": "difference"}})],
    "features": [
        (
            "aeflow",
            {
                "encoder": {"stages": [3]},
                "decoder": {"target": "features"},
                "score": {"flow": "nll", "reconstruction": "residual_top", "map": "residual"},
            },
        )
    ],
    "flow": [
        (
            "flow",
            {
                "encoder": {"stages": [2, 3]},
                "features": {"normalise": "instance"},
                "flow": {"subnet": "resnet", "standardise": "position"},
                "score": {"flow": "local_nll_top", "map": "nll"},
            },
        )
    ],
    "autoencoder": [
        (
            "autoencoder",
            {
                "decoder": {"output": "tanh"},
                "score": {"reconstruction": "centred_mse", "map": "difference"},
            },
        )
    ],
    "tuned": [("flow", {"encoder": {"finetune": True}, "score": {"flow": "density"}})],
    "gaussian": [
        (
            "gaussian",
            {
                "encoder": {"stages": [1, 2, 3]},
                "score": {"flow": "local_energy_top", "map": "energy"},
            },
        )
    ],
    "shared": [("gaussian", {"gaussian": {"covariance": "shared"}, "score": {"flow": "nll"}})],
    "gradient": [("gradient", {})],
    "ensemble": [
        ("aeflow", {}),
        ("flow", {"encoder": {"stages": [2, 3]}, "score": {"flow": "local_nll_max"}}),
        ("gradient", {"score": {"gradient": "high_gradient"}}),
    ],
}


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Clouds, (N, S, S, 3) uint8, no two of the same contrast."""
    draw = np.random.default_rng(0)
    clouds = [
        Image.fromarray(draw.integers(0, 256, (7, 7, 3), np.uint8))
        .resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        .point(lambda level, n=n: int(90 + (level - 128) * (0.3 + n / 60)))
        for n in draw.permutation(48)
    ]
    return np.stack([np.asarray(cloud) for cloud in clouds])


@pytest.fixture
def pack(pictures: np.ndarray, tmp_path: Path, torch_as_it_was: None) -> Callable[..., Path]:
    """Return a function that writes one of DETECTORS, fitted to the first pictures."""

    def write(name: str, **data: Any) -> Path:
        torch.manual_seed(1)
        backbone = timm.create_model(ENCODER["architecture"])
        backbone.train()(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255)
        weights = backbone.state_dict()
        tensors = {f"encoder.{NAME}.{key}": value for key, value in weights.items()}
        tensors["validation.gt_label"] = torch.zeros(len(VALIDATION), dtype=torch.int64)
        members = []
        for number, (method, keys) in enumerate(DETECTORS[name]):
            given = {"flow": {"steps": 2, "standardise": "channel"}, **keys}
            given["encoder"] = {"name": NAME, "stages": 3, **keys.get("encoder", {})}
            given["training"] = {"threads": 1, "device": "cpu", "batch_size": 8}
            cell = CellSettings.model_validate(given)
            fitted = cell.model_dump(include=set(FitSettings.model_fields))
            settings = FitSettings.model_validate(fitted)
            share = [cell.score.top_share]
            computes = ScoreAsked(
                method=method,
                settings=settings,
                fpr_limit=0.3,
                top_shares=share,
                maps=[cell.score.map],
            )
            if method == "gradient":
                learner = detector_of(Method.GRADIENT)(pictures)
            else:
                stages = settings.stages_of(Method(method))
                encoder = build_encoder(ENCODER, weights, stages, settings.encoder.finetune)
                source = FeatureSource(
                    pictures, torch.device("cpu"), None, encoder, settings.features.normalise
                )
                learner = detector_of(Method(method))(source, settings, Method(method))
                learner.top_shares = share
                learner.fit(TRAIN)
                for parameter in learner.module.parameters():  # as if it had learned something
                    parameter.data += 0.05 * torch.randn_like(parameter)
                learner.module.eval()
                learner.complete(TRAIN, VALIDATION)
                state = learner.module.state_dict()
                tensors |= {f"member{number}.{k}": v for k, v in state.items()}
            found = learner.score(VALIDATION).components
            place = f"validation.member{number}"
            tensors |= {f"{place}.{k}": torch.from_numpy(v) for k, v in found.items()}
            asked = MemberAsked(name=f"seed{number}", method=method, score=cell.score)
            shown = None if method == "gradient" else cell.score.map
            scale = shown and (-0.1 * number, 1.0 + number)
            members.append(Member(computes=computes, score=asked, map=shown, map_scale=scale))
        alone = len(members) == 1
        one = members[0].score
        variant = {
            "method": one.method if alone else "fusion",
            "encoder": NAME,
            "map": members[0].map if alone else None,
            "score": one.score,
            "threshold": {"rule": "specificity", "specificity": 0.5},
        }
        facts = Packed(
            study="small",
            dataset="clouds",
            category="all",
            variant=name,
            judged=VariantAsked.model_validate(variant),
            members=members,
            encoders={NAME: ENCODER},
            data=DataSettings(image_size=SIDE, **data),
            levels=None,
            kinds=[],
            map_scale=None,
            made_from={},
            versions={"aeflow": "0"},
        )
        path = tmp_path / f"{name}.safetensors"
        save_tensors(path, tensors, {"detector": facts.model_dump_json()})
        return path

    return write


Run = Callable[[np.ndarray], dict[str, np.ndarray]]
BATCHES = (slice(0, 1), slice(1, 4), slice(0, 16))


def as_image(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255


def of_onnx(path: Path) -> tuple[Run, dict[str, str]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers)
    names = [output.name for output in session.get_outputs()]

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {"image": image}), strict=True))

    return run, session.get_modelmeta().custom_metadata_map


def of_openvino(path: Path) -> tuple[Run, dict[str, str]]:
    core = openvino.Core()
    model = core.read_model(path)
    told = model.get_rt_info("aeflow").value if path.suffix == ".xml" else {}
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return {output.get_any_name(): found for output, found in compiled(image).items()}

    return run, dict(told)


def of_torch(path: Path, pixels: np.ndarray) -> tuple[Run, dict[str, str]]:
    """Run it on what `assert_same` asks for, in a process that can import nothing of aeflow."""
    code = """
import sys
sys.modules["aeflow"] = None
import json, numpy, torch
path, *batches = sys.argv[1:]
extra = {"aeflow.json": ""}
module = torch.export.load(path, extra_files=extra).module()
for batch in batches:
    found = module(torch.from_numpy(numpy.load(batch)))
    numpy.savez(batch + ".npz", **{name: each.numpy() for name, each in found.items()})
print(extra["aeflow.json"])
"""
    batches = [path.with_name(f"{rows.start}-{rows.stop}.npy") for rows in BATCHES]
    for batch, rows in zip(batches, BATCHES, strict=True):
        np.save(batch, as_image(pixels[rows]))
    command = [sys.executable, "-c", code, path, *batches]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {}
    for batch in batches:
        given = batch.with_name(f"{batch.name}.npz")
        found[len(np.load(batch))] = dict(np.load(given, allow_pickle=False))
        batch.unlink()
        given.unlink()
    told = json.loads(done.stdout)
    plain = {k: v if isinstance(v, str) else json.dumps(v) for k, v in told.items()}
    return lambda image: found[len(image)], plain


def assert_same(run: Run, detector: Detector, pixels: np.ndarray, within: float) -> None:
    """Check that `run` says of 16 images what the detector says, of 1, 3 or 16 at a time.

    Args:
        within: of the range of the scores; of the maps, whose outliers are single pixels, 10 times
            that.
    """
    wanted, limit = detector.examine(pixels), detector.threshold.value
    scores, label = (wanted.table[name].to_numpy() for name in ("pred_score", "pred_label"))
    assert 0 < label.sum() < 16, "both verdicts should be seen"
    spread = np.ptp(scores)
    sure = np.abs(scores - limit) > within * spread
    for rows in BATCHES:
        found = run(as_image(pixels[rows]))
        print(rows.stop, "apart", np.abs(found["pred_score"] - scores[rows]).max() / spread)
        assert found["pred_label"].dtype == np.int64
        np.testing.assert_allclose(found["pred_score"], scores[rows], rtol=0, atol=within * spread)
        assert np.array_equal(found["pred_label"][sure[rows]], label[rows][sure[rows]])
        assert ("anomaly_map" in found) == (wanted.maps is not None)
        if wanted.maps is not None:
            atol = 10 * within * np.ptp(wanted.maps)
            np.testing.assert_allclose(found["anomaly_map"], wanted.maps[rows], rtol=0, atol=atol)


@pytest.mark.parametrize("name", sorted(DETECTORS.keys() - {"shared"}))  # to every target below
def test_every_method_is_the_same_elsewhere_whatever_the_number_of_images(
    pack: Callable[..., Path], pictures: np.ndarray, name: str
) -> None:
    packed = pack(name)
    detector, pixels = Detector.load(packed), pictures[32:]
    ((path,), outputs, _) = export(packed, "onnx")
    shown = [] if name == "gradient" else ["anomaly_map"]
    assert outputs == ["pred_score", *shown, "pred_label"]
    assert_same(of_onnx(path)[0], detector, pixels, 2e-4)
    assert_same(of_openvino(path)[0], detector, pixels, WITHIN["openvino"])
    graph = Graph(detector)
    assert_same(
        lambda i: {n: f.numpy() for n, f in graph(torch.from_numpy(i)).items()},
        detector,
        pixels,
        1e-5,
    )


def test_each_target_runs_alone_and_says_where_it_comes_from(
    pack: Callable[..., Path],
    pictures: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packed = pack("shared")
    detector = Detector.load(packed)
    for to, ending in ENDINGS.items():
        out = tmp_path / f"out/{to}{ending}"
        assert main(["export", str(packed), "--to", to, "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert f"{out}" in said
        assert "image -> pred_score, anomaly_map, pred_label; scores differ" in said
        run, told = (
            of_torch(out, pictures[32:])
            if to == "torch"
            else {"onnx": of_onnx, "openvino": of_openvino}[to](out)
        )
        assert_same(run, detector, pictures[32:], WITHIN[to])
        assert float(told["threshold"]) == detector.threshold.value
        assert told["detector_sha256"] == sha256_file(packed)
        names = (
            "study",
            "category",
            "variant",
            "image_size",
            "resize",
            "levels",
            "threshold_rule",
        )
        assert [told[name] for name in names] == [
            "small",
            "all",
            "shared",
            "64",
            "squash",
            "null",
            "specificity",
        ]
    assert {path.name for path in out.parent.iterdir()} == {
        "onnx.onnx",
        "openvino.xml",
        "openvino.bin",
        "torch.pt2",
    }


def test_the_docs_example_scores_a_folder_without_aeflow_and_without_torch(
    pack: Callable[..., Path], pictures: np.ndarray, tmp_path: Path
) -> None:
    packed, images = pack("shared", grayscale=True), tmp_path / "images"
    export(packed, "onnx")
    images.mkdir()
    for number, pixels in enumerate(pictures[32:36]):
        picture, turned = Image.fromarray(pixels), Image.Exif()
        turned[0x0112] = 6
        picture.convert("L" if number else "RGB").save(images / f"{number}.png")
        picture.resize((400, 270)).save(images / f"{number}.jpg", exif=turned)
    (program,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/export.md").read_text(), re.M | re.S
    )
    assert program.count("\n") <= 22
    (tmp_path / "score.py").write_text(program)
    code = """
import runpy, sys
sys.modules.update(aeflow=None, torch=None)
del sys.argv[0]
runpy.run_path(sys.argv[0])
"""
    command = [sys.executable, "-c", code, "score.py", "shared.onnx", "images"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    paths = sorted(images.iterdir())
    wanted = Detector.load(packed).predictions(paths)
    scores = wanted["pred_score"].to_numpy()
    found = [line.split(",") for line in done.stdout.splitlines()]
    assert [row[0] for row in found] == [path.name for path in paths]
    np.testing.assert_allclose(
        [float(row[1]) for row in found], scores, rtol=0, atol=2e-4 * np.ptp(scores)
    )
    assert [int(row[2]) for row in found] == wanted["pred_label"].to_list()


def test_what_cannot_be_exported_is_told_in_a_sentence_and_leaves_nothing(
    pack: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack("gradient")
    with pytest.raises(
        ConfigError, match=r"model\.bin: what is written for openvino ends in \.xml"
    ):
        export(packed, "openvino", tmp_path / "model.bin")
    detector = Detector.load(packed)
    facts = detector.facts
    score = facts.judged.score.model_copy(update={"correct": "complexity"})
    judged = facts.judged.model_copy(update={"score": score})
    detector.facts = facts.model_copy(update={"judged": judged})
    with pytest.raises(ConfigError, match="which no graph can compute"):
        Graph(detector)
    computes = facts.members[0].computes.model_copy(update={"method": Method.PADIM})
    member = facts.members[0].model_copy(update={"computes": computes})
    detector.facts = facts.model_copy(update={"members": [member]})
    with pytest.raises(ConfigError, match="runs anomalib's padim, which is not exported, but"):
        Graph(detector)
    monkeypatch.setitem(NEEDED, "onnx", ("onnx", "not_there"))
    with pytest.raises(ConfigError, match="--to onnx needs not_there, not installed here"):
        export(packed, "onnx")
    monkeypatch.setitem(WITHIN, "openvino", -1.0)
    old = tmp_path / "gradient.xml"
    old.write_text("of before")
    with pytest.raises(CheckpointError, match=r"there is no .*gradient\.xml"):
        export(packed, "openvino")
    assert {path.name for path in tmp_path.iterdir()} == {packed.name, old.name}
    assert old.read_text() == "of before"


def test_without_threshold_or_score_there_is_no_verdict(
    pack: Callable[..., Path], pictures: np.ndarray
) -> None:
    detector = Detector.load(pack("gradient"))
    image = torch.from_numpy(as_image(pictures[:2]))
    broken = image.clone()
    broken[1, 0, 0, 0] = torch.nan
    assert Graph(detector)(broken)["pred_label"][1] == -1
    detector.threshold = Threshold(reason="none")
    assert Graph(detector)(image)["pred_label"].tolist() == [-1, -1]
