"""A private SLURM for all tests of this folder, and a study on it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.conftest import Repository, digest, once
from tests.workflow.slurm.private_slurm import LONG, TRAINED, OnSlurm, PrivateSlurm


@pytest.fixture(scope="session")
def running_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSlurm]:
    slurm = PrivateSlurm(tmp_path_factory.mktemp("slurm"))
    slurm.start()
    yield slurm
    slurm.stop()


@pytest.fixture
def slurm(running_slurm: PrivateSlurm) -> Iterator[PrivateSlurm]:
    """Both nodes are idle, now and after the test."""
    yield running_slurm
    running_slurm.restore_nodes()


@pytest.fixture
def cluster(slurm: PrivateSlurm, finished_tiny: Repository, tmp_path: Path) -> Iterator[OnSlurm]:
    """A finished tiny study, and `long.yaml` to be trained on the same features."""
    shutil.copytree(finished_tiny.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "long.yaml").write_text(LONG)
    cluster = OnSlurm(tmp_path, slurm)
    yield cluster
    cluster.end()


@pytest.fixture(scope="session")
def undisturbed(finished_tiny: Repository, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the long training's checkpoint, trained here in one go."""

    def train(folder: Path) -> None:
        shutil.copytree(finished_tiny.folder, folder, dirs_exist_ok=True)
        (folder / "long.yaml").write_text(LONG)
        Repository(folder).snakemake("--", TRAINED, overlay="long.yaml")

    return digest(once(tmp_path_factory, "undisturbed", train) / TRAINED)
