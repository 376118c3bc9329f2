"""Write what is generated: config.default.yaml, config.schema.json, and the lock files.

The locks hold the exact installed versions of what pyproject.toml asks for: requirements.lock with
the extras `dev`, `export` and `loggers`, those of `docs` and `peers` what these add, if installed
(`make docs peers`).
"""

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aeflow.core.errors import ConfigError
from aeflow.core.files import write_text
from aeflow.core.job import script
from aeflow.study.defaults import default_yaml, schema_json

HEADER = """\
# Exact versions of everything that pyproject.toml asks for, {what}.
# By `python scripts/write_generated.py --what locks`; CUDA's own packages: torch pins them.
"""
FROM_TORCH = ("nvidia-", "cuda-", "triton")


def write_generated(given: dict[str, list[str]]) -> None:
    """Write the files that `--what` names: config (without it) or locks."""
    [what] = given.pop("what", ["config"])
    if given or what not in ("config", "locks"):
        raise ConfigError("give `--what config` or `--what locks`")
    if what == "config":
        write_text(Path("config/config.default.yaml"), default_yaml())
        write_text(Path("config/config.schema.json"), schema_json())
    else:
        write_locks()


def write_locks() -> None:
    """Write every lock file."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    locked = (extras[name] for name in ("dev", "export", "loggers"))
    base = closure(sum(locked, project["dependencies"]))
    _write(Path("requirements.lock"), "with its extras `dev`, `export` and `loggers`", base)
    for extra in ("docs", "peers"):
        try:
            needed = closure(extras[extra])
        except importlib.metadata.PackageNotFoundError:
            continue
        added = {name: version for name, version in needed.items() if name not in base}
        what = f"beside requirements.lock, with its extra `{extra}`"
        _write(Path(f"requirements-{extra}.lock"), what, added)


def _write(path: Path, what: str, locked: dict[str, str]) -> None:
    lines = [f"{name}=={version}" for name, version in sorted(locked.items())]
    write_text(path, HEADER.format(what=what) + "\n".join(lines) + "\n")


def closure(requirements: list[str]) -> dict[str, str]:
    """Return name and version of all installed packages that these requirements lead to."""
    found: dict[str, str] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or name.startswith(FROM_TORCH):
            continue
        distribution = importlib.metadata.distribution(name)
        found[name] = distribution.version
        for text in distribution.requires or []:
            child = Requirement(text)
            extras = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(child)
    return found


if __name__ == "__main__":
    script(write_generated)
