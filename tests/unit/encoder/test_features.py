"""Features: the cache and the encoder give the same numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aeflow.core.errors import ConfigError, DataError
from aeflow.data.prepared import open_array
from aeflow.encoder.encoder import Encoder, load_encoder
from aeflow.encoder.features import GIB, extract_features, open_features
from aeflow.study.asked import FeaturesAsked
from aeflow.study.settings import EncoderSettings
from scripts import extract_features as script

CPU = torch.device("cpu")
ALL = np.arange(40)


class Body(nn.Module):
    """A body by a function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.function(x)]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """More images than one batch of the extraction holds."""
    return np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def encoder(lite0: Path) -> Encoder:
    return load_encoder(lite0, 3)


@pytest.fixture
def cache(images: np.ndarray, lite0: Path, tmp_path: Path, torch_as_it_was: None) -> Path:
    """The features of the images, by the script."""
    np.save(tmp_path / "images.npy", images)
    path = tmp_path / "features/f.npy"
    asked = FeaturesAsked(stage=3, max_cache_gib=20.0, threads=1)
    facts = script.extract_features(asked, tmp_path / "images.npy", lite0, path)
    assert facts == {"cached": True, "shape": [4, 4, 112], "images": 40}
    return path


def test_the_cache_holds_the_encoders_features_in_half_precision(
    images: np.ndarray, encoder: Encoder, cache: Path
) -> None:
    written = open_array(cache)
    assert isinstance(written, np.memmap)
    assert written.dtype == np.float16
    assert written.shape == (40, 4, 4, 112)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = encoder(x).permute(0, 2, 3, 1).numpy()
    # Half precision has 11 significant bits; a unit of the last one may be lost.
    np.testing.assert_allclose(written, expected, rtol=2**-11, atol=1e-4)
    assert not np.array_equal(written[0], written[1])


def test_cached_and_computed_features_are_the_same_numbers(
    images: np.ndarray, lite0: Path, cache: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.npy"
    np.save(empty, np.zeros((0, 4, 4, 112), dtype=np.float16))
    settings = EncoderSettings(stage=3)
    # With a cache the encoder's file is not needed.
    cached = open_features(images, settings, CPU, cache, tmp_path / "nowhere")
    computed = open_features(images, settings, CPU, empty, lite0)
    for source in (cached, computed):
        assert (source.channels, source.stride, source.side) == (112, 16, 4)
    # The first batch of the extraction: not even sums are reordered.
    x = computed.images(ALL[:16])
    assert x.shape == (16, 3, 64, 64)
    assert x[3, 2, 10, 20].item() == pytest.approx(images[3, 10, 20, 2] / 255)
    z = computed.features(ALL[:16], x)
    assert torch.equal(cached.features(ALL[:16]), z)
    assert torch.equal(z, z.half().float())
    rows = np.array([31, 2, 17])
    assert torch.equal(cached.features(rows)[1], cached.features(rows[1:2])[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):  # a frozen encoder's are what they are
        assert torch.equal(computed.features(ALL[:16], x), z)


def test_a_fine_tuned_encoders_features_are_not_rounded_nor_read(
    images: np.ndarray, lite0: Path, cache: Path
) -> None:
    source = open_features(images, EncoderSettings(stage=3, finetune=True), CPU, cache, lite0)
    z = source.features(ALL[:2])
    assert not torch.equal(z, z.half().float())
    assert z.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert source.features(ALL[:2]).dtype == torch.float32


def test_a_cache_of_other_images_is_refused(images: np.ndarray, cache: Path) -> None:
    with pytest.raises(DataError, match=rf"{cache} holds 40 images.*39.*extract_features"):
        open_features(images[:39], EncoderSettings(), CPU, cache, cache)


@pytest.mark.parametrize(("limit_bytes", "rows"), [(0, 0), (143359, 0), (143360, 40)])
def test_the_limit_is_on_the_whole_cache(
    images: np.ndarray, encoder: Encoder, tmp_path: Path, limit_bytes: int, rows: int
) -> None:
    """40 images of 4 * 4 * 112 numbers of 2 bytes: 143,360 bytes."""
    facts = extract_features(images, encoder, CPU, limit_bytes / GIB, tmp_path / "f.npy")
    assert facts == {"cached": rows > 0, "shape": [4, 4, 112], "images": 40}
    assert open_array(tmp_path / "f.npy").shape == (rows, 4, 4, 112)


@pytest.mark.parametrize("limit", [20.0, 0.0])
def test_maps_of_another_size_than_the_stride_says_are_refused(
    images: np.ndarray, tmp_path: Path, limit: float
) -> None:
    """A stage without padding: 64 pixels give 15 x 15, and a cache of 16 x 16 would be garbage."""
    encoder = Encoder(Body(nn.Conv2d(3, 4, 5, stride=4)), channels=4, stride=4)
    with pytest.raises(ConfigError, match=r"64 pixels are 15 x 15, .* stride 4"):
        extract_features(images, encoder, CPU, limit, tmp_path / "f.npy")
    assert not list(tmp_path.iterdir())


def test_features_beyond_half_precision_are_an_error(images: np.ndarray, tmp_path: Path) -> None:
    """65,504 is the largest number: what is above would become infinity without a word."""
    large = Body(lambda x: 70_000 * nn.functional.avg_pool2d(x, 16).clamp(min=1))
    with pytest.raises(DataError, match=r"images 0 to 15 .*half precision.*encoder\.stage"):
        extract_features(images, Encoder(large, 3, 16), CPU, 20.0, tmp_path / "f.npy")
    assert not list(tmp_path.iterdir())
