import numpy as np
import pandas as pd
import pytest

from aeflow.core.errors import DataError
from aeflow.questions.results import (
    headline,
    main_table,
    read_main,
    read_results,
    read_training,
    results_table,
    write_table,
)

CONTRACT = [
    "dataset",
    "category",
    "variant",
    "method",
    "encoder",
    "seed",
    "image_auroc",
    "image_aupr",
    "f1",
    "accuracy",
    "sensitivity",
    "specificity",
    "threshold",
    "oracle_f1",
    "pixel_auroc",
    "aupro",
    "n_train",
    "n_test_normal",
    "n_test_anomalous",
    "fit_seconds",
]


def test_results_begin_with_the_columns_others_rely_on(make_run):
    table = results_table([make_run(seed=3), make_run(variant="flow")])
    assert list(table.columns[:20]) == CONTRACT
    assert list(table["seed"]) == [3, 0]
    assert list(table["variant"]) == ["aeflow", "flow"]
    assert table.loc[0, ["image_auroc_low", "image_auroc_high"]].tolist() == [0.75, 0.85]


def test_null_is_an_empty_cell(make_run, tmp_path):
    run = make_run(image_auroc=None, best_epoch=None, encoder=None, intervals={})
    path = tmp_path / "results.csv"
    write_table(results_table([run]), path)
    header, row = (line.split(",") for line in path.read_text().splitlines())
    cells = dict(zip(header, row, strict=True))
    for empty in ("image_auroc", "best_epoch", "encoder", "aupro", "image_auroc_low"):
        assert cells[empty] == ""
    assert (cells["seed"], cells["n_train"], cells["f1"]) == ("0", "100", "0.6")


def test_categories_are_averaged_within_a_seed_first(make_run):
    auroc = {("a", 0): 0.8, ("b", 0): 0.6, ("a", 1): 0.9, ("b", 1): 0.7}
    runs = [make_run(category=c, seed=s, image_auroc=v) for (c, s), v in auroc.items()]
    (row,) = main_table(results_table(runs)).to_dict("records")
    # Seeds: 0.7 and 0.8. Over all four runs the sd would be 0.129.
    assert row["image_auroc_mean"] == pytest.approx(0.75)
    assert row["image_auroc_sd"] == pytest.approx(0.1 / np.sqrt(2))
    assert (row["n_seeds"], row["n_categories"]) == (2, 2)


def test_one_seed_has_no_sd(make_run):
    (row,) = main_table(results_table([make_run()])).to_dict("records")
    assert row["f1_mean"] == 0.6
    assert np.isnan(row["f1_sd"])


def test_the_headline_is_the_means_with_none_for_what_is_empty(make_run):
    means = main_table(results_table([make_run(image_auroc=0.75, pixel_auroc=None)]))
    (variants,) = headline(means).values()
    (metrics,) = variants.values()
    assert (metrics["image_auroc"], metrics["pixel_auroc"]) == (0.75, None)


def test_a_mean_needs_every_category(make_run):
    runs = [make_run(category="a", pixel_auroc=0.9), make_run(category="b", pixel_auroc=None)]
    (row,) = main_table(results_table(runs)).to_dict("records")
    assert np.isnan(row["pixel_auroc_mean"])
    assert row["f1_mean"] == pytest.approx(0.6)


def test_rows_keep_the_order_of_the_study(make_run):
    runs = [make_run(dataset=d, variant=v) for d in ("z", "a") for v in ("flow", "aeflow")]
    table = main_table(results_table(runs))
    assert list(table["dataset"] + table["variant"]) == ["zflow", "zaeflow", "aflow", "aaeflow"]


def test_several_threshold_rules_are_all_named(make_run):
    runs = [make_run(category="a"), make_run(category="b", threshold_rule="normal_quantile")]
    assert main_table(results_table(runs))["threshold_rule"].item() == "f1_max, normal_quantile"


def test_files_give_back_the_same_table(make_run, tmp_path):
    # A category called 01 and a variant called NA are names, and no digit of a number is lost.
    runs = [
        make_run(category="01", variant="NA", image_auroc=0.1 + 0.2, seed=seed) for seed in (0, 1)
    ]
    results = results_table([*runs, make_run(category="02", encoder=None, best_epoch=None)])
    write_table(results, tmp_path / "results.csv")
    pd.testing.assert_frame_equal(read_results(tmp_path / "results.csv"), results)
    main = main_table(results)
    write_table(main, tmp_path / "main.csv")
    again = read_main(tmp_path / "main.csv")
    assert list(again["variant"]) == ["NA", "aeflow"]
    assert list(again["image_auroc_mean"]) == list(main["image_auroc_mean"])


def test_wrong_input_is_named(make_run, tmp_path):
    with pytest.raises(DataError, match="Two metrics files describe tiles/all/aeflow/seed0"):
        results_table([make_run(), make_run(f1=0.1)])
    run = make_run()
    del run["aupro"]
    with pytest.raises(DataError, match="tiles/all/aeflow/seed0 lack aupro"):
        results_table([run])
    lacking = [make_run(category="a"), make_run(category="b"), make_run(category="a", seed=1)]
    with pytest.raises(DataError, match="seeds of tiles/aeflow lack a category"):
        main_table(results_table(lacking))
    with pytest.raises(DataError, match=r"results\.csv is missing"):
        read_results(tmp_path / "results.csv")
    (tmp_path / "results.csv").write_text("dataset\ntiles\n")
    with pytest.raises(DataError, match="other columns"):
        read_results(tmp_path / "results.csv")


def test_the_path_tells_which_run_was_trained(tmp_path):
    path = tmp_path / "train" / "tiles" / "01" / "flow" / "seed2.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"seed": 2}')
    run = {"dataset": "tiles", "category": "01", "variant": "flow", "seed": 2}
    assert read_training(path) == run
