"""One-line faults that would change results without a word: does each turn a test red?

`python tests/mutants.py` puts each into a copy of the repository, runs the tests that should
notice it, and writes the table docs/mutants.md; `python tests/mutants.py NAME ...` tries only
these and writes nothing. A fault that survives lacks a test: write it, then name it here.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs/mutants.md"
PACKAGES = ("pytest", "hypothesis", "numpy", "pandas", "torch")
NOTE = """\
# Mutants

Faults of one line that would change results without a word, put into a copy of the repository one
after the other: each must turn a test red. The list is `MUTANTS` in `tests/mutants.py`; one that
survives lacks a test.

`make mutants` on {day}, {of} faults in {minutes:.1f} minutes, {dead} found. {versions}.

| fault | file | was, became | what turned red first, in `tests/unit/` | s |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        name: what is wrong, words joined by dashes.
        file: where.
        old: the sound code: part of a line, once in the file.
        new: the faulty code.
        tests: what should notice it, below tests/unit: files, or tests of one.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


_TRAINER = "training/test_trainer.py::test_"
MUTANTS = (
    Mutant(
        "an-image-at-the-threshold-is-normal",
        "aeflow/judging/metrics.py",
        "np.count_nonzero(curve.threshold >= threshold)",
        "np.count_nonzero(curve.threshold > threshold)",
        "judging/test_metrics.py::test_hand_computation",
    ),
    Mutant(
        "threshold-fitted-on-test-images",
        "aeflow/judging/evaluation.py",
        "fit_threshold(*known,",
        "fit_threshold(*judged,",
        "judging/test_evaluation.py::test_nothing_that_is_fitted_sees_test_labels_or_scores",
    ),
    Mutant(
        "ties-count-whole-in-the-auroc",
        "aeflow/judging/metrics.py",
        "(2 * curve.tp - new_tp)",
        "(2 * curve.tp)",
        "judging/test_metrics.py::test_hand_computation",
    ),
    Mutant(
        "aupro-cut-off-before-its-limit",
        "aeflow/scoring/pixel_metrics.py",
        "np.interp(fpr_limit, fpr, pro)",
        "pro[within][-1]",
        "scoring/test_pixel_metrics.py::test_linear_interpolation_at_the_limit_by_hand",
    ),
    Mutant(
        "sign-of-log-det",
        "aeflow/models/flow.py",
        "self.permutation), log_scale.sum",
        "self.permutation), -log_scale.sum",
        "models/test_flow.py::test_log_det_is_that_of_the_jacobian",
    ),
    Mutant(
        "sign-of-log-det-in-the-likelihood-of-a-position",
        "aeflow/models/components.py",
        "0.5 * LOG_2PI - log_det / z.shape[1]",
        "0.5 * LOG_2PI + log_det / z.shape[1]",
        "models/test_components.py::test_local_nll_is_scipys_density_at_each_position"
        "_and_its_mean_is_the_loss",
    ),
    Mutant(
        "noise-added-to-what-is-validated-and-scored",
        "aeflow/models/flow.py",
        "if self.training and self.noise:",
        "if self.noise:",
        "models/test_flow.py::test_noise_is_added_in_training_alone_and_after_the_standardisation",
    ),
    Mutant(
        "maps-of-stages-on-the-scale-of-training-normals",
        "aeflow/methods/aeflow.py",
        "for z, _ in self._batches(validation):",
        "for z, _ in self._batches(train):",
        "methods/test_aeflow.py::test_the_scales_are_of_what_validation_normals_score_by_hand",
    ),
    Mutant(
        "inverse-of-a-loaded-permutation-is-another-one's",
        "aeflow/models/flow.py",
        "self.inverse_permutation.copy_(self.permutation.argsort())",
        "self.inverse_permutation.copy_(self.inverse_permutation)",
        "models/test_flow.py::test_a_loaded_flow_gives_the_same_numbers_both_ways",
    ),
    Mutant(
        "scores-standardised-over-all-images",
        "aeflow/scoring/combine.py",
        "standardise(values, values[_validation_normals(table)], name)",
        "standardise(values, values, name)",
        "scoring/test_combine.py",
    ),
    Mutant(
        "order-of-an-epoch-not-seeded",
        "aeflow/training/trainer.py",
        "default_rng((self._seed, epoch))",
        "default_rng()",
        f"{_TRAINER}the_same_seed_gives_the_same_bytes_and_another_seed_others",
    ),
    Mutant(
        "first-weights-alike-for-every-seed",
        "scripts/train_model.py",
        "set_up(settings.training, asked.seed,",
        "set_up(settings.training, 0,",
        f"{_TRAINER}the_first_weights_follow_from_the_seed",
    ),
    Mutant(
        "best-epoch-chosen-by-the-training-loss",
        "aeflow/training/trainer.py",
        "self._validate(epoch, validation)",
        "self._validate(epoch, train)",
        f"{_TRAINER}the_losses_of_the_history_are_means_over_images",
    ),
    Mutant(
        "optimizer-forgotten-by-a-resumed-training",
        "aeflow/training/state.py",
        'tensor.copy_(parts[f"adam{number}"][key])',
        "tensor.copy_(tensor)",
        f"{_TRAINER}a_killed_training_ends_with_the_bytes_of_an_undisturbed_one",
    ),
    Mutant(
        "variants-of-another-loss-share-a-training",
        "aeflow/study/study.py",
        "self.fit_settings(dataset, variant.name).model_dump_json())",
        'self.fit_settings(dataset, variant.name).model_dump_json(exclude={"loss"}))',
        "study/test_study.py",
    ),
    Mutant(
        "mask-one-row-off",
        "aeflow/data/prepared.py",
        "self.masks[place] > 0",
        "self.masks[place - 1] > 0",
        "data/test_prepared.py::test_masks_belong_to_their_images",
    ),
    Mutant(
        "exif-orientation-ignored",
        "aeflow/data/image_files.py",
        "turn = TURNS.get(orientation)",
        "turn = None",
        "data/test_decode.py::test_exif_orientation",
    ),
    Mutant(
        "patient-in-two-splits-let-pass",
        "aeflow/data/splits.py",
        'shared = protocol == "official" and key.startswith(GROUP)',
        "shared = key.startswith(GROUP)",
        "data/test_splits.py::test_a_leak_is_an_error_but_a_patient_in_train_and_test_of_the"
        "_official_split",
    ),
    Mutant(
        "checksum-of-a-download-not-compared",
        "aeflow/data/fetch.py",
        'sha256.startswith(file.sha256 or "")',
        'sha256.startswith("")',
        "data/test_fetch.py",
    ),
    Mutant(
        "module-left-out-of-the-digest-of-the-code",
        "aeflow/core/code_digest.py",
        '("aeflow.data.download", "aeflow.report.contents")',
        '("aeflow.data.download", "aeflow.report.contents", "aeflow.judging.thresholds")',
        "core/test_code_digest.py",
    ),
    Mutant(
        "card's-layout-left-out-of-a-rule's-params",
        "aeflow/study/asked.py",
        'shaping = {"layout", "counts", "split"}',
        'shaping = {"counts", "split"}',
        "study/test_cells.py",
    ),
    Mutant(
        "seal-of-a-receipt-not-compared",
        "aeflow/core/receipts.py",
        'return self.seal == _seal(self.model_dump(by_alias=True, exclude={"seal"}))',
        "return bool(self.seal)",
        "core/test_receipts.py",
    ),
    Mutant(
        "payload-not-compared-with-its-receipt",
        "aeflow/core/receipts.py",
        "sha256_file(path) != receipt.sha256(path)",
        "not receipt.sha256(path)",
        "training/test_checkpoints.py::test_one_changed_bit_is_noticed",
    ),
    Mutant(
        "file-under-its-name-before-it-is-complete",
        "aeflow/scoring/score_tables.py",
        "    write_text(path, text)",
        "    path.write_text(text)",
        "test_layers.py::test_a_file_has_its_name_when_it_is_complete",
    ),
    Mutant(
        "warnings-in-the-order-of-a-set",
        "aeflow/core/receipts.py",
        "list(dict.fromkeys(warnings))",
        "list(set(warnings))",
        "core/test_receipts.py",
    ),
    Mutant(
        "a-category-without-a-number-skipped-in-the-mean",
        "aeflow/questions/curves.py",
        'groupby(["variant", "seed"])["image_auroc"].mean(skipna=False)',
        'groupby(["variant", "seed"])["image_auroc"].mean()',
        "questions/test_curves.py::test_roc_of_one_class_says_so",
    ),
    Mutant(
        "beta-chosen-by-the-test-auroc",
        "aeflow/questions/ablations.py",
        '{"": _best(sweep, "val_auroc"),',
        '{"": _best(sweep, "test_auroc"),',
        "questions/test_weighting.py",
    ),
)


