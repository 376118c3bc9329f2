"""Whatever a configuration or a card holds: it is one, or one sentence says why not."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from aeflow.core.errors import ConfigError
from aeflow.core.schema import load_yaml, validate
from aeflow.core.text import UNSEEN
from aeflow.questions.source import Published
from aeflow.report import contents
from aeflow.study.cards import DATASET_CARDS, ENCODER_CARDS, PUBLISHED, DatasetCard, EncoderCard
from aeflow.study.cells import path, score_tables
from aeflow.study.study import Study, read_study
from tests.fuzz.budget import tried
from tests.fuzz.hostile import changed, damaged

CONFIGURATIONS = [Path("config/demo.yaml"), *sorted(Path("config/studies").glob("*.yaml"))]
STUDIES = [load_yaml(file) for file in CONFIGURATIONS]
CARDS = [load_yaml(file) for file in sorted(DATASET_CARDS.glob("*.yaml"))]
ENCODERS = [load_yaml(file) for file in sorted(ENCODER_CARDS.glob("*.yaml"))]
MANY = 3000  # cells of which no path is looked at one by one


def is_a_sentence(error: ConfigError, where: str = "it") -> None:
    text = str(error)
    assert UNSEEN.search(text) is None
    assert "\n" not in text
    assert len(text) < 6000
    assert text.endswith(("." if where == "it" else "", ")", ".", "?"))
    assert "Traceback" not in text
    assert "pydantic" not in text


@tried(500)
@given(changed(STUDIES))
def test_a_configuration_is_a_study_or_a_sentence(tmp_path_factory: Any, content: Any) -> None:
    try:
        study = validate(Study, content, "it")
        tables = score_tables(study)
        figures = contents.figures(study)
    except ConfigError as error:
        is_a_sentence(error)
        return
    places = [path(study, name, cell) for cell in tables[:MANY] for name in ("scores", "scored")]
    places += [Path(f"results/{study.study}/figures/{name}-{of}.svg") for name, of in figures]
    assert len({str(place).casefold() for place in places}) == len(places)
    for place in places:
        assert place.parts[:2] == ("results", study.study)
        assert ".." not in place.parts
        assert max(map(len, place.parts)) < 220
    written = tmp_path_factory.getbasetemp() / "study.json"
    written.write_text(study.model_dump_json())
    assert read_study(written) == study


@tried(80)
@given(changed(CARDS))
def test_a_card_is_one_or_a_sentence(content: Any) -> None:
    try:
        card = validate(DatasetCard, content, "it")
        for edition in card.editions.values():
            validate(DatasetCard, content | edition, "it")
    except ConfigError as error:
        is_a_sentence(error)
        return
    assert card.categories
    for file in card.files:
        assert not any(urlsplit(url).query for url in file.urls)


@pytest.mark.parametrize(
    ("model", "documents"), [(EncoderCard, ENCODERS), (Published, [load_yaml(PUBLISHED)])]
)
@tried(10)
@given(data=st.data())
def test_other_files_of_the_configuration_too(
    model: type[BaseModel], documents: list[Any], data: st.DataObject
) -> None:
    try:
        validate(model, data.draw(changed(documents)), "it")
    except ConfigError as error:
        is_a_sentence(error)


@tried(100)
@given(damaged([file.read_bytes() for file in (*CONFIGURATIONS, Path("config/config.yaml"))]))
@example(b"a: &a [*a]")
@example(b"? [a]\n: 1")
@example(b"a: 0x" + b"f" * 9000)
@example(b"a: 1:2:3:4.5:6")
@example(b"a: !!binary x\nb: !!set {a, b}\nc: !!omap [a: 1]\nd: !!timestamp x")
@example(b"%YAML 9.9\n---\na: 1")
@example(b"<<: 1")
def test_a_damaged_file_is_read_or_a_sentence(tmp_path_factory: Any, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "it.yaml"
    file.write_bytes(content)
    try:
        validate(Study, load_yaml(file), "it")
    except ConfigError as error:
        is_a_sentence(error, str(file))


SECRET = "S3CR3T"
secret_addresses = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http", "https", "file", "HTTP", "ftp", "", "h ttp"]),
        st.sampled_from(["://", ":/", "//", ":", ":///", "", ":\\\\"]),
        st.sampled_from([f"u:{SECRET}@", f"{SECRET}@", f"u:1{SECRET}/x@", f"u:{SECRET}?@", ""]),
        st.sampled_from(["host", "[::1]", "[::1", "h:1", "h:99999", "h:x", "", "h\\@x", "a b"]),
        st.sampled_from(["/x.zip", "/a/../x", "", "/é", "/@x", "/%40"]),
        st.sampled_from([f"?token={SECRET}", f"#{SECRET}=", f"?{SECRET}=", "?", ""]),
    ),
)


@tried(100)
@given(secret_addresses)
@example(f"http//{SECRET}@host/x.zip#{SECRET}=")
@example(f"{SECRET}@host/x.zip")
@example(f"u:1{SECRET}/x@host/x.zip")
def test_a_secret_in_an_address_is_refused_and_not_repeated(source: str) -> None:
    try:
        validate(Study, {"datasets": [{"name": "folder_two", "source": source}]}, "it")
    except ConfigError as error:
        is_a_sentence(error)
        source = str(error)
    assert SECRET not in source
