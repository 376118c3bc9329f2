"""The list holds: what it names is there, and each is made from what it declares."""

import re
import sys
from html import escape
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from aeflow.display.figure import Caption, Drawing
from aeflow.display.table import plain, read_table
from aeflow.report import contents
from aeflow.report.browse import write_browse
from aeflow.report.contents import FIGURES, TABLES, Entry
from aeflow.report.page import build_page
from aeflow.results import load
from aeflow.study.cells import path
from tests.unit.report.conftest import ROOT
from tests.unit.small_results import STUDY, small_study


def first_of(study, name):
    return next(of for figure, of in contents.figures(study) if figure == name)


def test_every_entry_has_its_functions_and_its_code():
    for name, entry in TABLES.items():
        module = import_module(f"aeflow.questions.{entry.module}")
        assert callable(getattr(module, f"{name}_table"))
        assert callable(getattr(module, f"{name}_display"))
    for name, entry in FIGURES.items():
        module = import_module(f"aeflow.questions.{entry.module}")
        assert callable(getattr(module, f"plot_{name}"))
    for name in [*TABLES, *FIGURES]:
        assert all((ROOT / file).is_file() for file in contents.code_of(name))
    assert set(contents.code_of("page")) > set(contents.code_of("claims"))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_made_from_its_inputs_alone_shown_and_read_back(
    study, name, folder, tmp_path, monkeypatch
):
    bring(contents.inputs(study, name), folder, tmp_path)
    monkeypatch.chdir(tmp_path)
    made = contents.maker(study)(name)
    shown = contents.show(study, name, made)
    written = read_table(folder / path(study, "csv", {"table": name}))
    pd.testing.assert_frame_equal(written, made)
    assert contents.show(study, name, written).markdown() == shown.markdown()
    lines = shown.markdown().split("\n\n")[0].splitlines()
    assert len(lines) == len(shown.cells) + 2  # no label broke a row, and none a column
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_from_its_inputs_alone(study, name, folder, tmp_path, monkeypatch):
    of = first_of(study, name)
    bring(contents.inputs(study, name, of), folder, tmp_path)
    bring(contents.galleries(study, name, of), folder, tmp_path)  # receipts stand for them
    monkeypatch.chdir(tmp_path)
    drawing = contents.draw(study, name, of)
    assert drawing.caption.dataset == of.split("+")[0]
    assert drawing.figure.axes


def bring(files, folder, to):
    for file in files:
        source = ROOT / file if file.parts[0] in ("aeflow", "config") else folder / file
        (to / file).parent.mkdir(parents=True, exist_ok=True)
        (to / file).symlink_to(source)


def test_what_is_asked_for(study):
    def names(name, attribute="variant"):
        cells = TABLES[name].cells(study, "")
        return list(dict.fromkeys(getattr(cell, attribute) for cell in cells))

    assert names("comparison") == ["aeflow", "flow", "gradient", "ensemble"]
    assert len(names("results")) == 10
    # Neither peers, baselines, ensembles of seeds, nor hundreds of scores of one training.
    assert names("choice") == ["aeflow", "flow", "flow_depth4", "flow_depth8"]
    figures = contents.figures(study)
    assert [of for name, of in figures if name == "roc"] == ["chest_xray", "tiles"]
    assert [of for name, of in figures if name == "categories"] == ["tiles"]
    assert [of for name, of in figures if name == "panels"][:2] == [
        *("chest_xray+all+aeflow", "chest_xray+all+flow")
    ]
    plain_study = small_study(ablations=[], datasets=[{"name": "chest_xray"}])
    kinds = {name for name, _ in contents.figures(plain_study)}
    assert kinds == FIGURES.keys() - {"ablations", "weighting", "categories"}