def copy_repository(folder: Path) -> None:
    """Copy what git knows, as it is in the working tree."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[str | None, str]:
    """Run tests of a copy until one is red; return its name, None if none is, and the output.

    Raises:
        SystemExit: they could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(f"tests/unit/{test}" for test in tests)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        sys.exit(f"The tests {', '.join(tests)} cannot be run:\n{done.stdout}")
    if done.returncode == 0:
        return None, done.stdout
    lines = done.stdout.splitlines()
    red = next(line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR ")))
    return red.removeprefix("tests/unit/").partition("[")[0], done.stdout


def try_mutant(mutant: Mutant, folder: Path) -> tuple[str | None, float]:
    """Put a fault into a copy, run its tests, and take it out; return what is red, and seconds.

    Raises:
        SystemExit: the sound code is not there once, or the tests could not be run.
    """
    path, sound = folder / mutant.file, folder / "sound"
    text = path.read_text(encoding="utf-8")
    if (found := text.count(mutant.old)) != 1:
        sys.exit(f"{mutant.name}: `{mutant.old}` stands {found} times in {mutant.file}.")
    path.rename(sound)  # and back with its own time, by which Python knows what it compiled
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    started = time.monotonic()
    red, _ = run_tests(folder, mutant.tests.split())
    sound.replace(path)
    return red, time.monotonic() - started


def write_report(verdicts: dict[Mutant, tuple[str | None, float]], seconds: float) -> None:
    """Write docs/mutants.md."""
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in PACKAGES]
    dead = sum(red is not None for red, _ in verdicts.values())
    text = NOTE.format(
        day=date.today(),
        of=len(verdicts),
        minutes=seconds / 60,
        dead="all" if dead == len(verdicts) else dead,
        versions=", ".join(versions),
    )
    for mutant, (red, took) in verdicts.items():
        change = f"`{mutant.old.strip()}`<br>`{mutant.new.strip()}`"
        found = f"`{red}`" if red else "**nothing**"
        cells = (mutant.name.replace("-", " "), f"`{mutant.file}`", change, found, f"{took:.0f}")
        text += f"| {' | '.join(cells)} |\n"
    REPORT.write_text(text, encoding="utf-8")


def main(names: Sequence[str]) -> int:
    """Try the mutants of these names, or all; return 1 if one survives."""
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        sys.exit(f"There is no mutant {', '.join(sorted(unknown))}: see MUTANTS in this file.")
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    started = time.monotonic()
    verdicts: dict[Mutant, tuple[str | None, float]] = {}
    with TemporaryDirectory() as folder:
        copy_repository(Path(folder))
        tests = dict.fromkeys(test for mutant in chosen for test in mutant.tests.split())
        red, output = run_tests(Path(folder), list(tests))
        if red:
            sys.exit(f"{red} is red without any fault:\n{output}")
        for mutant in chosen:
            verdicts[mutant] = red, took = try_mutant(mutant, Path(folder))
            told = f"found by {red}" if red else "SURVIVED"
            print(f"{mutant.name}: {told} ({took:.0f} s)", flush=True)
    if not names:
        write_report(verdicts, time.monotonic() - started)
    return int(any(red is None for red, _ in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
