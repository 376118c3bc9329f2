import re

import pandas as pd
import pytest

from aeflow.display.table import (
    DisplayTable,
    main_display,
    number,
    percent,
    plain,
    results_display,
)
from aeflow.questions.results import main_table, results_table

NAN = float("nan")


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (0.8312, 0.0044, "83.1 ± 0.4"),
        (0.5, NAN, "50.0"),
        (NAN, NAN, ""),
        (1.0, 0.0, "100.0 ± 0.0"),
    ],
)
def test_percent(mean, sd, text):
    assert percent(mean, sd) == text


def test_number():
    assert number(-0.000123456) == "-0.0001235"
    assert number(12.345, 1) == "12.3"
    assert number(NAN) == ""


def bold(table: DisplayTable, column: str) -> list[bool]:
    return table.bold[column].tolist()


def test_the_best_of_each_dataset_is_bold(make_run):
    runs = [
        make_run(variant="aeflow", image_auroc=0.80, oracle_f1=0.99),
        make_run(variant="flow", image_auroc=0.9001, f1=0.7),
        make_run(variant="gradient", image_auroc=0.9004, encoder=None),  # equal as printed
        make_run(dataset="other", image_auroc=0.99),
    ]
    table = main_display(main_table(results_table(runs)))
    assert bold(table, "AUROC") == [False, True, True, False]  # a lone row beats nobody
    assert bold(table, "F1") == [False, True, False, False]
    assert not any(bold(table, "F1 (oracle)"))
    assert not any(bold(table, "Variant"))


def test_main_table_for_people(make_run):
    runs = [
        make_run(category=category, seed=seed, image_auroc=auroc)
        for category, seed, auroc in [("a", 0, 0.8), ("b", 0, 0.6), ("a", 1, 0.9), ("b", 1, 0.7)]
    ]
    table = main_display(main_table(results_table(runs)))
    (row,) = table.cells.to_dict("records")
    assert row["AUROC"] == "75.0 ± 7.1"
    assert row["F1 (oracle)"] == "90.0 ± 0.0"
    assert (row["Threshold"], row["Seeds"]) == ("f1_max", "2")
    assert "Pixel AUROC" not in row  # nobody has masks
    assert "tiles: mean over 2 categories" in table.note
    assert "validation" in table.note


def test_pixel_columns_appear_where_one_dataset_has_masks(make_run):
    runs = [make_run(), make_run(dataset="other", pixel_auroc=0.9, aupro=0.5)]
    cells = main_display(main_table(results_table(runs))).cells
    assert list(cells["Pixel AUROC"]) == ["", "90.0"]
    assert list(cells["AUPRO"]) == ["", "50.0"]


def test_results_for_people(make_run):
    unknown = make_run(seed=1, image_auroc=None, threshold=None, threshold_rule=None, intervals={})
    table = results_display(results_table([make_run(category="01"), unknown]))
    first, second = table.cells.to_dict("records")
    assert first["AUROC"] == "80.0"
    assert first["AUROC interval"] == "75.0–85.0"
    assert (first["Threshold"], first["Rule"], first["Fit (s)"]) == ("1.25", "f1_max", "12.5")
    assert (second["AUROC"], second["AUROC interval"], second["Threshold"]) == ("", "", "")


def test_markdown_and_latex_say_the_same():
    cells = pd.DataFrame({"Name_1": ["a_b|c", "50% & #1"], "Value": ["1.0 ± 0.5", r"x\y^{~}$"]})
    marks = pd.DataFrame({"Name_1": [False, False], "Value": [True, False]})
    table = DisplayTable(cells, marks, "First.\nSecond.")
    markdown, latex = table.markdown(), table.latex()
    assert r"a_b\|c" in markdown
    assert "**1.0 ± 0.5**" in markdown
    assert markdown.endswith("\n\nFirst.\n\nSecond.\n")
    assert r"Name\_1 & Value \\" in latex
    assert r"a\_b|c & \textbf{1.0 $\pm$ 0.5} \\" in latex
    assert r"50\% \& \#1 & x\textbackslash{}y\textasciicircum{}\{\textasciitilde{}\}\$ \\" in latex
    assert latex.startswith("% Needs booktabs.\n% First.\n% Second.\n\\begin{tabular}{ll}")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in latex
    assert "longtable" in DisplayTable(cells, marks, long=True).latex()


def test_every_latex_row_has_all_cells(make_run):
    runs = [make_run(variant=variant) for variant in ("ae_flow", "flow&co")]
    latex = main_display(main_table(results_table(runs))).latex()
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert r"flow\&co" in latex


def test_columns_without_content_are_left_out_but_an_empty_table_keeps_its_header():
    assert list(plain(pd.DataFrame({"A": ["x"], "B": [""]})).cells.columns) == ["A"]
    assert list(plain(pd.DataFrame({"A": [], "B": []})).cells.columns) == ["A", "B"]


def test_markdown_keeps_every_cell_as_it_is(make_run):
    table = results_display(results_table([make_run(category="01", threshold=0.00001)]))
    assert table.markdown().count("| 01 ") == 1  # a name, no number
    assert "| 1e-05 " in table.markdown()
    assert "| 60.0 " in table.markdown()
