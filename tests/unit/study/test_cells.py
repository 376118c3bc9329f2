"""Cells, the files of each step, and what each step may know of the configuration."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import ConfigError
from aeflow.core.schema import validate
from aeflow.study.cells import (
    PATHS,
    PAYLOAD,
    RECEIPTS,
    STEPS,
    Cell,
    asked,
    digest_of_shown,
    encoder_of,
    jobs_of,
    members_of,
    path,
    reads,
    receipts,
    score_tables,
    statistics_of,
    study_cells,
    table_of,
    trainings_of,
)
from aeflow.study.study import Study

SMALL = {"name": "small", "card": "pneumoniamnist", "edition": "64"}
CONTENT: dict[str, Any] = {
    "study": "s",
    "datasets": [SMALL],
    "seeds": [3, 4],
    "variants": [
        {"name": "one"},
        {"name": "beta", "settings": {"score": {"beta": 0.5}}},
        {"name": "base", "method": "gradient"},
        {"name": "peer", "method": "ganomaly"},
        {"name": "all", "method": "fusion", "members": ["beta", "base", "peer", "one"]},
        {"name": "deep", "method": "fusion", "members": ["beta"]},
    ],
}
STAGE = "data/{}features/wide_resnet50_2-stage3/small/all"


def study(**changes: Any) -> Study:
    return validate(Study, CONTENT | changes, "configuration")


def cell(variant: str, seed: int = 4) -> Cell:
    return Cell("small", "all", variant, seed)


def test_all_categories_in_one_are_one_model() -> None:
    """Beside those of single categories, where they are asked for too."""
    variants = [{"name": "flow", "method": "flow"}]
    for wanted in (["all"], ["bottle", "screw", "all"], None):
        entry = {"name": "mvtec_ad", "categories": wanted}
        found = study(datasets=[entry], variants=variants, seeds=[3])
        cells = study_cells(found)
        categories = wanted or found.categories("mvtec_ad")
        assert cells == score_tables(found)
        assert [cell.category for cell in cells] == categories
        assert len({path(found, "model", cell) for cell in cells}) == len(categories)
        assert ("all" in categories) == bool(wanted)
    one = Cell("mvtec_ad", "all", "flow", 3)
    assert path(found, "model", one) == Path(
        "results/s/models/mvtec_ad/all/flow/seed3.safetensors"
    )
    assert path(found, "images", one).parent == Path("data/prepared/mvtec_ad/all")


def of(variant: str, seed: int = 4) -> Mapping[str, Any]:
    """Return the wildcards of a job, as texts."""
    return {name: str(value) for name, value in cell(variant, seed)._asdict().items()}


def files(step: str, given: Mapping[str, Any], found: Study) -> dict[str, Any]:
    return {
        name: [file.as_posix() for file in read] if isinstance(read, list) else read.as_posix()
        for name, read in reads(found, step, given).items()
    }


def test_every_cell_and_those_with_a_table_of_their_own() -> None:
    seeds = {name: [3, 4] for name in ("one", "beta", "base", "peer", "all", "deep")}
    seeds |= {"base": [3], "deep": [3]}
    assert study_cells(study()) == [cell(name, seed) for name in seeds for seed in seeds[name]]
    shared = {cell("beta", 3), cell("beta", 4)}
    assert score_tables(study()) == [c for c in study_cells(study()) if c not in shared]
    assert table_of(study(), cell("beta")) == cell("one")
    assert table_of(study(), cell("base")) == cell("base", 3), "one table for all seeds"


def test_a_fusion_is_of_variants_seed_by_seed_or_of_one_variants_seeds() -> None:
    found = study()
    assert members_of(found, cell("all")) == [cell(n) for n in ("beta", "base", "peer", "one")]
    assert members_of(found, cell("deep", 3)) == [cell("beta", 3), cell("beta", 4)]
    assert [m.name for m in asked(found, "fuse_scores", of("deep", 3)).members] == [
        "seed3",
        "seed4",
    ]
    fused = asked(found, "fuse_scores", of("all")).members
    assert [(m.name, m.method, m.score.beta) for m in fused] == [
        ("beta", "aeflow", 0.5),
        ("base", "gradient", 0.9),
        ("peer", "ganomaly", 0.9),
        ("one", "aeflow", 0.9),
    ]
    assert trainings_of(found, cell("all")) == [cell("one"), cell("peer")]
    assert trainings_of(found, cell("deep", 3)) == [cell("one", 3), cell("one", 4)]
    assert trainings_of(found, cell("base")) == []
    assert trainings_of(found, cell("beta")) == [cell("one")]


def test_what_is_judged_with_a_score_table() -> None:
    judged = asked(study(), "evaluate_scores", of("one")).variants
    stage = "wide_resnet50_2-stage3"
    assert [(name, v.encoder, v.score.beta) for name, v in judged.items()] == [
        ("one", stage, 0.9),
        ("beta", stage, 0.5),
    ]
    encoders = {v.name: encoder_of(study(), "small", v.name) for v in study().variants}
    assert encoders == dict.fromkeys(encoders) | dict.fromkeys(("one", "beta"), stage)


def test_each_payload_has_one_path_and_one_receipt() -> None:
    assert len(set(PATHS.values())) == len(PATHS)
    made = [name for step in STEPS.values() for name in step.makes]
    made.remove("scores")  # by two steps, of different variants
    assert len(set(made)) == len(made)
    assert set(made) == set(RECEIPTS) == {*PAYLOAD, "scores", "history"}


def test_paths_below_the_names_of_a_cell() -> None:
    found = study()
    expected = {
        "study": "results/s/study.json",
        "archive": "data/raw/pneumoniamnist-64.zip",
        "prepared": "data/receipts/prepared/small/all.json",
        "features": f"{STAGE.format('')}.npy",
        "extracted": f"{STAGE.format('receipts/')}.json",
        "weights": "data/weights/wide_resnet50_2.safetensors",
        "model": "results/s/models/small/all/one/seed4.safetensors",
        "scored": "results/s/scores/small/all/one/seed4.json",
        "metrics": "results/s/metrics/small/all/one/seed4.json",
    }
    assert {name: path(found, name, cell("one")).as_posix() for name in expected} == expected
    assert path(found, "features", cell("one")) == path(found, "features", of("one"))
    for stages in ("2", "1-3-4"):
        words = {"encoder": "e", "stages": stages, "dataset": "small", "category": "all"}
        expected = Path(f"data/features/e-stage{stages}/small/all.npy")
        assert path(found, "features", words) == expected
    figure = {"figure": "roc", "of": "small+all+one"}
    assert path(found, "svg", figure) == Path("results/s/figures/roc-small+all+one.svg")


def test_what_each_step_reads() -> None:
    found = study()
    folder = "data/prepared/small/all"
    prepared = {"images": f"{folder}/images.npy", "index": f"{folder}/index.csv"}
    encoded = {
        "features": f"{STAGE.format('')}.npy",
        "weights": "data/weights/wide_resnet50_2.safetensors",
    }
    encoder = {"encoder": "wide_resnet50_2", "stages": "3", "dataset": "small", "category": "all"}
    fitted = {
        "model": "results/s/models/small/all/one/seed4.safetensors",
        "trained": "results/s/train/small/all/one/seed4.json",
    }
    scores = "results/s/scores/small/all/{}.csv"
    assert files("fetch_data", {"archive": "pneumoniamnist-64"}, found) == {}
    assert files("fetch_weights", {"encoder": "wide_resnet50_2"}, found) == {}
    assert files("prepare_images", {"dataset": "small", "category": "all"}, found) == {
        "archive": "data/raw/pneumoniamnist-64.zip"
    }
    masks = {"archive": "data/raw/pneumoniamnist-64.zip", "index": prepared["index"]}
    assert files("prepare_masks", {"dataset": "small", "category": "all"}, found) == masks
    masked = study(datasets=[{"name": "small", "card": "magnetic_tile", "source": "a.zip"}])
    read = files("score_images", of("base", 3), masked)
    assert read == prepared | {"masks": f"{folder}/masks.npy"}, "where the card tells of masks"
    assert files("extract_features", encoder, found) == {
        name: (prepared | encoded)[name] for name in ("images", "weights")
    }
    assert files("train_model", of("one"), found) == prepared | encoded
    assert files("score_images", of("one"), found) == prepared | encoded | fitted
    assert files("score_images", of("base", 3), found) == prepared, "nothing is fitted"
    tables = [scores.format(n) for n in ("one/seed4", "base/seed3", "peer/seed4", "one/seed4")]
    assert files("fuse_scores", of("all"), found) == {"members": tables}
    assert files("fuse_scores", of("deep", 3), found) == {
        "members": [scores.format("one/seed3"), scores.format("one/seed4")]
    }
    assert files("evaluate_scores", of("all"), found) == {
        "scores": scores.format("all/seed4"),
        "scored": "results/s/scores/small/all/all/seed4.json",
        "prepared": "data/receipts/prepared/small/all.json",
        "trained": [f"results/s/train/small/all/{n}/seed4.json" for n in ("one", "peer")],
    }


def test_payload_comes_with_the_receipt_that_names_it() -> None:
    named = {
        file.name: receipt.as_posix()
        for file, receipt in receipts(study(), "score_images", of("one"))
    }
    prepared = "data/receipts/prepared/small/all.json"
    assert named == {
        **dict.fromkeys(("images.npy", "index.csv"), prepared),
        "all.npy": f"{STAGE.format('receipts/')}.json",
        "wide_resnet50_2.safetensors": "data/receipts/weights/wide_resnet50_2.json",
        "seed4.safetensors": "results/s/train/small/all/one/seed4.json",
    }
    assert list(receipts(study(), "evaluate_scores", of("one"))) == [], "git has what it reads"


def test_a_correction_reads_the_complexity_of_the_same_images() -> None:
    corrected = {"name": "beta", "settings": {"score": {"correct": "complexity"}}}
    found = study(variants=[corrected if v["name"] == "beta" else v for v in CONTENT["variants"]])
    statistics = "results/s/scores/small/all/base/seed3.csv"
    assert statistics_of(found, cell("peer")) == cell("base", 3)
    for step, given in (
        ("evaluate_scores", of("one")),  # of whose table `beta` is judged
        ("fuse_scores", of("all")),
        ("fuse_scores", of("deep", 3)),
    ):
        assert files(step, given, found)["statistics"] == statistics, (step, given)
        assert "statistics" not in files(step, given, study())
    for given in (of("peer"), of("all"), of("base", 3)):
        assert "statistics" not in files("evaluate_scores", given, found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (of("beta"), "small/all/beta/seed4 shares the files of small/all/one/seed4: ask for"),
        (of("base"), "small/all/base/seed4 shares the files of small/all/base/seed3"),
        (of("beat"), "The study has no variant 'beat'"),
    ],
)
def test_a_cell_without_files_of_its_own_is_refused(given: Any, message: str) -> None:
    for step in ("score_images", "evaluate_scores"):
        with pytest.raises(ConfigError, match=message):
            reads(study(), step, given)


def json_by_job(found: Study) -> dict[tuple[str, str], str]:
    """Return what the params of every job of the study record."""
    jobs: dict[tuple[str, str], Mapping[str, Any]] = {
        ("fetch_data", ""): {"archive": "pneumoniamnist-64"},
        ("prepare_images", ""): {"dataset": "small", "category": "all"},
        ("fetch_weights", ""): {"encoder": "wide_resnet50_2"},
        ("extract_features", ""): {"dataset": "small", "category": "all", "stages": "3"},
    }
    for table in score_tables(found):
        if table.seed == 3:
            given, method = of(table.variant, 3), found.variant(table.variant).method
            scoring = "fuse_scores" if method == "fusion" else "score_images"
            jobs[scoring, table.variant] = jobs["evaluate_scores", table.variant] = given
            if method.fitted:
                jobs["train_model", table.variant] = given
    return {
        job: json.dumps(asked(found, job[0], given).as_json(), sort_keys=True)
        for job, given in jobs.items()
    }


FITTED = {(step, v) for step in ("train_model", "score_images") for v in ("one", "peer")}
SCORED = {("score_images", v) for v in ("one", "peer")}
JUDGED = {("evaluate_scores", v) for v in ("one", "base", "peer", "all", "deep")}
FUSED = {("fuse_scores", "all"), ("fuse_scores", "deep")}


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        ({"data": {"image_size": 64}}, {("prepare_images", "")}),
        ({"max_cache_gib": 1.0}, {("extract_features", "")}),
        ({"features": {"normalise": "image"}}, FITTED),  # the cache is of raw features
        ({"score": {"top_share": 0.5}}, JUDGED | FUSED | SCORED),
        ({"score": {"map": "nll"}}, JUDGED | FUSED | {("score_images", "one")}),
        ({"flow": {"steps": 3}}, FITTED),
        ({"training": {"threads": 1}}, FITTED),  # those of an extraction change no number
        ({"score": {"flow": "nll"}}, JUDGED | FUSED),
        ({"threshold": {"specificity": 0.9}}, JUDGED),
        ({"evaluation": {"bootstrap_replicates": 10}}, JUDGED),
        ({"evaluation": {"fpr_limit": 0.2}}, JUDGED | {j for j in FITTED if "score" in j[0]}),
        ({"analysis": {"reference": "peer"}}, set()),
        ({"study": "other"}, set()),
        ({"seeds": [3, 5]}, {("fuse_scores", "deep")}),
        ({"datasets": [SMALL | {"split": "official"}]}, {("prepare_images", "")}),
        ({"datasets": [SMALL | {"settings": {"flow": {"steps": 3}}}]}, FITTED),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_setting_reaches_the_steps_that_depend_on_it(changes: Any, jobs: set[Any]) -> None:
    before, after = json_by_job(study()), json_by_job(study(**changes))
    assert {job for job in before if before[job] != after[job]} == jobs


@pytest.mark.parametrize(
    ("step", "modules"),
    [
        ("prepare_images", ["data/prepare", "data/records"]),
        ("fetch_weights", ["encoder/weights"]),
    ],
)
def test_what_a_step_reads_of_a_card_is_recorded(step: str, modules: list[str]) -> None:
    """The name aside, where files are fetched, and what is only told."""
    given = {"dataset": "small", "category": "all", "encoder": "efficientnet_lite0"}
    found = asked(study(), step, given).as_json()
    code = "".join(Path("aeflow", f"{module}.py").read_text() for module in modules)
    read = set(re.findall(r"\bcard\.(\w+)", code)) - {"name", "check_categories", "weights"}
    read -= {"has_source", "notes"}
    assert len(read) > 2
    assert read <= found.get("card", found).keys()
    assert "card" in found or found["sha256"]


SEVERAL = {
    "study": "several",
    "datasets": [SMALL],
    "seeds": [3],
    "variants": [
        {"name": "one"},
        {"name": "three", "method": "gaussian", "settings": {"encoder": {"stages": [2, 3, 4]}}},
        {"name": "shared", "method": "padim", "settings": {"encoder": {"stages": [2, 3, 4]}}},
        {
            "name": "decoded",
            "settings": {
                "encoder": {"stages": [2, 4]},
                "decoder": {"target": "features", "stage": 1},
                "score": {"reconstruction": "residual_top", "top_share": 0.1},
            },
        },
        {
            "name": "flow_of_it",
            "method": "flow",
            "settings": {"encoder": {"stages": [2, 4]}, "decoder": {"target": "features"}},
        },
    ],
}


def test_a_variant_of_several_stages_is_one_training_of_one_cache() -> None:
    found = validate(Study, SEVERAL, "configuration")
    jobs = list(jobs_of(found))
    extracted = {given["stages"] for step, given in jobs if step == "extract_features"}
    # The decoder reads a stage that its flow does not; a flow alone does not read it.
    assert extracted == {"3", "2-3-4", "1-2-4", "2-4"}
    trained = [given["variant"] for step, given in jobs if step == "train_model"]
    assert sorted(trained) == ["decoded", "flow_of_it", "one", "shared", "three"]
    expected = {
        "one": "3",
        "three": "2-3-4",
        "shared": "2-3-4",
        "decoded": "1-2-4",
        "flow_of_it": "2-4",
    }
    for name, stages in expected.items():
        read = files("train_model", of(name, 3), found)["features"]
        assert read == f"data/features/wide_resnet50_2-stage{stages}/small/all.npy"
    words = {"dataset": "small", "category": "all", "encoder": "e", "stages": "1-2-4"}
    assert asked(found, "extract_features", words).stages == [1, 2, 4]
    # Tables name the stages of z.
    names = {name: encoder_of(found, "small", name) for name in expected}
    assert names["three"] == "wide_resnet50_2-stage2-3-4"
    assert names["decoded"] == names["flow_of_it"] == "wide_resnet50_2-stage2-4"


def test_a_scoring_is_asked_for_the_shares_and_maps_of_all_who_read_it() -> None:
    scores: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"top_share": 0.5, "map": "nll"},
        "c": {"top_share": 0.5, "map": "difference"},
        "d": {"top_share": 0.01, "map": "residual"},  # which it does not make
    }
    variants = [{"name": name, "settings": {"score": score}} for name, score in scores.items()]
    found = study(variants=variants)
    wanted = asked(found, "score_images", of("a", 3))
    assert wanted.top_shares == [0.01, 0.03, 0.5]
    assert wanted.maps == ["difference", "flow", "nll"]
    judged = asked(found, "evaluate_scores", of("a", 3)).variants
    maps = {name: variant.map for name, variant in judged.items()}
    assert maps == {"a": "flow", "b": "nll", "c": "difference", "d": "flow"}


def test_an_archive_is_known_by_its_bytes_and_not_by_its_place() -> None:
    def fetched(**changes: Any) -> Any:
        given = {"archive": "small" if "source" in changes else "pneumoniamnist-64"}
        return asked(study(datasets=[SMALL | changes]), "fetch_data", given).as_json()

    sha256 = "0" * 64
    assert fetched(source="/a") != fetched(source="/b")
    assert fetched(source="/a", sha256=sha256) == fetched(source="/b", sha256=sha256)
    card = study().card("small")
    assert fetched()["files"] == [card.files[0].sha256 or card.files[0].md5]
    assert fetched()["conversion"]["kind"] == "medmnist"


def test_tables_and_figures_know_all_but_how_images_came_about() -> None:
    same = [{"data": {"image_size": 64}}, {"datasets": [SMALL | {"sha256": "0" * 64}]}]
    other = [{"study": "t"}, {"seeds": [3, 5]}, {"analysis": {"reference": "peer"}}]
    other += [{"score": {"beta": 0.1}}, {"datasets": [SMALL | {"split": "official"}]}]
    assert {digest_of_shown(study(**changes)) for changes in same} == {digest_of_shown(study())}
    assert len({digest_of_shown(study(**changes)) for changes in [{}, *other]}) == 1 + len(other)
