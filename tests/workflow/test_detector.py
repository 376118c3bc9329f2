"""What was trained, packed as one file, and used on images: as the study scores them."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

import aeflow
from aeflow.cli import main
from aeflow.core.errors import AeflowError
from aeflow.data.prepared import open_prepared
from aeflow.detector.detector import Detector
from aeflow.scoring.combine import pred_score
from aeflow.scoring.score_tables import read_scores
from aeflow.study import cells
from aeflow.study.study import read_study
from tests.conftest import until
from tests.workflow.conftest import Repository

Say = Callable[..., tuple[int, str]]
BRICK = ("demo_textures", "brick")
BRICK_AEFLOW = ("demo_textures", "aeflow", "brick")


@pytest.fixture
def say(
    finished_tiny: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """Run `aeflow` in the folder of the tiny study; return its status and all it said."""
    monkeypatch.chdir(finished_tiny.folder)

    def run(*arguments: object) -> tuple[int, str]:
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


@pytest.fixture(scope="session")
def images(finished_tiny: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images of brick, as files."""
    folder = tmp_path_factory.mktemp("images")
    with ZipFile(finished_tiny.folder / "data/raw/demo_textures.zip") as archive:
        names = [n for n in archive.namelist() if n.startswith("demo_textures/brick/test/")]
        archive.extractall(folder, names)
    return folder / "demo_textures/brick/test"


def pack(say: Say, out: Path, variant: str, *more: str) -> Path:
    path = out / f"{variant}.safetensors"
    status, said = say(
        "pack", "tiny", BRICK[0], variant, "--category", BRICK[1], "--out", path, *more
    )
    assert status == 0, said
    return path


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def of_study(variant: str) -> tuple[dict[str, float], float | None]:
    """Return the scores of the test images by the end of their path, and the threshold."""
    study = read_study(Path("results/tiny/study.json"))
    cell = cells.Cell(*BRICK, variant, 0)
    table = cells.table_of(study, cell)
    asked = cells.asked(study, "evaluate_scores", table._asdict()).variants[variant]
    statistics = read_scores(cells.path(study, "scores", cells.statistics_of(study, cell)))
    scores = read_scores(cells.path(study, "scores", table))
    found = pred_score(scores, asked.method, asked.score, statistics)
    test = (scores["split"] == "test").to_numpy()
    judged = json.loads(cells.path(study, "metrics", table).read_text())["facts"]["variants"]
    ids = [name.partition("test/")[2].partition(".")[0] for name in scores["image_id"][test]]
    return dict(zip(ids, found[test], strict=True)), judged[variant]["threshold"]


@pytest.mark.parametrize(
    "variant", ["aeflow", "beta_half", "gradient", "ensemble", "both", "aeflow_correct_complexity"]
)
def test_new_images_get_the_scores_that_the_study_gives_them(
    say: Say, images: Path, tmp_path: Path, variant: str
) -> None:
    detector = pack(say, tmp_path, variant)
    status, said = say("predict", detector, images, "--out", tmp_path / "out", "--no-overlays")
    found = rows(tmp_path / "out")
    wanted, threshold = of_study(variant)
    assert status == 0
    assert f"{len(wanted)} images: " in said
    spread = np.ptp(list(wanted.values()))
    for row in found:
        name = row["path"].partition("test/")[2].partition(".")[0]
        assert float(row["pred_score"]) == pytest.approx(wanted[name], abs=2e-4 * spread), name
        assert row["verdict"] == ("anomalous" if wanted[name] >= threshold else "normal")
    assert len(found) == len(wanted)


def seeds_of(variant: str) -> list[np.ndarray]:
    """Return the standardised scores of the test images, of each seed, by hand."""
    study = read_study(Path("results/tiny/study.json"))
    found = []
    for seed in study.seeds:
        cell = cells.Cell(*BRICK, variant, seed)
        table = read_scores(cells.path(study, "scores", cells.table_of(study, cell)))
        score = study.cell(BRICK[0], variant).score
        values = pred_score(table, study.variant(variant).method, score)
        normals = values[(table["split"] == "validation") & (table["gt_label"] == 0)]
        found.append(((values - normals.mean()) / normals.std())[table["split"] == "test"])
    return found


