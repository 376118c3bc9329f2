"""A detector as one graph that other programs run: from prepared images to scores and verdicts."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aeflow.core.errors import AeflowError, CheckpointError, ConfigError, DataError
from aeflow.core.files import atomic_path, check_writable, sha256_file
from aeflow.core.text import one_line
from aeflow.core.types import GradientScore
from aeflow.detector.detector import Detector
from aeflow.encoder.features import normalised
from aeflow.methods.aeflow import Detector as Ours
from aeflow.methods.gradient import LUMA
from aeflow.models.standardisation import Whitening
from aeflow.study.asked import ScoreAsked

Target = Literal["onnx", "openvino", "torch"]
Arrays = Mapping[str, Any]  # name -> (B,), of the map (B, S, S)
Facts = dict[str, Any]
Images = NDArray[np.float32]  # (B, 3, S, S)
Found = tuple[dict[str, Tensor], Tensor | None]
# What a target's file ends with, and the modules that write it and run it once.
ENDINGS: dict[Target, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
NEEDED: dict[Target, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}
# Of the range of the scores, by how much they may differ from the detector's. OpenVINO keeps
# features in full precision, which all others round to half.
WITHIN: dict[Target, float] = {"onnx": 1e-3, "openvino": 5e-3, "torch": 1e-3}
OPSET = 20
LARGEST = 2**31 - 2**20  # bytes of one ONNX file, some left for what is no weight
IMAGE, SCORE, LABEL, MAP = "image", "pred_score", "pred_label", "anomaly_map"
NONE = -1  # the label where there is no threshold, or no finite score
CHECKED = 3  # images


class Exported(NamedTuple):
    """What was written, and by how much its scores differ from the detector's."""

    paths: list[Path]
    outputs: list[str]
    apart: float  # of the range of the validation scores, or of the checked ones if that is wider


class Model(nn.Module):
    """Components and map of a model of ours, as its `scores` gives them to `predict` too."""

    def __init__(self, scorer: Ours, computes: ScoreAsked, wanted: str | None) -> None:
        super().__init__()
        model, settings = scorer.module, computes.settings
        self.model, self.shares, self.wanted = model, scorer.top_shares, wanted
        self.stages, self.target = scorer.stages, scorer.target
        self.read = settings.stages_of(computes.method)
        self.normalise = settings.features.normalise
        for module in model.modules():
            if isinstance(module, Whitening):  # only the inverse needs it
                module.factor = module.factor[:, :0]

    def forward(self, image: Tensor, features: dict[int, Tensor]) -> Found:
        """Return components, (B,), and the wanted map, (B, S, S), of images (B, 3, S, S)."""
        if self.model.encoder is not None:
            features = dict(zip(self.read, self.model.encoder(image), strict=True))
        z = {stage: normalised(features[stage], self.normalise) for stage in self.read}
        target = z[self.target] if self.target else None
        found = self.model.scores([z[n] for n in self.stages], target, image, self.shares)
        maps = found.maps([str(self.wanted)], image.shape[3])
        return found.components, maps.get(str(self.wanted))


class Gradient(nn.Module):
    """The gradient's components: `mean_absolute_gradient` of aeflow/methods/gradient.py."""

    luma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("luma", torch.from_numpy(LUMA)[:, None, None])

    def forward(self, image: Tensor, features: dict[int, Tensor]) -> Found:
        """Return components, (B,), of images (B, 3, S, S); there is no map."""
        luma = (255 * image * self.luma).sum(1)
        gradient = luma.diff(dim=1).abs().mean((1, 2))
        low, high = str(GradientScore.LOW_GRADIENT), str(GradientScore.HIGH_GRADIENT)
        return {high: gradient, low: -gradient}, None


