"""Write what is generated: config.default.yaml, config.schema.json, and the lock files.

The locks hold exact versions and hashes of what pyproject.toml asks for. uv finds them, for every
platform and Python (uv.lock); requirements*.lock say the same to pip.
"""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from aeflow.core.errors import ConfigError
from aeflow.core.files import write_text
from aeflow.core.job import script
from aeflow.study.defaults import DEFAULTS, default_yaml, schema_json

PYPI = "https://pypi.org/simple"  # whatever this machine asks, the locks name this
HEADER = """\
# Of uv.lock, for `pip install --no-deps`: {what}.
# By `python scripts/write_generated.py --what locks`.
"""
# What torch wants; nvidia-ml-py is dvclive's, and of use without CUDA.
FROM_TORCH = re.compile(r"nvidia-(?!ml-py)|cuda-|triton")


def write_generated(given: dict[str, list[str]]) -> None:
    """Write the files that `--what` names: config (without it) or locks."""
    [what] = given.pop("what", ["config"])
    if given or what not in ("config", "locks"):
        raise ConfigError("give `--what config` or `--what locks`")
    if what == "config":
        write_text(DEFAULTS, default_yaml())
        write_text(Path("config/config.schema.json"), schema_json())
    else:
        write_locks()


def write_locks() -> None:
    """Write every lock file: uv.lock, and from it what pip reads.

    Versions stay what they are in uv.lock where that is possible.

    Raises:
        ConfigError: uv is not there, or found no versions that fit.
    """
    _uv("lock", "--default-index", PYPI)
    base = _exported("dev", "export", "loggers")
    cuda = {name: text for name, text in base.items() if FROM_TORCH.match(name)}
    _write("requirements.lock", "base, dev, export, loggers", base.keys() - cuda.keys(), base)
    _write("requirements-cuda.lock", "what torch of PyPI wants of CUDA", cuda.keys(), cuda)
    for extra in ("docs", "peers"):
        more = _exported(extra)
        _write(f"requirements-{extra}.lock", extra, more.keys() - base.keys(), more)


def _exported(*extras: str) -> dict[str, str]:
    """Return the lines of each package, with hashes, of the base and extras."""
    options = [f"--extra={extra}" for extra in extras]
    plain = ("--no-emit-project", "--no-header", "--no-annotate", "--quiet")
    text = _uv("export", "--frozen", *plain, *options)
    parts = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for part in filter(None, parts):  # several of one name: versions for several Pythons
        name = part.partition("==")[0]
        found[name] = found.get(name, "") + part
    return found


def _write(name: str, what: str, names: Iterable[str], texts: dict[str, str]) -> None:
    write_text(Path(name), HEADER.format(what=what) + "".join(texts[n] for n in sorted(names)))


def _uv(*command: str) -> str:
    try:
        done = subprocess.run(["uv", *command], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ConfigError("uv writes the locks and is not here: `pip install uv`.") from None
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"uv {command[0]}: {error.stderr.strip()}") from None
    return done.stdout


if __name__ == "__main__":
    script(write_generated)