def test_all_seeds_of_a_variant_are_one_detector(say: Say, images: Path, tmp_path: Path) -> None:
    """As the study's own fusion of them, and without the study having one."""
    listed = pack(say, tmp_path, "aeflow", "--ensemble")
    assert listed.read_bytes() == pack(say, tmp_path, "ensemble").read_bytes()
    paths = [*sorted(images.glob("good/*.png")), *sorted(images.glob("*/*.png"))]
    for variant in ("aeflow", "beta_half"):
        detector = Detector.load(pack(say, tmp_path, variant, "--ensemble"))
        assert [member.score.name for member in detector.facts.members] == ["seed0", "seed1"]
        wanted = dict(zip(of_study(variant)[0], np.mean(seeds_of(variant), axis=0), strict=True))
        names = [str(path).partition("test/")[2].partition(".")[0] for path in paths]
        found = detector.predictions(paths)["pred_score"]
        spread = np.ptp(list(wanted.values()))
        assert found.to_numpy() == pytest.approx([wanted[n] for n in names], abs=2e-4 * spread)
    for variant, why in (("gradient", "the same for every seed"), ("both", "several variants")):
        status, said = say(
            "pack", "tiny", *BRICK[:1], variant, "--category", "brick", "--ensemble"
        )
        assert (status, said.count("\n")) == (1, 1)
        assert why in said
    status, said = say("pack", "tiny", "demo_textures", "aeflow", "--ensemble", "--seed", 1)
    assert status == 2
    assert "--ensemble" in said


def test_a_fusions_map_is_the_mean_of_its_members_each_on_its_scale(
    say: Say, images: Path, tmp_path: Path
) -> None:
    fused = pack(say, tmp_path, "ensemble")
    alone = [pack(say, tmp_path / f"{seed}", "aeflow", "--seed", f"{seed}") for seed in (0, 1)]
    members, path = [Detector.load(each) for each in alone], min(images.glob("*/000.png"))
    study = read_study(Path("results/tiny/study.json"))
    cell = cells.Cell(*BRICK, "aeflow", 0)
    prepared = open_prepared(*(cells.path(study, name, cell) for name in ("images", "index")))
    known = [prepared.images[row] for row in prepared.validation_normals]
    by_hand, of_known = [], []
    for member in members:
        maps = np.array([member.map(image) for image in known])
        low = np.median(np.median(maps, axis=(1, 2)))
        limit = np.quantile(maps.max(axis=(1, 2)), 0.95)
        assert member.facts.map_scale == pytest.approx((low, limit), rel=1e-4)
        by_hand.append((member.map(path) - low) / (limit - low))
        of_known.append((maps - low) / (limit - low))
    detector = Detector.load(fused)
    assert np.allclose(detector.map(path), np.mean(by_hand, axis=0), atol=1e-3)
    highest = np.mean(of_known, axis=0).max(axis=(1, 2))
    assert detector.facts.map_scale[1] == pytest.approx(np.quantile(highest, 0.95), abs=1e-3)
    # Of a member without a map, the gradient, there is nothing in it.
    both = Detector.load(pack(say, tmp_path, "both"))
    assert np.allclose(both.map(path), by_hand[0], atol=1e-3)
    out = tmp_path / "out"
    assert say("predict", fused, path, "--out", out, "--maps", "npy")[0] == 0
    (saved,), (picture,) = (out / "maps").iterdir(), (out / "overlays").iterdir()
    assert np.allclose(np.load(saved), detector.map(path), atol=1e-4)
    assert Image.open(picture).width > 2 * Image.open(path).width


def test_maps_and_pictures_are_of_the_images(say: Say, images: Path, tmp_path: Path) -> None:
    detector = pack(say, tmp_path, "aeflow")
    out = tmp_path / "out"
    places = [images / "good/000.png", f"{images}/*/001.png"]
    assert say("predict", detector, *places, "--out", out, "--maps", "npy")[0] == 0
    loaded = Detector.load(detector)
    for number, row in enumerate(rows(out), start=1):
        (path,) = (out / "maps").glob(f"{number:05d}_*.npy")
        saved = np.load(path, allow_pickle=False)
        assert np.allclose(saved, loaded.map(row["path"]), atol=1e-4)
        (picture,) = (out / "overlays").glob(f"{number:05d}_*.png")
        width, height = Image.open(row["path"]).size
        assert Image.open(picture).size == (2 * width + 4, height + 18)


