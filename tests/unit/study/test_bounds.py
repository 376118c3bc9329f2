"""What nobody would mean is refused: vast, endless, twice, hidden, or reserved."""

import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import read_json
from aeflow.core.schema import MAX_DEPTH, label_fault, load_yaml, validate
from aeflow.questions.source import Published
from aeflow.study.cards import DATASET_CARDS, DatasetCard, EncoderCard, SourceFile
from aeflow.study.defaults import load_study
from aeflow.study.layouts import Layout
from aeflow.study.study import Study

CARD = load_yaml(DATASET_CARDS / "folder_mvtec.yaml")
MEDMNIST = load_yaml(DATASET_CARDS / "pneumoniamnist.yaml")
BRATS = load_yaml(DATASET_CARDS / "brats2021.yaml")
ENCODER = load_yaml(DATASET_CARDS.with_name("encoders") / "efficientnet_lite0.yaml")
FUSION = {"method": "fusion", "members": ["a", "b"]}
AB = [{"name": "a"}, {"name": "b", "settings": {"flow": {"steps": 2}}}]


def refused(model: Any, content: Any) -> str:
    """Return the one sentence that refuses content, told at once."""
    begin = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        validate(model, content, "it")
    assert time.monotonic() - begin < 5
    sentence = str(caught.value)
    assert sentence.startswith("it")
    assert "\n" not in sentence
    assert sentence.isprintable()
    assert len(sentence) < 2000
    return sentence


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"flow": {"hidden_channels": 1e12}}, "flow.hidden_channels: "),
        ({"flow": {"hidden_channels": 10**4000}}, "a number of more than 30 digits"),
        ({"training": {"epochs": 10**15}}, "training.epochs: "),
        ({"training": {"batch_size": 10**9}}, "training.batch_size: "),
        ({"training": {"threads": 10**6}}, "training.threads: "),
        ({"training": {"lr": "9" * 30_000}}, "a text of 30,000 characters"),
        ({"seeds": [2**40]}, "seeds.0: "),
        ({"seeds": list(range(2000))}, "seeds: "),
        ({"seeds": [0] * 10**6}, "more than 300,000 values"),
        ({"seeds": [float("nan"), float("inf")]}, "seeds.1: input should be a finite number"),
        ({"evaluation": {"bootstrap_replicates": 10**12}}, "evaluation.bootstrap_replicates"),
        ({"variants": [{"name": f"v{n}"} for n in range(120_000)]}, "more than 300,000"),
        ({"x" * 5000: 1}, "unknown key 'xxx"),
        ({f"key{n}": n for n in range(5000)}, "and 4990 more"),
    ],
)
def test_a_vast_value_is_refused_at_once(content: dict[str, Any], said: str) -> None:
    assert said in refused(Study, content)


def test_a_grid_that_nobody_could_run_is_refused_before_it_is_made() -> None:
    values = list(range(1000))
    ablation = {"name": "a", "of": "aeflow", "key": "flow.steps", "values": values}
    grid = ablation | {"across": {"loss.alpha": values, "score.beta": values}}
    assert "x 1000000002 variants x 3 seeds are more than" in refused(Study, {"ablations": [grid]})


def nested(depth: int, of: type) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found] if of is list else {"a": found}
    return found