class Graph(nn.Module):
    """A detector: images (B, 3, S, S) in [0, 1] -> pred_score (B,), its map, pred_label (B,).

    It takes the detector's modules to the CPU: the detector is then of no more use.

    Raises:
        ConfigError: there is something in it that no graph can compute.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        facts = detector.facts
        for each in facts.members:
            if each.computes.method.peer:
                raise ConfigError(
                    f"{facts.variant} runs anomalib's {each.computes.method}, which is not "
                    "exported, but aeflow, flow, autoencoder, gaussian, gradient and their "
                    "fusions are: choose a variant of these."
                )
        scores = [facts.judged.score, *(each.score.score for each in facts.members)]
        if any(score.correct != "none" for score in scores):
            raise ConfigError(
                f"{facts.variant} has score.correct: complexity, the size of each image's PNG, "
                "which no graph can compute: choose a variant with score.correct: none."
            )
        self.constant, self.terms = detector.weighted()
        self.limit = detector.threshold.value
        # Of a fusion each map on the scale of its validation normals, as Detector.examine has it.
        scales = [each.map_scale for each in facts.members] if facts.fused else [(0.0, 1.0)]
        self.scales = [scale and (scale[0], scale[1] - scale[0] or 1.0) for scale in scales]
        self.encoders, self.members = nn.ModuleDict(), nn.ModuleList()
        self.read = {name: list(source.shapes) for name, (source, _) in detector.encoders.items()}
        for encoder, (source, _) in detector.encoders.items():
            assert source.encoder is not None
            self.encoders[encoder] = source.encoder
        self.names = [each.computes.settings.encoder.name for each in facts.members]
        for each, scorer in zip(facts.members, detector.scorers, strict=True):
            self.members.append(
                Model(scorer, each.computes, each.map) if isinstance(scorer, Ours) else Gradient()
            )
        self.to("cpu").to(memory_format=torch.contiguous_format).eval().requires_grad_(False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return what the detector says of images, by name."""
        # Rounded as the cache of features is.
        features = {
            name: dict(
                zip(self.read[name], (z.half().float() for z in encoder(image)), strict=True)
            )
            for name, encoder in self.encoders.items()
        }
        found = [
            member(image, features.get(name, {}))
            for name, member in zip(self.names, self.members, strict=True)
        ]
        score = image.new_full((image.shape[0],), self.constant)
        for number, name, weight, centre in self.terms:
            score = score + weight * (found[number][0][name] - centre)
        limit = torch.inf if self.limit is None else self.limit
        known = score.isfinite() & (self.limit is not None)
        label = torch.where(known, (score >= limit).long(), NONE)
        scaled = [
            (each - scale[0]) / scale[1]
            for (_, each), scale in zip(found, self.scales, strict=True)
            if each is not None and scale is not None
        ]
        shown = {MAP: torch.stack(scaled).mean(0)} if scaled else {}
        return {SCORE: score, **shown, LABEL: label}


def export(packed: Path, to: Target, out: Path | None = None) -> Exported:
    """Write a detector as one graph, and run that once: it must say what the detector says.

    Args:
        packed: what `aeflow pack` wrote.
        out: beside the detector, unless told. OpenVINO has a .bin beside its .xml.

    Raises:
        ConfigError: a package is missing, `out` ends otherwise, or no graph can compute it.
        DataError: the detector cannot be read, the file not written, or it is too large.
        CheckpointError: what was written gives other scores.
    """
    missing = [name for name in NEEDED[to] if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--to {to} needs {' and '.join(missing)}, not installed here: "
            "`pip install -e '.[export]'`."
        )
    path, ending = out or packed.with_suffix(ENDINGS[to]), ENDINGS[to]
    if path.suffix != ending:
        raise ConfigError(f"--out {path}: what is written for {to} ends in {ending}.")
    detector = Detector.load(packed)
    side = detector.facts.data.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (CHECKED, side, side, 3), np.uint8)
    wanted, known = detector.examine(pixels).table[SCORE].to_numpy(), detector.validation[1]
    metadata = _metadata(detector, packed)
    graph = Graph(detector)
    check_writable(path.parent)
    image = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    paths = [path, *([path.with_suffix(".bin")] if to == "openvino" else [])]
    with ExitStack() as stack:
        parts = [stack.enter_context(atomic_path(each)) for each in paths]
        found = _written(to, graph, metadata, image, *parts)
        spread = max(np.ptp(known), np.ptp(np.append(wanted, known.mean()))) or 1.0
        apart = float(np.abs(np.asarray(found[SCORE]) - wanted).max() / spread)
        if not apart <= WITHIN[to]:
            raise CheckpointError(
                f"The scores of {to} differ from the detector's by {apart:.1%} of their range, so "
                f"there is no {path}: choose another target."
            )
        if len(paths) > 1:  # an earlier .xml must not stand beside this .bin
            path.unlink(missing_ok=True)
    return Exported(paths, list(found), apart)


def _written(to: Target, graph: Graph, metadata: Facts, image: Images, *parts: Path) -> Arrays:
    """Write the files, and return what they say of images; `export` says what may be wrong."""
    try:
        return WRITE[to](_trace(graph, image.shape[3]), metadata, image, *parts)
    except (AeflowError, OSError):
        raise
    except Exception as error:  # whatever is no graph to one of the libraries
        why = one_line(str(error))[:200]
        raise ConfigError(
            f"{metadata['variant']} cannot be written for {to} ({why}): choose another target."
        ) from error


