"""A secret goes to its host, and nowhere else (docs/security.md)."""

import json
import logging
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from aeflow.core.errors import AeflowError, ConfigError, DataError
from aeflow.core.schema import validate
from aeflow.data.download import Patience
from aeflow.data.fetch import fetch_dataset
from aeflow.study.cards import SourceFile
from aeflow.study.study import Study
from tests.unit.data.faulty_server import QUICK, Fault, Server, serving
from tests.unit.data.toy_dataset import MEMBERS, make_card, write_zip

BASIC = f"Basic {b64encode(b'user:pa55word').decode()}"


@pytest.fixture
def guarded(server: Server, source: Path) -> Server:
    """A server that gives toy.zip to who has the password."""
    server.files["/toy.zip"] = source.read_bytes()
    server.wanted = BASIC
    return server


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that writes ~/.netrc for a host, or removes it."""

    def write(host: str) -> None:
        path = tmp_path / "netrc"
        path.write_text(f"machine {host} login user password pa55word\n")
        monkeypatch.setenv("NETRC", str(path))

    return write


def fetch(server: Server, destination: Path, path: str = "/toy.zip", **options: str) -> bytes:
    fetch_dataset(make_card(), destination, None, server.url + path, patience=QUICK, **options)
    return destination.read_bytes()


def test_netrc_opens_a_server(
    guarded: Server, source: Path, destination: Path, netrc: Callable[[str], None]
) -> None:
    with pytest.raises(DataError, match="status 401"):
        fetch(guarded, destination)
    netrc("127.0.0.1")
    assert fetch(guarded, destination) == source.read_bytes()


@pytest.mark.parametrize("value", [BASIC, "Bearer t0ken", "?token=t0ken&x=1"])
def test_an_environment_variable_opens_a_server(
    guarded: Server,
    source: Path,
    destination: Path,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    guarded.wanted = value
    host = guarded.url.removeprefix("http://")
    monkeypatch.setenv("AEFLOW_AUTH", f"other.example.org Bearer other\n  {host}  {value}\n")
    guarded.faults["/toy.zip"] = [Fault(cut=2000), Fault(status=503)]
    guarded.faults["/moved"] = [Fault(redirect="/toy.zip")] * 3
    with caplog.at_level(logging.DEBUG):
        assert fetch(guarded, destination, "/moved") == source.read_bytes()
    assert "t0ken" not in caplog.text
    assert "other" not in str(guarded.got)


def test_what_is_for_one_host_is_sent_to_no_other(
    guarded: Server,
    destination: Path,
    netrc: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor to another port of the same machine, where AEFLOW_AUTH names the port."""
    host = guarded.url.removeprefix("http://")
    with serving() as stranger:
        elsewhere = stranger.url.replace("127.0.0.1", "localhost")
        for secret in ("Bearer t0ken", "?token=t0ken"):
            monkeypatch.setenv("AEFLOW_AUTH", f"{host} {secret}")
            guarded.wanted = secret
            guarded.faults["/moved"] = [Fault(redirect=f"{stranger.url}/toy.zip")]
            with pytest.raises(DataError, match="status 404"):
                fetch(guarded, destination, "/moved")
        monkeypatch.delenv("AEFLOW_AUTH")
        guarded.wanted = BASIC
        netrc("127.0.0.1")
        guarded.faults["/moved"] = [Fault(redirect=f"{elsewhere}/toy.zip")] * 2
        with pytest.raises(DataError, match="status 404"):
            fetch(guarded, destination, "/moved")
        netrc("nobody.example.org")
        mirror = guarded.url.replace("//", "//user:pa55word@")
        card = make_card(SourceFile(name="moved"))
        with pytest.raises(DataError, match="status 404"):
            fetch_dataset(card, destination, mirror, patience=QUICK)
        assert stranger.got == [(None, "")] * 4
        assert [got for got, _ in guarded.got[-2:]] == [BASIC, BASIC]


