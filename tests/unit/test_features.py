"""Features: the cache and the encoder give the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aeflow.core.errors import ConfigError, DataError
from aeflow.data.prepared import open_array
from aeflow.encoder.encoder import Encoder, load_encoder
from aeflow.encoder.features import GIB, FeatureSource, extract_features

CPU = torch.device("cpu")
ALL = np.arange(40)


@pytest.fixture
def images() -> np.ndarray:
    """More images than one batch of the extraction holds."""
    return np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def encoder(lite0: Path) -> Encoder:
    return load_encoder(lite0, 3)


def test_images_are_pixels_between_0_and_1(images: np.ndarray, encoder: Encoder) -> None:
    source = FeatureSource(images, CPU, encoder=encoder)
    x = source.images(np.array([7, 3]))
    assert x.shape == (2, 3, 64, 64)
    assert x.dtype == torch.float32
    assert x[1, 2, 10, 20].item() == pytest.approx(images[3, 10, 20, 2] / 255)
    assert (source.channels, source.stride, source.side) == (112, 16, 4)


def test_the_cache_holds_the_encoders_features_in_half_precision(
    images: np.ndarray, encoder: Encoder, tmp_path: Path
) -> None:
    facts = extract_features(images, encoder, CPU, 20.0, tmp_path / "f.npy")
    assert facts == {"cached": True, "shape": [4, 4, 112], "images": 40}
    assert json.dumps(facts)
    written = np.load(tmp_path / "f.npy")
    assert written.dtype == np.float16
    assert written.shape == (40, 4, 4, 112)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = encoder(x).permute(0, 2, 3, 1).numpy()
    # Half precision has 11 significant bits; a unit of the last one may be lost.
    np.testing.assert_allclose(written, expected, rtol=2**-11, atol=1e-4)
    assert not np.array_equal(written[0], written[1])


@pytest.mark.parametrize("limit", [20.0, 0.0])
def test_maps_of_another_size_than_the_stride_says_are_refused(
    images: np.ndarray, tmp_path: Path, limit: float
) -> None:
    """A stage without padding: 64 pixels give 15 x 15, and a cache of 16 x 16 would be garbage."""
    body = nn.Conv2d(3, 4, 5, stride=4)
    encoder = Encoder(_Listed(body), channels=4, stride=4)
    with pytest.raises(ConfigError, match=r"64 pixels are 15 x 15, .* stride 4"):
        extract_features(images, encoder, CPU, limit, tmp_path / "f.npy")
    assert list(tmp_path.iterdir()) == []


class _Listed(nn.Sequential):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [super().forward(x)]


def test_cached_and_computed_features_are_the_same_numbers(
    images: np.ndarray, encoder: Encoder, tmp_path: Path
) -> None:
    extract_features(images, encoder, CPU, 20.0, tmp_path / "f.npy")
    cached = FeatureSource(images, CPU, cache=np.load(tmp_path / "f.npy", mmap_mode="r"))
    computed = FeatureSource(images, CPU, encoder=encoder)
    assert (cached.channels, cached.stride, cached.side) == (112, 16, 4)
    # The first batch of the extraction: not even sums are reordered.
    for rows in (ALL[:32], ALL[32:]):
        x = computed.images(rows)
        z = computed.features(rows, x)
        assert z.dtype == torch.float32
        assert torch.equal(cached.features(rows, x), z)
        assert torch.equal(z, z.half().float())


def test_autocast_does_not_change_a_frozen_encoders_features(
    images: np.ndarray, encoder: Encoder
) -> None:
    source = FeatureSource(images, CPU, encoder=encoder)
    x = source.images(ALL[:4])
    expected = source.features(ALL[:4], x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(source.features(ALL[:4], x), expected)


def test_a_fine_tuned_encoders_features_are_not_rounded(images: np.ndarray, lite0: Path) -> None:
    encoder = load_encoder(lite0, 3, finetune=True).eval()
    source = FeatureSource(images, CPU, encoder=encoder)
    z = source.features(ALL[:2], source.images(ALL[:2]))
    assert not torch.equal(z, z.half().float())
    assert z.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert source.features(ALL[:2], source.images(ALL[:2])).dtype == torch.float32


def test_rows_come_in_the_order_asked_for(images: np.ndarray, tmp_path: Path) -> None:
    cache = np.zeros((40, 4, 4, 2), dtype=np.float16)
    cache[:, 1, 2, 1] = np.arange(40)
    source = FeatureSource(images, CPU, cache=cache)
    rows = np.array([31, 2, 17])
    z = source.features(rows, source.images(rows))
    assert z.shape == (3, 2, 4, 4)
    assert z[:, 1, 1, 2].tolist() == [31, 2, 17]


def test_the_written_cache_is_memory_mapped(
    images: np.ndarray, encoder: Encoder, tmp_path: Path
) -> None:
    extract_features(images[:3], encoder, CPU, 20.0, tmp_path / "f.npy")
    opened = open_array(tmp_path / "f.npy")
    assert isinstance(opened, np.memmap)
    assert opened.flags.f_contiguous is False
    assert not opened.flags.writeable


@pytest.mark.parametrize(("limit_bytes", "rows"), [(0, 0), (143359, 0), (143360, 40)])
def test_the_limit_is_on_the_whole_cache(
    images: np.ndarray, encoder: Encoder, tmp_path: Path, limit_bytes: int, rows: int
) -> None:
    """40 images of 4 * 4 * 112 numbers of 2 bytes: 143,360 bytes."""
    facts = extract_features(images, encoder, CPU, limit_bytes / GIB, tmp_path / "f.npy")
    assert facts == {"cached": rows > 0, "shape": [4, 4, 112], "images": 40}
    opened = open_array(tmp_path / "f.npy")
    assert opened.shape == (rows, 4, 4, 112)
    assert opened.dtype == np.float16


def test_features_beyond_half_precision_are_an_error(images: np.ndarray, tmp_path: Path) -> None:
    """65,504 is the largest number: what is above would become infinity without a word."""

    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [70_000 * nn.functional.avg_pool2d(x, 16).clamp(min=1)]

    with pytest.raises(DataError, match=r"images 0 to 15 .*half precision.*encoder\.stage"):
        extract_features(images, Encoder(Large(), 3, 16), CPU, 20.0, tmp_path / "f.npy")
    assert not list(tmp_path.iterdir())