def _trace(graph: Graph, side: int) -> torch.export.ExportedProgram:
    """Return the graph of images of any number.

    By Dynamo (`strict`): another tracing would take the number from each len(z) as a constant.
    """
    with torch.no_grad():
        return torch.export.export(
            graph,
            (torch.zeros(2, 3, side, side),),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC(min=1)},),
            strict=True,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def _write_torch(
    program: torch.export.ExportedProgram, metadata: Facts, image: Images, part: Path
) -> Arrays:
    # PyTorch takes what is smaller than its storage for a part, and looks for the rest of it.
    for tensors in (program.state_dict, program.constants):
        for name, tensor in tensors.items():
            if tensor.nbytes != tensor.untyped_storage().nbytes():
                tensors[name] = tensor.clone()
    torch.export.save(program, part, extra_files={"aeflow.json": json.dumps(metadata)})
    found: Arrays = torch.export.load(part).module()(torch.from_numpy(image))
    return found


def _write_onnx(
    program: torch.export.ExportedProgram, metadata: Facts, image: Images, part: Path
) -> Arrays:
    import onnxruntime

    _as_onnx(program, metadata, part)
    session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {IMAGE: image}), strict=True))


def _write_openvino(
    program: torch.export.ExportedProgram,
    metadata: Facts,
    image: Images,
    part: Path,
    weights: Path,
) -> Arrays:
    import openvino

    core = openvino.Core()
    with TemporaryDirectory() as folder:
        onnx = Path(folder, "model.onnx")
        _as_onnx(program, {}, onnx)
        model = core.read_model(onnx)
        for name, text in _texts(metadata).items():
            model.set_rt_info(text, ["aeflow", name])
        openvino.serialize(model, part, weights)
        del model  # which has the file open
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(part, weights), "CPU", exact)
    return {output.get_any_name(): found for output, found in compiled(image).items()}


def _as_onnx(program: torch.export.ExportedProgram, metadata: Facts, path: Path) -> None:
    size = sum(
        tensor.nbytes for tensor in (*program.state_dict.values(), *program.constants.values())
    )
    if size > LARGEST:
        raise DataError(
            f"The detector has {size / 2**30:.1f} GiB of weights, and an ONNX file, of which "
            "OpenVINO's is made, holds 2: choose --to torch."
        )
    # ONNX has no split of an axis whose length is not known into a number of parts.
    aten, graph = torch.ops.aten, program.graph
    for node in graph.find_nodes(op="call_function", target=aten.chunk.default):
        values, count, *axis = node.args
        if axis in ([], [0]):
            with graph.inserting_before(node):
                parts = graph.call_function(aten.unflatten.int, (values, 0, [count, -1]))
                node.replace_all_uses_with(graph.call_function(aten.unbind.int, (parts, 0)))
            graph.erase_node(node)
    # An index for each channel will do where there is one for each value.
    for node in graph.find_nodes(op="call_function", target=aten.gather.default):
        values, axis, index = node.args
        if index.target == aten.expand.default:
            with graph.inserting_before(node):
                given = (values, axis, index.args[0])
                node.replace_all_uses_with(graph.call_function(aten.index_select.default, given))
            graph.erase_node(node)
            graph.erase_node(index)
    outputs = list(program.call_spec.out_spec.context)
    written = torch.onnx.export(
        program, input_names=[IMAGE], output_names=outputs, opset_version=OPSET, verbose=False
    )
    assert written is not None  # it would be, were it given a path
    for value in (*written.model.graph.inputs, *written.model.graph.outputs):
        assert value.shape is not None
        value.shape[0] = "batch"
    written.model.metadata_props.update(_texts(metadata))
    written.save(path)


def _texts(metadata: Facts) -> dict[str, str]:
    """Return metadata where only text can be: other values as JSON."""
    return {n: v if isinstance(v, str) else json.dumps(v) for n, v in metadata.items()}


def _metadata(detector: Detector, packed: Path) -> Facts:
    """Return what somebody needs to know who has the graph alone."""
    facts, data = detector.facts, detector.facts.data
    of = {"study", "dataset", "category", "variant", "levels", "map_scale", "versions"}
    how = {"image_size", "resize", "grayscale", "center_crop", "intensity", "frame"}
    return {
        **facts.model_dump(mode="json", include=of),
        **data.model_dump(mode="json", include=how),
        "threshold": detector.threshold.value,
        "threshold_rule": detector.threshold.rule,
        "threshold_told": detector.told(),
        "detector_sha256": sha256_file(packed),
        "input": "float32 (B, 3, image_size, image_size), RGB, 0 black and 1 white",
    }


WRITE: dict[Target, Callable[..., Arrays]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch": _write_torch,
}