def test_what_cannot_be_used_is_told_by_the_exit_status(
    say: Say, images: Path, tmp_path: Path
) -> None:
    detector, archive = pack(say, tmp_path, "gradient"), tmp_path / "mine.zip"
    with ZipFile(archive, "w") as file:
        file.write(images / "good/000.png", "mine/a.png")
        file.writestr("mine/broken.png", b"\x89PNG no more")
    status, said = say("predict", detector, archive, "--out", tmp_path / "out")
    assert status == 3
    assert "1 could not be used" in said
    good, broken = rows(tmp_path / "out")
    assert good["verdict"] in ("normal", "anomalous")
    assert (bool(broken["error"]), broken["pred_score"]) == (True, "")


def test_the_page_of_predictions_shows_them_in_a_browser(
    say: Say,
    images: Path,
    tmp_path: Path,
    open_page: Callable[..., Any],
    check_accessible: Callable[..., None],
) -> None:
    detector, mine = pack(say, tmp_path, "aeflow"), tmp_path / "mine"
    mine.mkdir()
    for number in range(3):
        content = (images / f"good/00{number}.png").read_bytes()
        (mine / f"<i>{number}<script>.png").write_bytes(content)
    (mine / "broken.png").write_bytes(b"")
    out = tmp_path / "out"
    assert say("predict", detector, mine, "--out", out)[0] == 3
    page = open_page(out / "predictions.html", width=1000)
    page.locator(".card").first.wait_for()
    assert page.locator(".card").count() == 4
    assert page.locator(".card b.error").inner_text() == "could not be used"
    found = [row for row in rows(out) if row["pred_score"]]
    anomalous = sum(row["pred_label"] == "1" for row in found)
    assert page.locator(".A .metrics td").inner_text() == f"{anomalous} of 3"
    with page.expect_download() as download:
        page.locator("#save").click()
    with Path(download.value.path()).open(newline="") as file:
        saved = {row["path"]: row for row in csv.DictReader(file)}
    for row in rows(out):
        for name in ("pred_score", "p_value", "pred_label"):
            one, other = (float(each[name] or "nan") for each in (saved[row["path"]], row))
            assert one == pytest.approx(other, rel=1e-5, nan_ok=True)
    # The slider's verdict is the only one, and the overlay is beside it.
    page.locator(".A .limit").press("Home")
    until(page, "document.querySelectorAll('.card b.anomalous').length === 3")
    page.locator(".card b.anomalous").first.click()
    until(page, "document.querySelector('.detail').naturalWidth > 0")
    assert page.locator("#large .scores b").inner_text() == "anomalous"
    maps = page.locator("#large .map img")
    until(page, "document.querySelector('#large .map img:last-child').naturalWidth === 64")
    assert maps.first.get_attribute("src").startswith("data:image/jpeg")
    check_accessible(page)


def test_the_operating_point_is_that_of_the_validation_images(
    say: Say, images: Path, tmp_path: Path
) -> None:
    path = pack(say, tmp_path, "aeflow")
    given = ("predict", path, images, "--out", tmp_path / "out", "--no-overlays")
    status, said = say(*given, "--sensitivity", 0.9)
    assert status == 1
    assert "needs anomalous validation images, there are none" in said
    status, said = say(*given, "--threshold", "nan")
    assert (status, "nan is no score" in said) == (2, True)
    assert say(*given, "--specificity", 1.5)[1].startswith("aeflow: --specificity: ")
    gt_label, known = Detector.load(path).validation
    assert not gt_label.any()
    for option, quantile in (("--specificity", 0.5), ("--fpr", 0.25)):
        assert say(*given, option, quantile)[0] == 0
        limit = np.quantile(known, quantile if option == "--specificity" else 1 - quantile)
        for row in rows(tmp_path / "out"):
            assert (row["pred_label"] == "1") == (float(row["pred_score"]) >= limit)


