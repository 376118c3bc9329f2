"""Features: the cache and the encoder give the same numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aeflow.core.errors import ConfigError, DataError
from aeflow.data.prepared import open_array
from aeflow.encoder.encoder import Encoder, load_encoder
from aeflow.encoder.features import (
    GIB,
    FeatureSource,
    Shape,
    extract_features,
    normalised,
    open_features,
)
from aeflow.study.asked import FeaturesAsked
from aeflow.study.settings import FitSettings
from scripts import extract_features as script
from tests.unit.tiny import cache_of

CPU = torch.device("cpu")
ALL = np.arange(40)


def settings(
    stages: Sequence[int] = (3,), normalise: str = "none", finetune: bool = False
) -> FitSettings:
    encoder = {"name": "lite0", "stages": list(stages), "finetune": finetune}
    return FitSettings.model_validate({"encoder": encoder, "features": {"normalise": normalise}})


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
    return load_encoder(lite0, [3])


@pytest.fixture
def cache(images: np.ndarray, lite0: Path, tmp_path: Path, torch_as_it_was: None) -> Path:
    """The features of the images, by the script."""
    np.save(tmp_path / "images.npy", images)
    path = tmp_path / "features/f.npy"
    asked = FeaturesAsked(stages=[3], max_cache_gib=20.0, threads=1)
    facts = script.extract_features(asked, tmp_path / "images.npy", lite0, path)
    assert facts == {"cached": True, "shapes": {"3": [4, 4, 112]}, "images": 40}
    return path


def test_the_cache_holds_the_encoders_features_in_half_precision(
    images: np.ndarray, encoder: Encoder, cache: Path
) -> None:
    records = open_array(cache)
    assert isinstance(records, np.memmap)
    assert records.dtype.names == ("3",)
    written = records["3"]
    assert written.dtype == np.float16
    assert written.shape == (40, 4, 4, 112)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = encoder(x)[0].permute(0, 2, 3, 1).numpy()
    # Half precision has 11 significant bits; a unit of the last one may be lost.
    np.testing.assert_allclose(written, expected, rtol=2**-11, atol=1e-4)
    assert not np.array_equal(written[0], written[1])


def test_cached_and_computed_features_are_the_same_numbers(
    images: np.ndarray, lite0: Path, cache: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.npy"
    np.save(empty, open_array(cache)[:0])
    # With a cache the encoder's file is not needed.
    cached = open_features(images, settings(), CPU, cache, tmp_path / "nowhere", [3])
    computed = open_features(images, settings(), CPU, empty, lite0, [3])
    for source in (cached, computed):
        assert source.shapes == {3: Shape(channels=112, side=4, stride=16)}
    # The first batch of the extraction: not even sums are reordered.
    x = computed.images(ALL[:16])
    assert x.shape == (16, 3, 64, 64)
    assert x[3, 2, 10, 20].item() == pytest.approx(images[3, 10, 20, 2] / 255)
    z = computed.features(ALL[:16], x)[3]
    assert torch.equal(cached.features(ALL[:16])[3], z)
    assert torch.equal(z, z.half().float())
    rows = np.array([31, 2, 17])
    assert torch.equal(cached.features(rows)[3][1], cached.features(rows[1:2])[3][0])
    with torch.autocast("cpu", dtype=torch.bfloat16):  # a frozen encoder's are what they are
        assert torch.equal(computed.features(ALL[:16], x)[3], z)


def test_a_fine_tuned_encoders_features_are_not_rounded_nor_read(
    images: np.ndarray, lite0: Path, cache: Path
) -> None:
    source = open_features(images, settings(finetune=True), CPU, cache, lite0, [3])
    z = source.features(ALL[:2])[3]
    assert not torch.equal(z, z.half().float())
    assert z.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert source.features(ALL[:2])[3].dtype == torch.float32


def test_a_cache_of_other_images_is_refused(images: np.ndarray, cache: Path) -> None:
    with pytest.raises(DataError, match=rf"{cache} holds 40 images.*39.*extract_features"):
        open_features(images[:39], settings(), CPU, cache, cache, [3])


@pytest.mark.parametrize("fields", [["2"], ["2", "3"], None])
def test_a_cache_of_other_stages_is_refused(
    images: np.ndarray, tmp_path: Path, fields: list[str] | None
) -> None:
    """As one of an earlier version, whose file has the same name and no fields."""
    row = [(name, "<f2", (4, 4, 112)) for name in fields] if fields else "<f2"
    cache = tmp_path / "f.npy"
    np.save(cache, np.zeros(40, row))
    with pytest.raises(DataError, match=rf"{cache} .*extract_features again"):
        open_features(images, settings(), CPU, cache, cache, [3])


@pytest.mark.parametrize(("limit_bytes", "rows"), [(0, 0), (143359, 0), (143360, 40)])
def test_the_limit_is_on_the_whole_cache(
    images: np.ndarray, encoder: Encoder, tmp_path: Path, limit_bytes: int, rows: int
) -> None:
    """40 images of 4 * 4 * 112 numbers of 2 bytes: 143,360 bytes."""
    facts = extract_features(images, encoder, CPU, limit_bytes / GIB, tmp_path / "f.npy")
    assert facts == {"cached": rows > 0, "shapes": {"3": [4, 4, 112]}, "images": 40}
    assert open_array(tmp_path / "f.npy")["3"].shape == (rows, 4, 4, 112)


@pytest.mark.parametrize("limit", [20.0, 0.0])
def test_maps_of_another_size_than_the_stride_says_are_refused(
    images: np.ndarray, tmp_path: Path, limit: float
) -> None:
    """A stage without padding: 64 pixels give 15 x 15, and a cache of 16 x 16 would be garbage."""
    encoder = Encoder(Body(nn.Conv2d(3, 4, 5, stride=4)), stages=[1], channels=[4])
    with pytest.raises(ConfigError, match=r"stage 1 of .* 64 pixels are 15 x 15, .* stride 4"):
        extract_features(images, encoder, CPU, limit, tmp_path / "f.npy")
    assert not list(tmp_path.iterdir())


def test_features_beyond_half_precision_are_an_error(images: np.ndarray, tmp_path: Path) -> None:
    """65,504 is the largest number: what is above would become infinity without a word."""
    large = Body(lambda x: 70_000 * nn.functional.avg_pool2d(x, 16).clamp(min=1))
    with pytest.raises(DataError, match=r"images 0 to 15 .*half precision.*encoder\.stages"):
        extract_features(images, Encoder(large, [3], [3]), CPU, 20.0, tmp_path / "f.npy")
    assert not list(tmp_path.iterdir())


def test_one_pass_of_the_encoder_caches_all_stages(
    images: np.ndarray, lite0: Path, tmp_path: Path
) -> None:
    """40 images in batches of 16, and one image before them for the size of the maps."""
    encoder = load_encoder(lite0, [2, 3, 4])
    seen: list[int] = []
    encoder.body.register_forward_hook(lambda _, x, __: seen.append(len(x[0])))
    facts = extract_features(images, encoder, CPU, 20.0, tmp_path / "all.npy")
    assert seen == [1, 16, 16, 8]
    assert facts["shapes"] == {"2": [8, 8, 40], "3": [4, 4, 112], "4": [2, 2, 320]}
    cached = open_array(tmp_path / "all.npy")
    for stage in (2, 3, 4):
        one = tmp_path / f"{stage}.npy"
        extract_features(images, load_encoder(lite0, [stage]), CPU, 20.0, one)
        assert np.array_equal(open_array(one)[str(stage)], cached[str(stage)])


def test_the_features_of_several_stages_are_read_and_computed_alike(
    images: np.ndarray, lite0: Path, tmp_path: Path
) -> None:
    extract_features(images, load_encoder(lite0, [2, 4]), CPU, 20.0, tmp_path / "f.npy")
    np.save(tmp_path / "empty.npy", np.zeros(0))
    asked = settings([2, 4])
    cached = open_features(images, asked, CPU, tmp_path / "f.npy", tmp_path / "none", [2, 4])
    computed = open_features(images, asked, CPU, tmp_path / "empty.npy", lite0, [2, 4])
    expected = {2: Shape(40, 8, 8), 4: Shape(320, 2, 32)}
    assert cached.shapes == computed.shapes == expected
    read, made = cached.features(ALL[:16]), computed.features(ALL[:16])
    assert list(read) == list(made) == [2, 4]
    for stage in (2, 4):
        assert torch.equal(read[stage], made[stage])
        assert read[stage].is_contiguous(memory_format=torch.channels_last)


def test_one_map_lays_the_coarser_stages_over_the_finest() -> None:
    """Each value of a stage of half the side is near four positions of the finer one."""
    draw = np.random.default_rng(0)
    fine, coarse = draw.normal(size=(3, 8, 8, 2)), draw.normal(size=(3, 4, 4, 5))
    coarse[1] = 7.0  # a constant stays one
    cache = cache_of({1: fine, 2: coarse})
    source = FeatureSource(np.zeros((3, 32, 32, 3), np.uint8), CPU, cache=cache)
    nearest, found = (
        source.one_map(np.arange(3), mode).permute(0, 2, 3, 1).numpy()
        for mode in ("nearest", "bilinear")
    )
    assert np.array_equal(nearest[..., :2], found[..., :2])
    repeated = coarse.astype(np.float16).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)
    assert np.array_equal(nearest[..., 2:], repeated)
    assert found.shape == (3, 8, 8, 7)
    assert np.array_equal(found[..., :2], fine.astype(np.float16).astype(np.float32))
    assert (found[1, ..., 2:] == 7).all()
    # Bilinear: between the centres of two positions, three quarters of the nearer.
    z = coarse.astype(np.float16).astype(np.float64)
    rows = (3 * z[:, 1] + z[:, 2]) / 4
    expected = (3 * rows[:, 2] + rows[:, 1]) / 4
    np.testing.assert_allclose(found[:, 3, 4, 2:], expected, rtol=1e-5, atol=1e-6)


NORMALISE = ["none", "position", "image", "instance"]


def by_numpy(z: np.ndarray, how: str) -> np.ndarray:
    """Return features (B, h, w, C) as `features.normalise` says."""
    if how == "position":
        return z / np.sqrt(np.mean(z**2, axis=3, keepdims=True))
    if how == "image":
        return z / np.sqrt(np.mean(z**2, axis=(1, 2, 3), keepdims=True))
    if how == "instance":
        return (z - z.mean(axis=(1, 2), keepdims=True)) / z.std(axis=(1, 2), keepdims=True)
    return z


@pytest.mark.parametrize("how", NORMALISE)
def test_normalisation_is_numpys_and_every_reader_sees_it(how: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    every = {2: draw.normal(2, 3, (4, 4, 4, 6)), 3: draw.normal(0, 9, (4, 2, 2, 5))}
    cache = cache_of(every)
    np.save(tmp_path / "f.npy", cache)
    images = np.zeros((4, 32, 32, 3), np.uint8)
    asked = settings([2, 3], how)
    source = open_features(images, asked, CPU, tmp_path / "f.npy", tmp_path / "none", [2, 3])
    found = source.features(np.arange(4))
    for stage in every:
        raw = cache[str(stage)].astype(np.float64)
        z = found[stage].permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(z, by_numpy(raw, how), rtol=1e-4, atol=1e-5)
        assert np.array_equal(
            source.raw_features(np.arange(4))[stage].permute(0, 2, 3, 1).numpy(), raw
        )
    finest = source.one_map(np.arange(4), "nearest")[:, :6]
    assert torch.equal(finest, found[2])


@pytest.mark.parametrize("how", NORMALISE)
@pytest.mark.parametrize("value", [0.0, 5.0, 1e-7, 60_000.0])
def test_a_constant_image_has_defined_features(how: str, value: float) -> None:
    """A black image: vectors of zeros stay zeros, and nothing becomes infinite."""
    z = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    z[0] = value
    found = normalised(z, how)
    assert found.isfinite().all()
    if value == 0 or how == "instance":
        assert found[0].abs().max() < 1e-2
    if value == 0:
        assert not found[0].any()
    if value == 5 and how in ("position", "image"):
        torch.testing.assert_close(found[0], torch.ones(3, 4, 4))
    torch.testing.assert_close(found[1], normalised(z[1:], how)[0])  # of each image alone


def test_a_single_empty_position_stays_empty() -> None:
    z = torch.randn(1, 3, 2, 2)
    z[0, :, 1, 0] = 0
    found = normalised(z, "position")
    assert not found[0, :, 1, 0].any()
    rms = found.square().mean(1).sqrt()[0]
    assert rms.tolist() == [pytest.approx([1, 1]), pytest.approx([0, 1])]


def test_the_encoders_own_features_are_normalised_too(images: np.ndarray, lite0: Path) -> None:
    encoder = load_encoder(lite0, [3])
    source = FeatureSource(images, CPU, encoder=encoder, normalise="position")
    z = source.features(ALL[:3])[3]
    torch.testing.assert_close(z.square().mean(1), torch.ones(3, 4, 4))
