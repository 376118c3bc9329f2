"""`aeflow predict` on a folder of images, against anomalib's FastFlow with the same backbone.

Random weights: the time is that of trained ones. anomalib reads, prepares and scores the same
files by its own data set and model, in batches of the same size, without the engine around them.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image, ImageFilter

from aeflow.core.types import IMAGENET_MEAN, IMAGENET_SD, Method
from aeflow.detector.detector import BATCH, Detector, Packed
from aeflow.detector.predictions import predict
from aeflow.encoder.encoder import build_encoder
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import detector_of
from aeflow.study.settings import FitSettings
from benchmarks.measure import Action, Measurement, compare, peak_mib, run_python, threads

BACKBONE, STAGES, SIDE = "resnet18", [1, 2, 3], 256  # anomalib takes no smaller one
METHODS = {"the recommended recipe": "gaussian", "flows of three stages": "flow"}


def measure(quick: bool) -> list[Measurement]:
    """Measure speed and memory beside anomalib's, and how long one image takes from the start."""
    count, repeats = (4, 1) if quick else (32, 3)
    found = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", count)
        write_images(folder / "one", 1)
        anomalib = partial(predict_with_anomalib, folder / "images")
        for told, method in [*METHODS.items()][: 1 if quick else None]:
            packed = folder / f"{method}.safetensors"
            pack_random(packed, method)
            ours = partial(predict_folder, packed, folder / "images", folder / "out")
            what = (
                f"aeflow predict, {told} of {BACKBONE} (reference: anomalib's FastFlow of these)"
            )
            found.append(compare(what, ours, anomalib, repeats=repeats, images=count))
        what = f"its peak memory, {count} images"
        found.append(compare(what, ours, anomalib, repeats=1, quantity=peak_mib))
        start = partial(run_command, folder / "gaussian.safetensors", folder / "one", folder / "a")
        torch_alone = partial(run_python, None, ["-c", "import torch"])
        what = "aeflow predict of one image, from the start (reference: import torch)"
        found.append(compare(what, start, torch_alone, repeats=repeats))
    return found


def write_images(folder: Path, count: int) -> None:
    """Write photographs of nothing, 320 x 320 JPEG."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        noise = Image.fromarray(draw.integers(0, 256, (320, 320, 3), np.uint8))
        noise.filter(ImageFilter.GaussianBlur(2)).save(folder / f"{number:04d}.jpg", quality=90)


def pack_random(path: Path, method: str) -> None:
    """Write a detector with random weights, as `aeflow pack` writes one."""
    encoder = {"name": BACKBONE, "stages": STAGES}
    training = {"threads": threads(), "device": "cpu"}
    settings = FitSettings.model_validate({"encoder": encoder, "training": training})
    score = {"flow": "local_energy_top", "map": "energy"}
    alone = {"method": method, "score": score}
    member = {"score": alone | {"name": method}, "map": "energy"}
    facts = {"library": "timm", "architecture": BACKBONE}
    facts |= {"mean": str(list(IMAGENET_MEAN)), "sd": str(list(IMAGENET_SD))}
    weights = timm.create_model(BACKBONE).state_dict()
    source = FeatureSource(
        np.zeros((1, SIDE, SIDE, 3), np.uint8),
        torch.device("cpu"),
        encoder=build_encoder(facts, weights, STAGES),
    )
    learner = detector_of(Method(method))(source, settings, Method(method))
    learner.module.eval()
    learner.top_shares, learner.maps = [0.03], ["energy"]
    computes: dict[str, Any] = {"method": method, "settings": settings.model_dump()}
    computes |= {"fpr_limit": 0.3, "top_shares": [0.03], "maps": ["energy"]}
    told = Packed.model_validate(
        {
            **dict.fromkeys(("study", "dataset", "category", "variant"), "bench"),
            "judged": alone | {"encoder": None, "map": "energy", "threshold": {}},
            "members": [member | {"computes": computes}],
            "encoders": {BACKBONE: facts},
            "data": {"image_size": SIDE},
            "levels": None,
            "kinds": [],
            "map_scale": None,
            "made_from": {},
            "versions": {},
        }
    )
    tensors = {
        f"validation.member0.{name}": torch.arange(20, dtype=torch.float64)
        for name in learner.score(np.arange(1)).components
    }
    tensors["validation.gt_label"] = torch.zeros(20, dtype=torch.int64)
    tensors |= {f"encoder.{BACKBONE}.{name}": each for name, each in weights.items()}
    tensors |= {f"member0.{name}": each for name, each in learner.module.state_dict().items()}
    Detector(told, tensors).save(path, tensors)


def predict_folder(packed: Path, images: Path, out: Path) -> Action:
    """Return ours: files to scores, p-values and verdicts in a table, without pictures."""
    detector = Detector.load(packed)
    return lambda: predict(detector, packed, [str(images)], out, pictures=False)


def predict_with_anomalib(images: Path) -> Action:
    """Return the reference: files to scores."""
    from anomalib.data import PredictDataset  # 8 s: in this process alone
    from anomalib.models import Fastflow
    from torch.utils.data import DataLoader

    torch.set_num_threads(threads())
    model: Any = Fastflow(backbone=BACKBONE, pre_trained=False).eval()
    dataset: Any = PredictDataset(images, image_size=(SIDE, SIDE))
    loader = DataLoader(dataset, BATCH, collate_fn=dataset.collate_fn)

    @torch.inference_mode()
    def action() -> list[torch.Tensor]:
        return [model(batch.image).pred_score for batch in loader]

    return action


def run_command(packed: Path, images: Path, out: Path) -> Action:
    """Return a run of `aeflow predict`, with pictures, as a user has it."""
    code = "import sys; from aeflow.cli import main; sys.exit(main(sys.argv[1:]))"
    return run_python(None, ["-c", code, "predict", str(packed), str(images), "--out", str(out)])
