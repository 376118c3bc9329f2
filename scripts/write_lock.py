"""Write the exact installed versions of what pyproject.toml asks for.

requirements.lock has the extra `dev`; requirements-peers.lock has what the extra `peers` adds.
"""

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aeflow.core.files import write_text
from aeflow.core.job import script

HEADER = """\
# Exact versions of everything that pyproject.toml asks for, {what}.
# Written by `python scripts/write_lock.py`. CUDA's own packages are left out: torch pins them.
"""
FROM_TORCH = ("nvidia-", "cuda-", "triton")


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


def main(_: list[str]) -> None:
    """Write both files; the second needs `make peers` first."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    base = closure(project["dependencies"] + extras["dev"])
    added = {name: v for name, v in closure(extras["peers"]).items() if name not in base}
    for path, what, locked in (
        ("requirements.lock", "with its extra `dev`", base),
        ("requirements-peers.lock", "beside requirements.lock, with its extra `peers`", added),
    ):
        lines = [f"{name}=={version}" for name, version in sorted(locked.items())]
        write_text(Path(path), HEADER.format(what=what) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    script(main)
