"""What the JSONs and `.dvc` files of a study must hold for others to be judged by them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import read_json
from aeflow.core.schema import load_yaml, validate


class Fetched(BaseModel):
    """Manifest of an archive."""

    placed_sha256: str


class Counts(BaseModel):
    """Numbers of images."""

    train: int


class Prepared(BaseModel):
    """Manifest of prepared images."""

    images_sha256: str
    masks_sha256: str
    index_sha256: str
    counts: Counts


class Weights(BaseModel):
    """Manifest of an encoder's weights."""

    sha256: str


class Features(BaseModel):
    """Manifest of features."""

    features_sha256: str
    images_sha256: str
    weights_sha256: str


class Training(BaseModel):
    """Summary of a training, a peer's too."""

    fit_seconds: float
    best_epoch: int | None
    peak_rss_mib: float | None
    versions: Mapping[str, str]


class Trained(Training):
    """Summary of a training that left a checkpoint."""

    model_sha256: str
    history_sha256: str


class Scored(BaseModel):
    """JSON beside a score table."""

    scores_sha256: str
    pixel: dict[str, dict[str, float | None]]


class Judged(BaseModel):
    """Metrics of a cell."""

    settings: dict[str, Any]


class Tracked(BaseModel):
    """One payload of a `.dvc` file."""

    path: str
    md5: str
    nfiles: int = 1


class DvcFile(BaseModel):
    """A `.dvc` file."""

    outs: list[Tracked] = Field(min_length=1)


def read_recorded(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """Return the content of a JSON, with keys that `model` does not name too.

    Raises:
        DataError: the file is missing, no JSON, or lacks what `model` names.
    """
    content = read_json(path)
    try:
        validate(model, content, str(path))
    except ConfigError as error:
        raise DataError(
            f"{error} Restore the file from git, or delete it and run snakemake."
        ) from error
    return dict(content)


def read_dvc_file(path: Path) -> list[Tracked]:
    """Return the payloads of a `.dvc` file.

    Raises:
        DataError: the file is no YAML, or says of no payload where it is and what its MD5 is.
    """
    try:
        return validate(DvcFile, load_yaml(path), str(path)).outs
    except (ConfigError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is no valid .dvc file ({error}): restore it from git, or delete it and run "
            "`python scripts/track.py`."
        ) from error