def test_a_label_stands_wherever_people_read_of_a_variant(folder, tmp_path, monkeypatch):
    """Tables, figures, the page and the page of images; data keep the names."""
    monkeypatch.chdir(folder)
    labels = {"aeflow": "OURS", "flow": "PART", "gradient": "ONE $^{", "ensemble": "MANY & MORE"}
    variants = [variant | {"label": labels[variant["name"]]} for variant in STUDY["variants"]]
    study = small_study(variants=variants)
    make = contents.maker(study)
    for name in TABLES:
        table = make(name)
        shown = contents.show(study, name, table)
        cells = {str(cell) for cell in shown.cells.to_numpy().ravel()} | {*map(str, shown.cells)}
        assert not any(
            re.fullmatch(r"(\w+ of )?(aeflow|flow|gradient|ensemble)(_\w+)?", cell)
            for cell in cells
        ), name
    assert {"aeflow", "flow_depth4"} <= {*make("choice")["variant"]}
    shown = contents.show(study, "choice", make("choice")).cells
    assert {"OURS", "PART depth4"} <= {*shown["Variant"]}
    assert r"MANY \& MORE" in contents.show(study, "main", make("main")).latex()
    for name in FIGURES:
        drawing = contents.draw(study, name, first_of(study, name))
        texts = [text.get_text() for text in drawing.figure.findobj(Text)]
        texts += [drawing.caption.title, drawing.caption.text]
        assert not [text for text in texts if re.search("aeflow|gradient|ensemble", text)], name
        drawing.save(tmp_path / f"{name}.svg")  # nothing in a label is a formula
    page = build_page(study)
    for answered in ("On chest_xray, ", "How well do "):
        following = page.partition(answered)[2][:8]
        assert following.startswith(tuple(escape(label)[:4] for label in labels.values()))
    assert not re.search(r"\b(aeflow|flow|gradient) has no anomaly map", page)
    write_browse(study, tmp_path / "index.html", tmp_path / "data")
    browsed = (tmp_path / "index.html").read_text()
    assert "Variants OURS, PART" in browsed
    assert '"label":"OURS, seed 0"' in browsed.replace(": ", ":")


def test_inputs_name_the_files_of_a_training_once(study):
    comparison = contents.inputs(study, "comparison")
    assert len(comparison) == len(set(comparison)) == 3 * (2 + 2 + 1 + 1)
    column = contents.inputs(study, "training", "tiles+01+flow")
    assert [file.name for file in column[:4]] == [
        *("seed0.json", "seed0.csv", "seed1.json", "seed1.csv")
    ]
    claims = contents.inputs(study, "claims")
    assert [file.as_posix() for file in claims] == [
        *("results/small/tables/main.csv", "results/small/tables/choice.csv"),
        *("config/published.yaml", "config/datasets/chest_xray.yaml", "config/datasets/btad.yaml"),
    ]
    corrected = {"score": {"correct": "complexity"}}
    variants = [{"name": "a", "settings": corrected}, {"name": "g", "method": "gradient"}]
    other = small_study(variants=variants, ablations=[])
    of = "chest_xray+all+a"
    assert Path("results/small/scores/chest_xray/all/g/seed0.csv") in contents.inputs(
        other, "scores", of
    )


def test_a_new_table_and_figure_are_functions_and_lines(study, monkeypatch):
    """The functions in a question's module, the lines in the list: two places."""
    module = ModuleType("aeflow.questions.sizes")
    module.sizes_table = lambda source: pd.DataFrame({"n_runs": [len(source.runs())]})
    module.sizes_display = lambda table, source: plain(table.astype("str"))
    module.plot_sizes = lambda source, dataset: Drawing(Figure(), Caption(dataset, "Sizes", ""))
    lines = (
        Entry("sizes", "sizes", ("metrics",), heading="Sizes"),
        Entry("sizes", "sizes", ("sizes",), each=FIGURES["roc"].each),
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(TABLES, "sizes", lines[0])
    monkeypatch.setitem(FIGURES, "sizes", lines[1])
    table = contents.maker(study)("sizes")
    assert contents.show(study, "sizes", table).cells.to_numpy().tolist() == [["18"]]
    assert contents.draw(study, "sizes", "tiles").caption.title == "Sizes"
    assert ("sizes", "chest_xray") in contents.figures(study)
    files = [file.as_posix() for file in contents.page_inputs(study)]
    assert "results/small/tables/sizes.csv" in files
    assert "results/small/figures/sizes-tiles.svg" in files


def test_the_page_names_what_its_examples_are_made_from(study):
    """Scores, and of galleries the receipts: a clone without payload has nothing to do."""
    shown = [file.as_posix() for file in contents.galleries(study, "page")]
    cells = ("chest_xray/all", "tiles/01", "tiles/02")
    variants = ("aeflow", "flow")  # not the gradient and the ensemble, which make no map
    names = [f"{cell}/{variant}/seed0" for cell in cells for variant in variants]
    assert shown == [f"results/small/galleries/{name}.npz" for name in names]
    files = [file.as_posix() for file in contents.page_inputs(study)]
    assert {f"results/small/scores/{name}.{end}" for name in names for end in ("csv", "json")} <= {
        *files
    }
    assert not {*shown} & {*files}


def test_a_table_is_read_as_it_was_written(study):
    """A category 01 is no number."""
    path(study, "study", {}).write_text(study.model_dump_json())
    found = load(f"results/{study.study}").table("results")
    assert {"01", "02"} <= set(found["category"])
