"""Tables are read as they were written, whatever their labels."""

import re

import numpy as np
import pandas as pd
import pytest

from aeflow.core.errors import DataError
from aeflow.display.table import (
    DisplayTable,
    best,
    by_variant,
    interval,
    number,
    percent,
    plain,
    points,
    read_table,
    typed,
    write_table,
)

NAN = float("nan")
STRANGE = [
    *("01", "NA", "", "nan", "True", "1e5", "a|b", "two\nlines", 'a, "b"', "[x]", " x "),
    *("=1+1", "@x", "'quoted", "''", "+x", "-cmd|' /C calc'!A0", "-0.5", "\tx", "#x", "50 % & _"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((percent(0.8312, 0.0044), "83.1 ± 0.4"), (percent(0.5), "50.0"), (percent(NAN), "")),
        *((interval(0.75, 0.85), "75.0–85.0"), (interval(NAN, NAN), ""), (points(-0.12), "−12.0")),
        *((points(0.05), "+5.0"), (points(NAN), ""), (number(-0.000123456), "-0.0001235")),
        *((number(12.345, 1), "12.3"), (number(NAN), ""), (number(pd.NA), ""), (number(7), "7")),
    ],
)
def test_formats(text, expected):
    assert text == expected


def strange_table():
    count = len(STRANGE)
    values = np.random.default_rng(0).random(count) * 10.0 ** np.arange(-8, count - 8)
    return typed(
        pd.DataFrame(
            {
                **{"defect": STRANGE, "reason": STRANGE[::-1], "chosen": [True, False, True] * 7},
                **{"n_seeds": [None, 2, 3] * 7, "beta": values, "f1": [0.1 + 0.2, None, 1] * 7},
            }
        )
    )


def written(table, folder):
    files = [folder / f"t.{ending}" for ending in ("csv", "md", "tex")]
    write_table(table, plain(table.astype("str"), "First.\nSecond."), *files)
    return files


def test_a_table_is_read_as_it_was_written(tmp_path):
    table = strange_table()
    csv, md, tex = written(table, tmp_path)
    pd.testing.assert_frame_equal(read_table(csv), table)
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}
    assert (kinds["n_seeds"], kinds["chosen"], kinds["beta"]) == ("Int64", "bool", "float64")
    # A spreadsheet takes none of it for a formula.
    raw = pd.read_csv(csv, dtype=str, keep_default_na=False)["defect"]
    assert not raw.str.match(r"[=@\t]|[+-](?![\d.]+$)").any()
    rows = md.read_text().split("\n\n")[0].splitlines()
    assert len(rows) == len(table) + 2
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {table.shape[1] + 1}
    assert md.read_text().endswith("\n\nFirst.\n\nSecond.\n")
    rows = [row for row in tex.read_text().splitlines() if row.endswith(r"\\")]
    assert len(rows) == len(table) + 1
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {table.shape[1] - 1}
    assert not any(row.startswith("[") for row in rows)  # would be an option of the row before


# What means something to a spreadsheet, Markdown, TeX, a terminal or whoever reads from right to
# left -> how it stands in CSV (read as text), Markdown and TeX.
DANGEROUS = {
    '=HYPERLINK("http://x.org")': ("'=HYP", '=HYPERLINK("http://x.org")', '=HYPERLINK("http'),
    " =1+1": ("' =1", "=1+1", "=1+1"),
    "＝1+1": ("'＝1", "＝1+1", "＝1+1"),
    "-2+3|cmd": ("'-2+", r"-2+3\|cmd", "-2+3|cmd"),
    r"\write18{rm x}": (r"\write", r"\\write18{rm x}", r"\textbackslash{}write18\{rm x\}"),
    "^^M^^J\\input x": ("^^M", "^^M^^J", r"\textasciicircum{}\textasciicircum{}M"),
    "<script>x</script>": ("<scr", "&lt;script>", "$<$script$>$x"),
    "[a](javascript:x)": ("[a](", r"\[a\](", "{[}a](javascript"),
    "a*b*`c`": ("a*b*", r"a\*b\*\`c\`", "a*b*`c`"),
    "a\nb | c": ("a\nb", r"a b \| c", "a b | c"),
    "a\u2028b\x0bc": ("a\\u20", r"a\\u2028b\\x0bc", r"a\textbackslash{}u2028b"),
    "evil\u202egnp.exe": ("evil\\u202e", r"evil\\u202egnp", r"evil\textbackslash{}u202egnp"),
    "\x1b[31mred\x00": ("\\x1b[3", r"\\x1b\[31mred\\x00", r"\textbackslash{}x1b{[}31mred"),
}


@pytest.mark.parametrize("text", DANGEROUS)
def test_text_means_nothing_where_it_is_shown(tmp_path, text):
    """In a cell, in the head of a column, and in the note."""
    in_csv, in_md, in_tex = DANGEROUS[text]
    table = typed(pd.DataFrame({"defect": [text, "x"], "f1": [0.5, 0.25]}))
    shown = plain(pd.DataFrame({text: [text, "x"], "F1": ["50.0", "25.0"]}), f"About {text}")
    csv, md, tex = (tmp_path / f"t.{ending}" for ending in ("csv", "md", "tex"))
    write_table(table, shown, csv, md, tex)
    assert pd.read_csv(csv, keep_default_na=False)["defect"][0].startswith(in_csv)
    assert read_table(csv)["defect"].tolist() == table["defect"].tolist()
    head, _, row, _, _, *note = md.read_text().splitlines()
    lines = tex.read_text().splitlines()
    for line in (head, row, *([" ".join(note)] if len(text.splitlines()) == 1 else [])):
        assert in_md in line
    assert sum(in_tex in line for line in lines if not line.startswith("%")) == 2
    assert [line for line in lines if line.startswith("% About")]
    written = (csv.read_text() + md.read_text() + tex.read_text()).replace("\n", "")
    assert written.isprintable()


