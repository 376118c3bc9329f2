"""Each rule has a script of its name, a function that takes what the rule has and no more."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from aeflow.core.schema import validate
from aeflow.core.types import Method
from aeflow.study import asked
from aeflow.study.cells import STEPS, reads, score_tables, trainings_of
from aeflow.study.study import Study

SHOWING = ("make_table", "plot_figure", "build_browse", "build_report", "log_runs")
BY_HAND = ("draw_heatmaps", "track", "write_demo_textures", "write_generated", "write_site")
ASKED = {
    "fetch_data": asked.FetchAsked,
    "prepare_images": asked.PrepareAsked,
    "prepare_masks": asked.PrepareAsked,
    "fetch_weights": asked.WeightsAsked,
    "extract_features": asked.FeaturesAsked,
    "train_model": asked.FitAsked,
    "score_images": asked.ScoreAsked,
    "fuse_scores": asked.FuseAsked,
    "evaluate_scores": asked.JudgeAsked,
}


@cache
def tree(step: str) -> ast.Module:
    return ast.parse(Path("scripts", f"{step}.py").read_text())


def parameters(step: str) -> dict[str, str]:
    """Return name -> type of a script's function, without importing the script."""
    (function,) = (
        node for node in tree(step).body if isinstance(node, ast.FunctionDef) and node.name == step
    )
    listed = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    assert all(argument.annotation for argument in listed)
    return {arg.arg: ast.unparse(arg.annotation) for arg in listed if arg.annotation}


@pytest.fixture(scope="module")
def types() -> dict[str, dict[str, str]]:
    """Step -> name -> type of the files that it may read, as a study of everything has them."""
    variants = [
        {"name": method.value, "method": method}
        for method in Method
        if method not in (Method.GRADIENT, Method.FUSION)
    ]
    corrected = {"score": {"correct": "complexity"}}
    variants += [
        {"name": "corrected", "settings": corrected},
        {"name": "base", "method": "gradient"},
        {"name": "plain_fusion", "method": "fusion", "members": ["aeflow"]},
        {"name": "corrected_fusion", "method": "fusion", "members": ["corrected"]},
    ]
    own = {"name": "own", "card": "folder_two", "source": "own", "seen": {"images": {"all": "1"}}}
    study = validate(Study, {"variants": variants, "datasets": [{"name": "btad"}, own]}, "study")
    jobs = [
        ("fetch_data", {"archive": "btad"}),
        *(
            (f"prepare_{what}", {"dataset": name, "category": category})
            for what in ("images", "masks")
            for name, category in (("btad", "01"), ("own", "all"))
        ),
        ("fetch_weights", {"encoder": "e"}),
        ("extract_features", {"dataset": "btad", "category": "01", "encoder": "e", "stages": "1"}),
    ]
    for table in score_tables(study):
        fused = bool(study.variant(table.variant).members)
        jobs.append(("fuse_scores" if fused else "score_images", table._asdict()))
        jobs.append(("evaluate_scores", table._asdict()))
        jobs += [("train_model", training._asdict()) for training in trainings_of(study, table)]
    read = [(step, reads(study, step, given)) for step, given in jobs]
    found: dict[str, dict[str, str]] = {step: {} for step in STEPS}
    for step in STEPS:
        ours = [files for name, files in read if name == step]
        for name in {name for files in ours for name in files}:
            given = [files.get(name) for files in ours]
            kind = "list[Path]" if any(isinstance(files, list) for files in given) else "Path"
            found[step][name] = kind if None not in given else f"{kind} | None"
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_steps_script_takes_what_the_step_reads_and_makes(
    step: str, types: dict[str, dict[str, str]]
) -> None:
    made = [*STEPS[step].makes, *(["state"] if step == "train_model" else [])]
    given = parameters(step)
    assert given.pop("asked") == ASKED[step].__name__
    paths = {name: kind for name, kind in given.items() if "Path" in kind}
    assert paths == types[step] | dict.fromkeys(made, "Path")
    others = {name: kind for name, kind in given.items() if "Path" not in kind}
    assert others == ({"workers": "int"} if step.startswith("prepare_") else {})


def test_rules_and_scripts_have_the_same_names() -> None:
    rules = "".join(path.read_text() for path in Path("workflow/rules").glob("*.smk"))
    named = re.findall(r"^rule (\w+):$", rules, re.MULTILINE)
    assert sorted(named) == sorted([*STEPS, *SHOWING])
    assert sorted(re.findall(r' run\("(\w+)"', rules)) == sorted(named)
    scripts = {path.stem for path in Path("scripts").glob("*.py")}
    assert scripts == {*named, *BY_HAND}


@pytest.mark.parametrize("step", [*STEPS, *SHOWING])
def test_a_script_runs_its_function_and_knows_of_the_study_what_it_was_asked(step: str) -> None:
    started = ast.unparse(tree(step).body[-1]).splitlines()
    assert started[0] == "if __name__ == '__main__':"
    assert started[-1] == f"    job({step})"
    imported = {
        name
        for node in ast.walk(tree(step))
        if isinstance(node, ast.ImportFrom)
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    }
    assert "aeflow.study.job.job" in imported
    texts = {node.value for node in ast.walk(tree(step)) if isinstance(node, ast.Constant)}
    assert not any("study.json" in str(text) for text in texts)
    # Settings reach a script by `asked` alone: what the rule's params record.
    own = {name for name in imported if str(name).startswith("aeflow.study.")}
    if step in SHOWING:
        assert parameters(step)["study"] == "Study"
    else:
        allowed = ("aeflow.study.asked", "aeflow.study.job", "aeflow.study.settings")
        assert {name for name in own if not str(name).startswith(allowed)} == set()


def test_what_is_asked_has_no_field_that_its_step_does_not_need() -> None:
    """Every model of what a step is asked for is a step's, or a part of one."""
    models = {
        name
        for name, value in vars(asked).items()
        if isinstance(value, type) and value.__module__ == asked.__name__
    }
    parts = {"Asked", "MemberAsked", "VariantAsked"}
    assert models == parts | {model.__name__ for model in ASKED.values()}