def test_a_mirror_may_have_user_password_and_query(
    guarded: Server, source: Path, destination: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = f"{guarded.url.replace('//', '//user:pa55word@')}/?token=t0ken#x"
    guarded.faults["/toy.zip"] = [Fault(redirect="/toy.zip"), Fault(cut=3000), Fault(status=404)]
    card = make_card(SourceFile(name="toy.zip"))
    with caplog.at_level(logging.DEBUG), pytest.raises(DataError) as caught:
        fetch_dataset(card, destination, mirror, patience=QUICK)
    kept = destination.with_name(".images.zip.toy.zip.json").read_text()
    assert json.loads(kept)["total"] == len(source.read_bytes())
    fetch_dataset(card, destination, mirror, patience=QUICK)
    assert destination.read_bytes() == source.read_bytes()
    for text in (str(caught.value), repr(caught.value.__cause__), caplog.text, kept):
        assert "pa55word" not in text
        assert "t0ken" not in text
    assert f"{guarded.url}/toy.zip?..." in str(caught.value)


@pytest.mark.parametrize(
    "mirror",
    [
        *("http://user:pa55?word@127.0.0.1/x", "http://user:pa55/word@127.0.0.1/x"),
        *("http://user:pa55 word@127.0.0.1:1/x", "http://[pa55word/x", "s3://user:pa55word@b/x"),
        *("http://127.0.0.1:pa55word/x", "https:///pa55word@x", "http://a:pa55word\\@127.0.0.1/"),
    ],
)
def test_a_mirror_that_is_wrong_is_not_shown(mirror: str, destination: Path) -> None:
    card = make_card(SourceFile(name="toy.zip"))
    with pytest.raises(ConfigError, match="AEFLOW_MIRROR is no URL or folder") as caught:
        fetch_dataset(card, destination, mirror, patience=Patience(1, 1, ()))
    assert "pa55" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "value", ["pa55word", "Bearer pa55word", "http://127.0.0.1 pa55word", "h x\x1bpa55word"]
)
def test_a_wrong_environment_variable_is_not_shown(
    guarded: Server, destination: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEFLOW_AUTH", value)
    with pytest.raises(AeflowError) as caught:
        fetch(guarded, destination)
    assert "pa55word" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        *("http://user:PW@host/x.zip?token=T", "http://user:PW@host/x.zip", "https://PW@host/x"),
        *("https://host/x.zip?token=PW", "https://host/x.zip#PW", "file:///x.zip?PW=1"),
        *("http://user:P W@host/x", "http://user:12/PW@host/x", "http://user:1?PW@host/x"),
        *("user:PW@host/x.zip", "//user:PW@host/x.zip", "http:/user:PW@host/x", "host/x?token=PW"),
        *("HTTPS://user:PW@host/x", "http://user:PW\\@host/x", "http://@host/?PW=1"),
    ],
)
def test_a_configuration_holds_no_secret(source: str) -> None:
    """Neither an overlay nor a card; and the sentence about it does not repeat it."""
    entry = {"name": "folder_two", "source": source}
    for model, content in (
        (Study, {"datasets": [entry]}),
        (SourceFile, {"name": "x.zip", "urls": [source]}),
    ):
        with pytest.raises(ConfigError) as caught:
            validate(model, content, "configuration")
        told = str(caught.value)
        assert "PW" not in told
        assert "Traceback" not in told
        assert caught.value.__suppress_context__
    assert "netrc" in told or "neither a URL" in told or "URL has no right" in told


def test_the_word_for_netrc_and_the_environment_variable() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(SourceFile, {"name": "x.zip", "urls": ["http://u:p@host/x.zip?a=b"]}, "card")
    assert "put user and password into ~/.netrc" in str(caught.value)
    assert "the environment variable AEFLOW_AUTH='<host> Bearer <token>'" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        *("https://host:8443/a%20b/x.zip", "file:///data/x.zip", "file://localhost/x"),
        *("data/x", "./a:b/x", "~/x"),
    ],
)
def test_an_address_without_a_secret_is_one(source: str) -> None:
    found = validate(Study, {"datasets": [{"name": "folder_two", "source": source}]}, "c")
    assert found.datasets[0].source == source


@pytest.mark.parametrize(
    "source",
    [
        *("~nosuchuser/x", "http://[::1/x", "http://h:99999/x", "", "\n"),
        *("file://data/x", "file://C:/x", "FILE://server/share", "file://"),
    ],
)
def test_what_is_no_address_is_a_sentence(source: str) -> None:
    with pytest.raises(ConfigError, match=r"^c: datasets\.0\.source: "):
        validate(Study, {"datasets": [{"name": "folder_two", "source": source}]}, "c")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"machine 127.0.0.1 login user pasword pa55word\n", ", line 1"),
        (b"\nmacdef init\npa55word\n", ", line 3"),
        (b"machine 127.0.0.1 login user password pa55\xff\n", ""),
    ],
)
def test_a_broken_netrc_is_told_where_a_server_wants_a_password(
    guarded: Server,
    destination: Path,
    content: bytes,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """requests passes over it without a word; its own words may be a password."""
    (tmp_path / "broken").write_bytes(content)
    monkeypatch.setenv("NETRC", str(tmp_path / "broken"))
    with pytest.raises(DataError, match=rf"/broken cannot be read{line}[).]") as caught:
        fetch(guarded, destination)
    assert "pa55" not in str(caught.value)
    guarded.wanted = None
    if line:  # nobody needs it
        fetch(guarded, destination)


def test_a_mirror_stands_for_official_files_only(
    source: Path, destination: Path, tmp_path: Path
) -> None:
    """Of two own folders of one name, and of an archive: none becomes the mirror's."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    write_zip(mirror / "toy.zip", {**MEMBERS, "toy/test/good/b.png": b"mirror"})
    (mirror / "images").mkdir()
    (mirror / "images/a.png").write_bytes(b"mirror")
    fetch_dataset(make_card(), destination, str(mirror), str(source))
    assert destination.read_bytes() == source.read_bytes()
    for name in ("a", "b"):
        folder = tmp_path / name / "images"
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(name.encode() * 100)
        fetch_dataset(make_card(), destination, str(mirror), str(folder))
        assert name.encode() * 100 in destination.read_bytes()
        assert b"mirror" not in destination.read_bytes()
    fetch_dataset(make_card(SourceFile(name="toy.zip")), destination, str(mirror))
    assert b"mirror" in destination.read_bytes()