def test_an_empty_table_keeps_its_columns(tmp_path):
    table = strange_table()[:0]
    csv, md, _ = written(table, tmp_path)
    pd.testing.assert_frame_equal(read_table(csv), table)
    assert "defect" in md.read_text()


@pytest.mark.parametrize(
    "content",
    ["", "f1,aupro\n1,2\n1,2,3\n", "f1\n<<<<<<< HEAD\n0.5\n", "n_seeds\n1.5\n", "f1\n\xff\n"],
)
def test_a_damaged_table_is_named(tmp_path, content):
    file = tmp_path / "main.csv"
    with pytest.raises(DataError, match=r"main\.csv is missing"):
        read_table(file)
    file.write_bytes(content.encode("latin1"))
    with pytest.raises(DataError, match=r"(?s)main\.csv holds what no rule writes .* restore it"):
        read_table(file)


def test_markdown_and_latex_say_the_same():
    cells = pd.DataFrame({"Name_1": ["a_b|c", "50% & #1"], "Value": ["1.0 ± 0.5", r"x\y^{~}$"]})
    marks = pd.DataFrame({"Name_1": [False, False], "Value": [True, False]})
    table = DisplayTable(cells, marks, "First.\nSecond.")
    markdown, latex = table.markdown(), table.latex()
    assert r"a_b\|c" in markdown
    assert "**1.0 ± 0.5**" in markdown
    assert r"Name\_1 & Value \\" in latex
    assert r"a\_b|c & \textbf{1.0 $\pm$ 0.5} \\" in latex
    assert r"50\% \& \#1 & x\textbackslash{}y\textasciicircum{}\{\textasciitilde{}\}\$ \\" in latex
    assert latex.startswith("% Needs booktabs, siunitx (3).\n% First.\n% Second.\n\\begingroup")
    assert "\\begin{tabular}{ll}" in latex
    assert all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert "longtable" in DisplayTable(cells, marks, long=True).latex()
    assert table.noting("Third.").note == "First.\nSecond.\nThird."
    assert plain(cells).noting("Only.").note == "Only."


def test_columns_of_numbers_are_aligned_by_siunitx():
    columns = {
        "AUROC": ["83.1 ± 0.4", "100.0 ± 10.0", ""],
        "Difference": ["+5.0", "−12.0", "0.0"],
        "p": ["<0.001", "0.17", "1.00"],
        "Seeds": ["3", "1", "1"],
        "Interval": ["75.0–85.0", "", ""],
    }
    cells = pd.DataFrame(columns)
    marks = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    marks.loc[0, "AUROC"] = True
    latex = DisplayTable(cells, marks).latex()
    forms = ["3.1(3)", "-2.1", "<1.3", "1"]
    assert "{" + "".join(f"S[table-format={form}]" for form in forms) + "l}" in latex
    lines = latex.splitlines()
    assert r"{AUROC} & {Difference} & {p} & {Seeds} & Interval \\" in lines
    assert r"\bfseries 83.1 \pm 0.4 & +5.0 & <0.001 & 3 & 75.0--85.0 \\" in lines
    assert r"100.0 \pm 10.0 & -12.0 & 0.17 & 1 &  \\" in lines
    assert lines[1].startswith(r"\begingroup\sisetup{separate-uncertainty")
    assert lines[-1] == r"\endgroup"  # and what it sets up ends there


def test_people_see_labels_where_variants_are_named():
    cells = pd.DataFrame({"Dataset": ["flow"], "Variant": ["flow"], "Reference": ["other"]})
    shown = plain(cells).labelled({"flow": "Ours (α)", "other": "other"})
    assert shown.cells.to_numpy().tolist() == [["flow", "Ours (α)", "other"]]


def test_columns_without_content_are_left_out_but_an_empty_table_keeps_its_header():
    assert list(plain(pd.DataFrame({"A": ["x"], "B": [""]})).cells.columns) == ["A"]
    assert list(plain(pd.DataFrame({"A": [], "B": []})).cells.columns) == ["A", "B"]


def test_the_best_of_a_group_is_that_of_what_is_printed():
    table = pd.DataFrame({"f1": [0.9001, 0.9004, 0.5, 0.7, NAN]})
    groups = pd.Series(["a", "a", "a", "b", "c"])
    assert best(table, ["f1"], groups)["f1"].tolist() == [True, True, False, False, False]


def test_a_column_per_variant():
    rows = [("x", "b", 0.5, 0.1), ("y", "b", 0.25, NAN), ("x", "a", 0.75, NAN)]
    table = pd.DataFrame(rows, columns=["defect", "variant", "f1_mean", "f1_sd"])
    labels = {"a": "a", "b": "Ours"}
    cells, values = by_variant(table, {"defect": "Defect"}, "f1", labels)
    assert cells.to_dict("list") == {
        **{"Defect": ["x", "y"], "Ours": ["50.0 ± 10.0", "25.0"], "a": ["75.0", ""]},
    }
    assert values["Ours"].tolist() == [0.5, 0.25]
