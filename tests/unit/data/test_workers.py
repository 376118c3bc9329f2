"""Arrays on disk whose rows are written in any order."""

import errno
from pathlib import Path

import numpy as np
import pytest

from aeflow.data.workers import create_rows, keep_rows, open_rows


@pytest.mark.parametrize("shape", [(0, 4, 4), (7, 5), (13, 3, 4, 2)])
def test_rows_in_any_order_are_the_file_that_numpy_writes(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "expected.npy", values)
    create_rows(tmp_path / "a.npy", shape)
    assert not np.load(tmp_path / "a.npy").any()
    with open_rows(tmp_path / "a.npy") as write:
        for row in np.random.default_rng(1).permutation(len(values)):
            write(int(row), values[row])
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


@pytest.mark.parametrize("kept", [[], [0], [3, 9, 11], list(range(12))])
def test_kept_rows_are_the_file_that_numpy_writes(tmp_path: Path, kept: list[int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (12, 3, 4), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "expected.npy", values[kept])
    keep_rows(tmp_path / "a.npy", kept)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_disk_space_is_reserved(tmp_path: Path) -> None:
    create_rows(tmp_path / "a.npy", (100, 100, 100))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 1_000_000
    with pytest.raises(OSError, match=r"\w") as caught:
        create_rows(tmp_path / "b.npy", (2**50,))
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