def test_conventions_of_scikit_learn(say: Say, images: Path, tmp_path: Path) -> None:
    detector = Detector.load(pack(say, tmp_path, "aeflow"))
    paths = sorted(images.glob("*/00*.png"))
    pictures = [paths[0], str(paths[1]), *(np.asarray(Image.open(path)) for path in paths[2:])]
    table = detector.predictions(pictures)
    assert np.array_equal(detector.score_samples(pictures), -table["pred_score"])
    decided, called = detector.decision_function(pictures), detector.predict(pictures)
    assert np.array_equal(called == -1, table["pred_label"] == 1)
    assert np.array_equal(called == -1, decided <= 0)
    normals = detector.validation[1]
    for score, p_value in zip(table["pred_score"], table["p_value"], strict=True):
        assert p_value == pytest.approx((1 + (normals >= score).sum()) / (1 + len(normals)))


def test_a_study_is_read_from_python(say: Say, images: Path, tmp_path: Path) -> None:
    study = aeflow.load("results/tiny")
    main_table = study.table("main").set_index("variant")
    assert 0 < main_table.loc["aeflow", "image_auroc_mean"] <= 1
    for variant in ("aeflow", "ensemble", "aeflow_correct_complexity"):
        scores = study.scores("demo_textures", variant, "brick")
        test = scores[scores["split"] == "test"]
        assert np.allclose(test["pred_score"], list(of_study(variant)[0].values()))
    assert len(study.gallery("demo_textures", "aeflow", "brick")["image"])
    packed = aeflow.Detector.load(pack(say, tmp_path, "aeflow"))
    path = images / "good/000.png"
    one, other = (d.score_samples([path]) for d in (packed, study.detector(*BRICK_AEFLOW)))
    assert np.array_equal(one, other)
    with pytest.raises(AeflowError, match="has no table 'mian', but"):
        study.table("mian")
    with pytest.raises(AeflowError, match="has no variant 'x' here"):
        study.scores("demo_textures", "x", "brick")


def test_half_precision_is_half_the_size(say: Say, images: Path, tmp_path: Path) -> None:
    whole = pack(say, tmp_path, "aeflow")
    half = tmp_path / "half.safetensors"
    status, said = say(
        *("pack", "tiny", BRICK[0], "aeflow", "--category", BRICK[1], "--out", half, "--half")
    )
    assert status == 0
    told = re.search(r"scored again: no score .* than (\S+) % of their range, no verdict", said)
    whole_scores, half_scores = (_validation_scores(path) for path in (whole, half))
    apart = np.abs(whole_scores - half_scores).max() / np.ptp(whole_scores)
    assert float(told[1]) == pytest.approx(100 * apart, rel=0.1)
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    paths = sorted(images.glob("*/00*.png"))
    one, other = (Detector.load(path).predictions(paths) for path in (whole, half))
    assert np.allclose(one["pred_score"], other["pred_score"], rtol=0.02)


def _validation_scores(detector: Path) -> np.ndarray:
    study = read_study(Path("results/tiny/study.json"))
    cell = cells.Cell(*BRICK, "aeflow", 0)
    prepared = open_prepared(*(cells.path(study, name, cell) for name in ("images", "index")))
    known = [prepared.images[row] for row in prepared.rows("validation")]
    return Detector.load(detector).predictions(known)["pred_score"].to_numpy()


def test_a_file_that_is_no_detector_is_told_in_a_sentence(
    say: Say, images: Path, tmp_path: Path
) -> None:
    whole = pack(say, tmp_path, "aeflow")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    model = "results/tiny/models/demo_textures/brick/aeflow/seed0.safetensors"
    odd = tmp_path / "odd.safetensors"
    odd.write_bytes(whole.read_bytes().replace(b'"facts":"{', b'"facts":"['))
    for path, said in (
        (odd, "was not written by this program"),
        (cut, "is damaged"),
        (model, "is no detector: `aeflow pack` makes one"),
        (tmp_path / "gone", "is missing"),
    ):
        with pytest.raises(AeflowError, match=said):
            Detector.load(path)
    status, said = say("pack", "tiny", "demo_textures", "aeflwo")
    assert (status, "has no variant 'aeflwo' here" in said) == (1, True)
    assert "--category brick | gravel" in say("pack", "tiny", "demo_textures", "aeflow")[1]
    assert "is not there" in say("predict", whole, "nowhere", "--out", tmp_path / "out")[1]
