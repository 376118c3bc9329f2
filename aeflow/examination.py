"""How files are compared with what they should hold, and what is wrong noted."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from aeflow.core.errors import AeflowError
from aeflow.core.files import read_json, sha256_file
from aeflow.core.receipts import read_recorded
from aeflow.differences import csv_content, differences


class Examination:
    """Comparisons of files.

    Attributes:
        findings: a sentence for each thing that is wrong.
    """

    def __init__(self) -> None:
        self.findings: list[str] = []
        self._seen: set[Path] = set()

    @property
    def examined(self) -> int:
        """Number of files that were looked at."""
        return len(self._seen)

    def _try(self, check: Callable[[], None]) -> None:
        """Note as a finding what keeps a check from being made."""
        try:
            check()
        except AeflowError as error:
            self.findings.append(" ".join(str(error).split()))  # YAML's have several lines

    def _read(self, path: Path, model: type[BaseModel]) -> dict[str, Any]:
        """Return a JSON's content; nothing if it is absent.

        Raises:
            DataError: it is no JSON, or lacks what `model` names.
        """
        if not path.exists():
            return {}
        self._seen.add(path)
        return read_recorded(path, model)

    def _compare(
        self, path: Path, found: Any, wanted: Any, verdict: str = "is not what is configured"
    ) -> bool:
        """Note where a file's content differs from `wanted`; keys that are not wanted may.

        Returns:
            Whether it does not differ; nothing, of a file that is absent, does not.
        """
        different = list(differences(found, wanted)) if found else []
        if different:
            more = f"; {len(different) - 3} more" if len(different) > 3 else ""
            self._find(path, f"{verdict} ({'; '.join(different[:3])}{more})")
        return not different

    def _compare_payload(
        self, path: Path, facts: dict[str, Any], payload: dict[str, Path]
    ) -> None:
        """Compare the SHA-256 of files that are here with what a JSON says."""
        for name, file in payload.items():
            if facts and file.exists():
                self._seen.add(file)
                if sha256_file(file) != facts.get(f"{name}_sha256"):
                    self._find(file, f"is not the file that {path} describes (another SHA-256)")

    def _compare_texts(self, made: Callable[[], dict[Path, str]], verdict: str) -> None:
        """Compare those of some files that are here with the text that is made again."""
        for path, text in made().items():
            if path.exists():
                self._try(partial(self._compare_text, path, text, verdict))

    def _compare_text(self, path: Path, text: str, verdict: str) -> None:
        self._seen.add(path)
        if path.suffix == ".json":
            self._compare(path, {"means": read_json(path)}, {"means": json.loads(text)}, verdict)
        elif path.suffix == ".csv":
            found = path.read_bytes().decode(errors="replace")
            self._compare(path, csv_content(found, path), csv_content(text, path), verdict)
        elif path.read_bytes() != text.encode():
            self._find(path, verdict)

    def _find(self, path: Path, what: str) -> None:
        self.findings.append(
            f"{path} {what}: restore it from git and DVC, or delete it and run snakemake."
        )