@pytest.mark.parametrize("kind", [list, dict])
def test_what_is_nested_without_end_is_refused(kind: type, tmp_path: Path) -> None:
    assert "30 levels" in refused(Study, {"datasets": nested(100_000, kind)})
    for text in ("[" * 100_000, '{"a":' * 100_000, "- " * 100_000, "? " * 100_000):
        (tmp_path / "deep.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"deep\.yaml (has more than 30 levels|is no valid)"):
            load_yaml(tmp_path / "deep.yaml")
        (tmp_path / "deep.json").write_text(text)
        with pytest.raises(DataError, match=r"deep\.json is no valid JSON"):
            read_json(tmp_path / "deep.json")
    assert MAX_DEPTH == 30


def bomb(line: str, first: str, levels: int = 9) -> str:
    """Return YAML in which each line stands for nine of the line before."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {line.replace('*', f'*a{n - 1}')}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb(f"[{', '.join('*' * 9)}]", "[x]"),
        bomb(f"{{{', '.join(f'k{n}: *' for n in range(9))}}}", "{k: 1}"),
        bomb(f"{{<<: [{', '.join('*' * 9)}]}}", "{k: 1}"),
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a\n  <<: *a",
    ],
    ids=["lists", "mappings", "merges", "a list in itself", "a mapping in itself", "merged"],
)
def test_a_bomb_of_aliases_is_defused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bomb.yaml").write_text(text)
    begin = time.monotonic()
    with pytest.raises(ConfigError, match=r"bomb\.yaml: more than 300,000 values, its aliases"):
        load_yaml(tmp_path / "bomb.yaml")
    assert time.monotonic() - begin < 5


def test_a_bomb_that_another_program_unpacked_is_defused() -> None:
    """Snakemake reads the overlays: there an alias is the same object again."""
    found: Any = ["x"]
    for _ in range(9):
        found = [found] * 9
    assert "more than 300,000 values" in refused(Study, {"datasets": found})


def test_aliases_of_a_person_are_welcome(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a {b: 1}\nc: *a\nd: {<<: *a, b: 2}\n")
    assert load_yaml(tmp_path / "x.yaml") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 2}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: 2\na: 3\n", r"line 3: the key 'a' stands there twice, first in line 1"),
        (b"a: {b: 1, c: 2, b: 1}\n", r"line 1: the key 'b' stands there twice, first in line 1"),
        (b"a:\n\tb: 1\n", r"line 2: .*indented by blanks, not by tabs"),
        (b"title: caf\xe9\n", r", line 1: this is not UTF-8: save it as UTF-8"),
        (b"\xff\xfea\0:\0", r", line 1: this is not UTF-8"),
        (b"a: 1\nb: \x1b[31m\n", r", line 2: a character that cannot be seen \(U\+001B\)"),
        ("a: x\u202ey\n".encode(), r", line 1: a character that cannot be seen \(U\+202E\)"),
        (b"a: 2024-13-45\n", r"is no valid YAML: month must be in"),
        (b"a: " + b"9" * 5000, r"is no valid YAML: "),
        (b"a: !!python/object/apply:os.system [x]\n", r"is no valid YAML: line 1: "),
        (b"? [a, b]\n: 1\n? {c: d}\n: 2\n", r"is no valid YAML: line "),
        (b"--- 1\n--- 2\n", r"is no valid YAML: line 2: "),
        (b"a: *b\n", r"is no valid YAML: line 1: "),
        (b"#" * 2**23, "more than 4,194,304 bytes"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{path}.*{said}") as caught:
        load_yaml(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_folder_for_a_file_and_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_yaml(tmp_path / "empty.yaml") is None
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ConfigError, match=r"^configuration: input should be a valid dictionary"):
        load_study([tmp_path / "list.yaml"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"study": "logs"}, "study: results/logs/ is there for every study"),
        ({"study": "Benchmarks"}, "results/Benchmarks/ is there for every study"),
        ({"study": "bench"}, "results/bench/ is there"),
        ({"study": "con"}, "study: such a name is not free on every file system"),
        ({"study": "x.dvc"}, "study: such a name is not free on every file system"),
        ({"study": "x."}, "study: such a name is not free on every file system"),
        ({"datasets": [{"name": "nul.txt", "card": "btad"}]}, "datasets.0.name: such a name"),
        ({"datasets": [{"name": "btad"}, {"name": "BTAD", "card": "btad"}]}, "in case alone"),
        ({"variants": [{"name": "a"}, {"name": "A"}]}, "variants names a and A, which differ"),
        ({"datasets": [{"name": "btad", "categories": ["01", "01"]}]}, "names 01 twice"),
        ({"variants": [{"name": "a", "datasets": ["btad", "btad"]}]}, "names btad twice"),
        ({"variants": [*AB, {"name": "f", **FUSION, "members": ["a", "a"]}]}, "names a twice"),
        (
            {"variants": [*AB, {"name": "f", **FUSION}, {"name": "g", **FUSION}]},
            "variants: f and g are the same",
        ),
        (
            {
                "variants": [
                    *AB,
                    {"name": "f", **FUSION},
                    {"name": "g", **FUSION, "members": ["b", "a"]},
                ]
            },
            "variants: f and g are the same",
        ),
        ({"variants": [{"name": "gt_label"}]}, "tables have a column of that name"),
        ({"variants": [{"name": "Defect"}]}, "tables have a column of that name"),
        ({"flow": {"steps": True}}, "flow.steps: a number is needed"),
        ({"seeds": [0, True]}, "seeds: a number is needed"),
        ({"loss": {"alpha": False}}, "loss.alpha: a number is needed"),
        ({"study": 1}, "study: a text is needed: put it in quotes"),
        ({"study": date(2026, 1, 2)}, "study: a text is needed: put it in quotes"),
        ({"study": None}, "study: input should be a valid string, not None"),
        ({"datasets": {"name": "btad"}}, "datasets: input should be a valid list, not a mapping"),
        (
            {"datasets": [{"name": "btad", "settings": {"flow": None}}]},
            "must be a mapping of keys",
        ),
        ({"variants": [{"name": "a", "settings": {"flow": None}}]}, "must be a mapping of keys"),
        ({"flow": None}, "flow: input should be a valid dictionary"),
        ({1: 2}, "keys should be strings, not 1"),
        ({"datasets": [{"name": "btad", "settings": {"flow": {None: 1}}}]}, "not None"),
        ({"study": "a\x1b[31m"}, "a character that cannot be seen (U+001B)"),
        ({"st\u202eudy": "a"}, "a character that cannot be seen (U+202E)"),
        ([], "input should be a valid dictionary"),
        (None, "input should be a valid dictionary"),
        ("study", "input should be a valid dictionary"),
    ],
)
def test_accepted_nonsense_is_refused(content: Any, said: str) -> None:
    if isinstance(content, dict) and "variants" in content:
        content = {"datasets": [{"name": "btad"}], "ablations": []} | content
    assert said in refused(Study, content)


@pytest.mark.parametrize(
    "value", [float("nan"), float("-inf"), [], [1], [1, True], [1, "a"], [[1, 2], 3], {"a": 1}]
)
def test_a_value_of_no_kind_is_one_sentence(value: Any) -> None:
    ablation = {"name": "d", "of": "aeflow", "key": "loss.alpha", "values": [0.1, value]}
    said = refused(Study, {"ablations": [ablation]})
    assert "ablations.0.values.1: a finite number, a text, true, false or null is needed" in said
    assert said.count("; ") == 0


def test_a_list_of_numbers_is_a_value_where_the_key_is_one() -> None:
    stages = {"name": "stages", "of": "aeflow", "key": "encoder.stages", "values": [3, [2, 3]]}
    names = [
        variant.name for variant in Study.model_validate({"ablations": [stages]}).all_variants
    ]
    assert names[-2:] == ["aeflow_stages3", "aeflow_stages2-3"]
    with pytest.raises(
        ConfigError, match=r"flow\.steps: input should be a valid integer, not a list"
    ):
        Study.model_validate({"ablations": [stages | {"key": "flow.steps"}]})


def test_an_ablation_of_nothing_after_one_of_something_is_a_sentence() -> None:
    depth = {"name": "d", "of": "aeflow", "key": "flow.steps", "values": [1]}
    said = refused(Study, {"ablations": [depth, depth | {"name": "e", "of": "aeflwo"}]})
    assert "ablations[e].of names aeflwo, which is not in the study (did you mean aeflow?)" in said


def test_an_ablation_of_a_variant_without_a_mapping_is_a_sentence() -> None:
    ablation = {"name": "d", "of": "a", "key": "flow.steps", "values": [1]}
    variants = [{"name": "a", "settings": {"flow": None}}]
    said = refused(Study, {"variants": variants, "ablations": [ablation]})
    assert "variants[a].settings.flow must be a mapping of keys" in said


@pytest.mark.parametrize(
    ("model", "content", "said"),
    [
        (DatasetCard, CARD | {"counts": {"all": {"trian": 3}}}, "did you mean 'train'"),
        (DatasetCard, CARD | {"counts": {"all": {"train": 10**12}}}, "counts.all.train: "),
        (DatasetCard, CARD | {"counts": {"x$(touch F)": None}}, "counts.x$(touch F): a name is"),
        (DatasetCard, CARD | {"counts": {"../../x": None}}, "counts.../../x: a name is"),
        (DatasetCard, CARD | {"counts": {"a": None, "A": None}}, "differ in case alone"),
        (DatasetCard, CARD | {"homepage": "javascript:alert(1)"}, "a page begins with http://"),
        (DatasetCard, CARD | {"homepage": 'https://x"onclick="y'}, "a page begins with http://"),
        (DatasetCard, CARD | {"homepage": "data:text/html,x"}, "a page begins with http://"),
        (DatasetCard, CARD | {"title": "a\x00b"}, "a character that cannot be seen"),
        (DatasetCard, CARD | {"recipe": ["\x1b]0;x\x07"]}, "a character that cannot be seen"),
        (DatasetCard, CARD | {"homepage": 3}, "homepage: a text is needed"),
        (
            DatasetCard,
            MEDMNIST | {"conversion": {"kind": "medmnist", "clases": ["a", "b"]}},
            "did you mean 'classes'",
        ),
        (DatasetCard, MEDMNIST | {"conversion": {"kind": "mnist"}}, "conversion: "),
        (
            DatasetCard,
            MEDMNIST | {"conversion": {"kind": "medmnist", "classes": ["a b", "a-b"]}},
            "two classes have the same letters",
        ),
        (
            DatasetCard,
            BRATS | {"conversion": BRATS["conversion"] | {"percentiles": [99, 1]}},
            "0 <= low < high <= 100",
        ),
        (
            DatasetCard,
            BRATS | {"conversion": BRATS["conversion"] | {"stepp": 1}},
            "did you mean 'step'",
        ),
        (Layout, CARD["layout"] | {"normal": " "}, "normal: the label is empty"),
        (Layout, CARD["layout"] | {"normal": "a\nb"}, "normal: the label holds a character"),
        (Layout, CARD["layout"] | {"mask": "{defect:>999999999}"}, "mask: a field is the name"),
        (Layout, CARD["layout"] | {"mask": "{defect.__class__}"}, "mask: a field is the name"),
        (Layout, CARD["layout"] | {"mask": "{defect"}, "mask: "),
        (SourceFile, {"name": "../x.zip"}, "name: a name is"),
        (SourceFile, {"name": "x.zip", "size_bytes": 10**20}, "size_bytes: "),
        (EncoderCard, ENCODER | {"architecture": "hf-hub:x/y"}, "architecture: a name is"),
        (EncoderCard, ENCODER | {"sd": [0, 1, 1]}, "sd.0: "),
        (EncoderCard, ENCODER | {"mean": [True, 1, 1]}, "mean: a number is needed"),
        (
            Published,
            {
                "sources": {
                    "p": {
                        **{"title": "t", "citation": "c", "url": "javascript:x"},
                        **{"threshold": "not stated", "differs": "d"},
                    }
                },
                "numbers": [],
            },
            "sources.p.url: a page begins with http://",
        ),
        (Published, {"sources": {}, "numbers": [{"dataset": "a b", "who": "p"}]}, "a name is"),
    ],
)
def test_what_stands_on_a_card_is_not_trusted(model: Any, content: Any, said: str) -> None:
    assert said in refused(model, content)


@pytest.mark.parametrize(
    ("label", "fault"),
    [
        *(("", "is empty"), (" ", "is empty"), ("x" * 101, "has 101 characters, more than 100")),
        ("a\nb", "holds a character that cannot be seen (U+000A)"),
        ("a\tb", "holds a character that cannot be seen (U+0009)"),
        ("a\x00", "holds a character that cannot be seen (U+0000)"),
        ("a\u202eb", "holds a character that cannot be seen (U+202E)"),
        ("a\u200bb", "holds a character that cannot be seen (U+200B)"),
        ("\ud800", "holds a character that cannot be seen (U+D800)"),
        *((name, None) for name in ("good", "=1+1", "über 50 %", "a|b", "<b>", "\\write18", "新")),
    ],
)
def test_a_label_that_cannot_be_used_is_told_why(label: str, fault: str | None) -> None:
    assert label_fault(label) == fault


def test_a_study_of_one_hundred_categories_and_sixty_variants_is_none_of_these() -> None:
    variants = [{"name": f"v{n}", "settings": {"flow": {"steps": n % 8 + 1}}} for n in range(60)]
    datasets = [{"name": f"d{n}", "card": "btad"} for n in range(94)]
    found = validate(Study, {"variants": variants, "datasets": datasets, "ablations": []}, "it")
    assert json.loads(found.model_dump_json())["variants"][59]["name"] == "v59"


def test_a_key_with_a_line_break_is_shown_in_one_line() -> None:
    """Found by `make fuzz`: below `settings` keys came from another message."""
    variants = [{"name": "deep", "settings": {"a\nb": 3}}]
    with pytest.raises(ConfigError, match=r"^it: variants\[deep\]\.settings\.a b must be"):
        validate(Study, {"variants": variants}, "it")
