"""Whether configuration, payload and results of a study still belong together (`aeflow doctor`).

Independent of Snakemake's records and of DVC: every JSON is compared with the configuration and
with what it was made from, payload that is here with its checksums, and metrics and tables are
computed again. What is absent is not judged, except results that others rest on.
"""

import importlib.metadata
import re
from functools import partial
from pathlib import Path
from typing import Any

from aeflow.core.receipts import (
    Features,
    Fetched,
    Judged,
    Prepared,
    Scored,
    Trained,
    Training,
    Weights,
    read_dvc_file,
    read_recorded,
)
from aeflow.core.schema import validate
from aeflow.dvc_files import dvc_md5, payload_files
from aeflow.examination import Examination
from aeflow.judging.evaluation import Identity, JudgingSettings, metrics_content
from aeflow.report.sources import from_metrics, from_their_csv
from aeflow.scoring.score_tables import read_cell_scores
from aeflow.study.cells import Cell, identity_of, judging_of, scored_as, study_cells, trainings_of
from aeflow.study.settings import EncoderSettings
from aeflow.study.study import Study

LOCKS = (Path("requirements.lock"), Path("requirements-peers.lock"))
DATA = Path("data")
MANIFESTS = DATA / "manifests"


class Doctor(Examination):
    """The examination of one study, in the folder of the repository.

    Attributes:
        without_scores: number of cells whose metrics were not computed again, as the score table
            is absent.
    """

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.without_scores = 0
        self.study = study
        self.cards = study.load_cards()
        self.cells = study_cells(study, self.cards)
        self.folder = Path("results", study.study)
        self._sound: dict[Cell, dict[str, Any]] = {}  # metrics that follow from their scores
        self._locked = locked_versions()

    def examine(self) -> list[str]:
        """Look at everything that is here; return the findings."""
        trained = [training for cell in self.cells for training in trainings_of(self.study, cell)]
        dvc_files = sorted([*DATA.rglob("*.dvc"), *self.folder.glob("*/*.dvc")])
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
            self._try(check)
        if not any([*self.folder.glob("*/*/*/*/seed*.json"), *self.folder.glob("tables/*")]):
            self.findings.append(
                f"No results of study {self.study.study} are in {self.folder}: was it run, and is "
                "--configfile missing?"
            )
        self.findings = list(dict.fromkeys(self.findings))  # two checks may miss the same file
        return self.findings

    def _archive(self, name: str) -> None:
        manifest = MANIFESTS / "raw" / f"{name}.json"
        facts = self._read(manifest, Fetched)
        self._compare_payload(manifest, facts, {"placed": DATA / "raw" / f"{name}.zip"})

    def _prepared(self, key: tuple[str, str]) -> None:
        dataset, category = key
        manifest = self._prepared_manifest(dataset, category)
        facts = self._read(manifest, Prepared)
        folder = DATA / "prepared" / dataset / category
        payload = {"images": "images.npy", "masks": "masks.npy", "index": "index.csv"}
        self._compare_payload(manifest, facts, {k: folder / n for k, n in payload.items()})
        raw = MANIFESTS / "raw" / f"{self.study.dataset(dataset).archive}.json"
        archive = self._read(raw, Fetched)
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
        facts = _renamed(self._read(manifest, Weights), sha256="weights_sha256")
        path = DATA / "weights" / f"{encoder}.safetensors"
        self._compare_payload(manifest, facts, {"weights": path})

    def _features(self, key: tuple[str, str, str]) -> None:
        stage, dataset, category = key
        manifest = self._features_manifest(stage, dataset, category)
        facts = self._read(manifest, Features)
        path = DATA / "features" / stage / dataset / f"{category}.npy"
        self._compare_payload(manifest, facts, {"features": path})
        images = self._read(self._prepared_manifest(dataset, category), Prepared)
        beside = MANIFESTS / "weights" / f"{stage.rpartition('-stage')[0]}.json"
        weights = self._read(beside, Weights)
        wanted = _renamed(images, images_sha256="images_sha256")
        self._compare(manifest, facts, wanted | _renamed(weights, sha256="weights_sha256"))

    def _training(self, cell: Cell) -> None:
        path = cell.file(self.folder / "train", "json")
        method = self.study.variant(cell.variant).method
        facts = self._read(path, self._summary(cell))
        settings = self.study.fit_settings(cell.dataset, cell.variant).model_dump(mode="json")
        if method.peer:  # scripts/fit_peer.py: a peer takes the encoder as it is
            settings["encoder"]["finetune"] = False
        features = self._read(self._features_manifest(self._stage(cell), *cell[:2]), Features)
        images = self._read(self._prepared_manifest(*cell[:2]), Prepared)
        same = {f"{name}_sha256": f"{name}_sha256" for name in ("features", "images", "weights")}
        wanted = {"method": method.value, "settings": settings, "seed": cell.seed}
        wanted |= _renamed(features, **same) | _renamed(images, index_sha256="index_sha256")
        self._compare(path, facts, wanted)
        if facts:
            self._compare_versions(path, facts["versions"])
        if method.peer:
            wanted = _renamed(facts, scores_sha256="scores_sha256")
        else:
            history = cell.file(self.folder / "train", "csv")
            model = cell.file(self.folder / "models", "safetensors")
            self._compare_payload(path, facts, {"history": history, "model": model})
            wanted = _renamed(facts, model_sha256="checkpoint_sha256")
        scored = cell.file(self.folder / "scored", "json")
        self._compare(scored, self._read(scored, Scored), wanted)

    def _scores(self, cell: Cell) -> None:
        scored = cell.file(self.folder / "scored", "json")
        facts = self._read(scored, Scored)
        payload = {"scores": "csv", "gallery": "npz"}
        files = {name: cell.file(self.folder / "scores", e) for name, e in payload.items()}
        self._compare_payload(scored, facts, files)
        for name in self.study.variant(cell.variant).members:
            member = scored_as(self.study, cell._replace(variant=name))
            read = self._read(member.file(self.folder / "scored", "json"), Scored)
            wanted = _renamed(read, scores_sha256=f"{name}_table_sha256")
            self._compare(scored, facts, wanted, "is not made from its members' scores")

    def _metrics(self, cell: Cell) -> None:
        """Compute the metrics again, from the score table and with the settings they tell.

        Where the table is absent, what they say that they were made from is compared.
        """
        path = cell.file(self.folder / "metrics", "json")
        facts = self._read(path, Judged)
        if not facts:
            return
        configured = identity_of(self.study, cell) | {"settings": judging_of(self.study, cell)}
        self._compare(path, facts, configured)
        scored = scored_as(self.study, cell)
        described = scored.file(self.folder / "scored", "json")
        if not scored.file(self.folder / "scores", "csv").exists():
            self.without_scores += 1
            made_from = _renamed(read_recorded(described, Scored), scores_sha256="scores_sha256")
            if self._compare(
                path, facts, made_from, f"is not made from what {described} describes"
            ):
                self._sound[cell] = facts
            return
        told = {name: facts.get(name) for name in Identity.model_fields}
        again = metrics_content(
            read_cell_scores(self.folder, scored),
            read_recorded(described, Scored),
            validate(Identity, told, str(path)),
            validate(JudgingSettings, facts["settings"], f"{path}: settings"),
            trainings=[
                read_recorded(
                    training.file(self.folder / "train", "json"), self._summary(training)
                )
                for training in trainings_of(self.study, cell)
            ],
            n_train=read_recorded(self._prepared_manifest(*cell[:2]), Prepared)["counts"]["train"],
        )
        if self._compare(path, facts, again, f"does not follow from {described}"):
            self._sound[cell] = facts

    def _tables(self) -> None:
        """Make the tables again: from the metrics, or the `.md` and `.tex` from their CSV."""
        tables = self.folder / "tables"
        for csv, made in from_their_csv(self.study, tables):
            self._try(partial(self._compare_texts, made, f"does not follow from {csv}"))
        if not any([*tables.glob("*.*"), *self.folder.glob("metrics.json")]):
            return
        if lacking := [cell for cell in self.cells if cell not in self._sound]:
            listed = [str(cell.file(self.folder / "metrics", "json")) for cell in lacking[:3]]
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            self.findings.append(
                f"{tables} cannot be compared with the metrics: {', '.join(listed)}{more} missing "
                "or wrong: restore from git, or delete and run snakemake; then examine again."
            )
            return
        for made in from_metrics(self.study, tables, [self._sound[cell] for cell in self.cells]):
            self._try(partial(self._compare_texts, made, "does not follow from the metrics"))

    def _tracked(self, path: Path) -> None:
        """Compare a `.dvc` with its payload, where that is here as a whole."""
        self._seen.add(path)
        for out in read_dvc_file(path):
            payload = path.parent / out.path
            here = payload_files(payload)
            if here and len(here) == out.nfiles and out.md5 != dvc_md5(payload):
                self.findings.append(
                    f"{payload} is not what {path} records: `dvc checkout {payload}` brings that "
                    "back, `python scripts/track.py` records what is here."
                )

    def _compare_versions(self, path: Path, versions: dict[str, str]) -> None:
        for name, version in versions.items():
            wanted = self._locked.get(name, version)
            if version.partition("+")[0] != wanted:
                self.findings.append(
                    f"{path} was made with {name} {version}, and the lock says {wanted}: install "
                    f"what the lock says, or train again (`snakemake --forcerun train_model`)."
                )

    def _summary(self, cell: Cell) -> type[Training]:
        return Training if self.study.variant(cell.variant).method.peer else Trained

    def _encoder(self, cell: Cell) -> EncoderSettings:
        return self.study.fit_settings(cell.dataset, cell.variant).encoder

    def _stage(self, cell: Cell) -> str:
        return self._encoder(cell).stage_name

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
