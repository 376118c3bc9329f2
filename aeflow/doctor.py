"""Whether configuration, payload and results of a study still belong together (`aeflow doctor`).

Independent of Snakemake's records and of DVC: every JSON is compared with the configuration and
with what it was made from, payload that is here with its checksums, and metrics and main tables
are computed again. What is absent is not judged, except results that others rest on.
"""

import importlib.metadata
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.cells import Cell, encoder_of, scored_as, study_cells, trainings_of
from aeflow.config import Study
from aeflow.differences import differences
from aeflow.dvc_files import dvc_md5, payload_files
from aeflow.errors import AeflowError
from aeflow.evaluation import JudgingSettings, evaluate_scores, read_scores
from aeflow.files import read_json, sha256_file
from aeflow.reporting.display import main_display, results_display
from aeflow.reporting.tables import headline, main_table, read_main, read_results, results_table
from aeflow.validation import load_yaml, validate

LOCKS = (Path("requirements.lock"), Path("requirements-peers.lock"))
DATA = Path("data")
MANIFESTS = DATA / "manifests"


class Doctor:
    """The examination of one study, in the folder of the repository.

    Attributes:
        findings: a sentence for each thing that is wrong.
        examined: number of files that were looked at.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.cards = study.load_cards()
        self.cells = study_cells(study, self.cards)
        self.folder = Path("results", study.study)
        self.findings: list[str] = []
        self.examined = 0
        self._locked = locked_versions()

    def examine(self) -> list[str]:
        """Look at everything that is here; return the findings."""
        trained = [training for cell in self.cells for training in trainings_of(self.study, cell)]
        dvc_files = sorted([*DATA.rglob("*.dvc"), *self.folder.glob("models/*.dvc")])
        checks = [
            *(partial(self._archive, entry.archive) for entry in self.study.datasets),
            *(partial(self._prepared, cell[:2]) for cell in self.cells),
            *(partial(self._weights, self._encoder(cell).name) for cell in trained),
            *(partial(self._features, (self._stage(cell), *cell[:2])) for cell in trained),
            *(partial(self._training, cell) for cell in trained),
            *(partial(self._scores, scored_as(self.study, cell)) for cell in self.cells),
            *(partial(self._metrics, cell) for cell in self.cells),
            *(partial(self._tracked, path) for path in dvc_files),
            partial(self._tables),
        ]
        # Cells share data and trainings: each is looked at once.
        for check in {(check.func.__name__, check.args): check for check in checks}.values():
            try:
                check()
            except AeflowError as error:
                self.findings.append(str(error))
        return self.findings

    def _archive(self, name: str) -> None:
        manifest = MANIFESTS / "raw" / f"{name}.json"
        facts = self._read(manifest)
        self._compare_payload(manifest, facts, {"placed": DATA / "raw" / f"{name}.zip"})

    def _prepared(self, key: tuple[str, str]) -> None:
        dataset, category = key
        manifest = self._prepared_manifest(dataset, category)
        facts = self._read(manifest)
        folder = DATA / "prepared" / dataset / category
        payload = {"images": "images.npy", "masks": "masks.npy", "index": "index.csv"}
        self._compare_payload(manifest, facts, {k: folder / n for k, n in payload.items()})
        archive = self._read(MANIFESTS / "raw" / f"{self.study.dataset(dataset).archive}.json")
        wanted = {
            "dataset": dataset,
            "category": category,
            "split": self.cards[dataset].split,
            "settings": self.study.data.model_dump(mode="json"),
            **_renamed(archive, placed_sha256="archive_sha256"),
        }
        self._compare(manifest, facts, wanted)

    def _weights(self, encoder: str) -> None:
        manifest = MANIFESTS / "weights" / f"{encoder}.json"
        facts = _renamed(self._read(manifest), sha256="weights_sha256")
        path = DATA / "weights" / f"{encoder}.safetensors"
        self._compare_payload(manifest, facts, {"weights": path})

    def _features(self, key: tuple[str, str, str]) -> None:
        stage, dataset, category = key
        manifest = self._features_manifest(stage, dataset, category)
        facts = self._read(manifest)
        path = DATA / "features" / stage / dataset / f"{category}.npy"
        self._compare_payload(manifest, facts, {"features": path})
        images = self._read(self._prepared_manifest(dataset, category))
        weights = self._read(MANIFESTS / "weights" / f"{stage.rpartition('-stage')[0]}.json")
        wanted = _renamed(images, images_sha256="images_sha256")
        self._compare(manifest, facts, wanted | _renamed(weights, sha256="weights_sha256"))

    def _training(self, cell: Cell) -> None:
        path = cell.file(self.folder / "train", "json")
        facts = self._read(path)
        method = self.study.variant(cell.variant).method
        settings = self.study.fit_settings(cell.dataset, cell.variant).model_dump(mode="json")
        if method.peer:  # scripts/fit_peer.py: a peer takes the encoder as it is
            settings["encoder"]["finetune"] = False
        features = self._read(self._features_manifest(self._stage(cell), *cell[:2]))
        images = self._read(self._prepared_manifest(*cell[:2]))
        same = {f"{name}_sha256": f"{name}_sha256" for name in ("features", "images", "weights")}
        wanted = {"method": method.value, "settings": settings, "seed": cell.seed}
        wanted |= _renamed(features, **same) | _renamed(images, index_sha256="index_sha256")
        self._compare(path, facts, wanted)
        if facts:
            self._compare_versions(path, facts.get("versions", {}))
        scores = cell.file(self.folder / "scores", "csv")
        if method.peer:
            self._compare_payload(path, facts, {"scores": scores})
            return
        history = cell.file(self.folder / "train", "csv")
        model = cell.file(self.folder / "models", "safetensors")
        self._compare_payload(path, facts, {"history": history, "model": model})
        scored = scores.with_suffix(".json")
        wanted = _renamed(facts, model_sha256="checkpoint_sha256")
        self._compare(scored, self._read(scored), wanted)

    def _scores(self, cell: Cell) -> None:
        scores = cell.file(self.folder / "scores", "csv")
        beside = scores.with_suffix(".json")
        self._compare_payload(beside, self._read(beside), {"scores": scores})

    def _metrics(self, cell: Cell) -> None:
        """Compute the metrics again, from the score table and with the settings they tell."""
        path = cell.file(self.folder / "metrics", "json")
        facts = self._read(path)
        if not facts:
            return
        configured = self.study.cell(cell.dataset, cell.variant).model_dump(mode="json")
        judging = {"score": configured["score"], "threshold": configured["threshold"]}
        judging["evaluation"] = self.study.evaluation.model_dump(mode="json")
        method = self.study.variant(cell.variant).method
        identity = {"study": self.study.study, **cell._asdict(), "method": method.value}
        identity["encoder"] = encoder_of(self.study, cell.dataset, cell.variant)
        self._compare(path, facts, identity | {"settings": judging})
        scores = scored_as(self.study, cell).file(self.folder / "scores", "csv")
        settings = validate(JudgingSettings, facts.get("settings"), f"{path}: settings")
        again = evaluate_scores(
            read_scores(scores),
            read_json(scores.with_suffix(".json")).get("pixel", {}),
            method=method,
            score=settings.score,
            threshold=settings.threshold,
            evaluation=settings.evaluation,
        )
        trainings = [
            read_json(training.file(self.folder / "train", "json"))
            for training in trainings_of(self.study, cell)
        ]
        again |= {
            "fit_seconds": sum(training["fit_seconds"] for training in trainings),
            "best_epoch": trainings[0]["best_epoch"] if len(trainings) == 1 else None,
            "peak_rss_mib": max((t["peak_rss_mib"] for t in trainings), default=None),
            "n_train": read_json(self._prepared_manifest(*cell[:2]))["counts"]["train"],
        }
        self._compare(path, facts, again, f"does not follow from {scores}")

    def _tables(self) -> None:
        """Compute the tables that rest on the metrics alone again."""
        tables, short = self.folder / "tables", self.folder / "metrics.json"
        if not (tables / "results.csv").exists():
            return
        metrics = [read_json(cell.file(self.folder / "metrics", "json")) for cell in self.cells]
        results = results_table(metrics)
        means = main_table(results)
        named = means[means["variant"].isin([variant.name for variant in self.study.variants])]
        stale = "does not follow from the metrics"
        for path, found, wanted in (
            (tables / "results.csv", _rows(read_results(tables / "results.csv")), _rows(results)),
            (tables / "main.csv", _rows(read_main(tables / "main.csv")), _rows(means)),
            (short, self._read(short), headline(means)),
        ):
            self.examined += 1
            self._compare(path, found, wanted, stale)
        shown = {"results": results_display(results), "main": main_display(named)}
        for name, display in shown.items():
            texts = {"md": display.markdown(), "tex": display.latex(long=name == "results")}
            for ending, text in texts.items():
                path = tables / f"{name}.{ending}"
                self.examined += 1
                if path.exists() and path.read_text(encoding="utf-8") != text:
                    self._find(path, stale)

    def _tracked(self, path: Path) -> None:
        """Compare a `.dvc` with its payload, where that is here as a whole."""
        for out in load_yaml(path)["outs"]:
            payload = path.parent / out["path"]
            here = payload_files(payload)
            if here and len(here) == out.get("nfiles", 1) and out["md5"] != dvc_md5(payload):
                self.findings.append(
                    f"{payload} is not what {path} records: `dvc checkout {payload}` brings that "
                    "back, `python scripts/track.py` records what is here."
                )
            self.examined += 1

    def _read(self, path: Path) -> dict[str, Any]:
        """Return a JSON's content; nothing if it is absent."""
        if not path.exists():
            return {}
        self.examined += 1
        return dict(read_json(path))

    def _compare(
        self, path: Path, found: Any, wanted: Any, verdict: str = "is not what is configured"
    ) -> None:
        """Note where a file's content differs from `wanted`; keys that are not wanted may."""
        if found and (different := list(differences(found, wanted))):
            more = f"; {len(different) - 3} more" if len(different) > 3 else ""
            self._find(path, f"{verdict} ({'; '.join(different[:3])}{more})")

    def _compare_payload(
        self, path: Path, facts: dict[str, Any], payload: dict[str, Path]
    ) -> None:
        """Compare the SHA-256 of files that are here with what a JSON says."""
        for name, file in payload.items():
            if facts and file.exists():
                self.examined += 1
                if sha256_file(file) != facts.get(f"{name}_sha256"):
                    self._find(file, f"is not the file that {path} describes (another SHA-256)")

    def _compare_versions(self, path: Path, versions: dict[str, str]) -> None:
        for name, version in versions.items():
            wanted = self._locked.get(name, version)
            if version.partition("+")[0] != wanted:
                self.findings.append(
                    f"{path} was made with {name} {version}, and the lock says {wanted}: install "
                    f"what the lock says, or train again (`snakemake --forcerun train_model`)."
                )

    def _find(self, path: Path, what: str) -> None:
        self.findings.append(f"{path} {what}: restore it from git and DVC, or run snakemake.")

    def _encoder(self, cell: Cell) -> Any:
        return self.study.fit_settings(cell.dataset, cell.variant).encoder

    def _stage(self, cell: Cell) -> str:
        encoder = self._encoder(cell)
        return f"{encoder.name}-stage{encoder.stage}"

    def _prepared_manifest(self, dataset: str, category: str) -> Path:
        return MANIFESTS / "prepared" / dataset / f"{category}.json"

    def _features_manifest(self, stage: str, dataset: str, category: str) -> Path:
        return MANIFESTS / "features" / stage / dataset / f"{category}.json"


def locked_versions() -> dict[str, str]:
    """Return the versions that the lock files pin, and that of this package."""
    pinned = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)$", re.MULTILINE)
    found = {"aeflow": importlib.metadata.version("aeflow")}
    for path in filter(Path.exists, LOCKS):
        found |= dict(pinned.findall(path.read_text(encoding="utf-8")))
    return found


def _renamed(facts: dict[str, Any], **names: str) -> dict[str, Any]:
    return {new: facts[old] for old, new in names.items() if old in facts}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, each under the names of its columns; missing is None."""
    plain = table.astype(object).where(table.notna() & (table != ""), None)
    return [{str(key): row[key] for key in row} for row in plain.to_dict("records")]
