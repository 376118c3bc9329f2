"""Whatever lies in a folder or an archive of one's own: it is used, told of, or refused."""

import io
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given
from hypothesis import strategies as st

from aeflow.core.errors import AeflowError, DataError
from aeflow.data.archives import archive_members, is_hidden, open_archive, read_member, stamp
from aeflow.data.records import Found, check_labels, find_records
from aeflow.study.cards import DATASET_CARDS, DatasetCard, load_dataset_card
from tests.fuzz.budget import tried

CARDS = {name: load_dataset_card(f"folder_{name}") for name in ("mvtec", "two", "list")}
WORDS = st.sampled_from(
    [
        *("train", "Train", "test", "tests", "good", "Good", "hole", "normal", "anomalous"),
        *("ground_truth", "ground-truth", "day 1", "ä", "a", "..", ".hidden", "-rf", "$(touch x)"),
    ]
)
NAMES = st.sampled_from(
    [
        *(
            "a.png",
            "a_mask.png",
            "b.JPG",
            "c.jp2",
            "IM0001",
            "d.dcm",
            "e.tif",
            "f.txt",
            "Thumbs.db",
        ),
        *("list.csv", "List.csv", "groups.csv", "groups.tsv", "x.xlsx", ".DS_Store", "=a.png"),
    ]
)
TREES = st.dictionaries(
    st.tuples(st.lists(WORDS, max_size=4), NAMES).map(
        lambda parts: "/".join([*parts[0], parts[1]])
    ),
    st.binary(max_size=40),
    min_size=1,
    max_size=12,
)
CELLS = st.sampled_from(
    [
        "a.png",
        "./b.JPG",
        "normal",
        "Normal",
        " normal ",
        "dent",
        "",
        "test",
        "tset",
        "p1",
        '"',
        "ä",
    ]
)
TABLES = st.builds(
    lambda header, rows, separator, end: end.join(map(separator.join, [header, *rows])),
    st.sampled_from([["path", "label"], ["Path ", "label", "split"], ["label"], ["path", "path"]]),
    st.lists(st.lists(CELLS, max_size=4), max_size=5),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)


def packed(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def find(path: Path, card: DatasetCard) -> Found | None:
    """Return what a card finds in a zip or a folder; None where it is refused with a sentence."""
    try:
        with open_archive(path) as archive:
            found = find_records(archive, card, "all")
            check_labels(card, found)
            used = {record.source for record in found.records} | found.masks
            stamp(archive, used)
            for name in used:
                read_member(archive, name)
            return found
    except AeflowError as error:
        check_sentence(error)
        return None


def check_sentence(error: AeflowError) -> None:
    assert len(str(error).splitlines()) == 1
    # What is wrong with an archive is told with its place before it.
    assert str(error).rstrip().endswith((".", "?", "a zip nor a tar archive"))


def found_in(content: bytes, card: DatasetCard) -> Found | None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.zip")
        path.write_bytes(content)
        return find(path, card)


@tried(50)
@given(TREES, st.sampled_from(sorted(CARDS)))
@example({"train/good/a.png": b"", "Test/good/a.png": b""}, "mvtec")
@example({"list.csv": b"path,label\na.png,normal\n", "a.png": b"", "b.JPG": b""}, "list")
def test_no_file_is_dropped_in_silence(files: dict[str, bytes], kind: str) -> None:
    found = found_in(packed(files), CARDS[kind])
    if found is not None:
        seen = {name for name in files if not is_hidden(name)}
        used = {record.source for record in found.records} | found.masks
        assert not used & found.not_used.keys()
        tables = seen - used - found.not_used.keys()
        assert {name.rpartition("/")[2] for name in tables} <= {"list.csv", "groups.csv"}


@tried(30)
@given(TREES, st.sampled_from(sorted(CARDS)))
def test_a_folder_is_read_as_its_zip(files: dict[str, bytes], kind: str) -> None:
    with TemporaryDirectory() as place:
        written = {}
        for name, content in files.items():
            path = Path(place, "own", name)
            if ".." not in path.parts and not any(p.is_file() for p in path.parents):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.is_dir():
                    path.write_bytes(content)
                    written[name] = content
        of_folder = find(Path(place, "own"), CARDS[kind]) if written else None
    shown = {name: content for name, content in written.items() if not is_hidden(name)}
    assert of_folder == found_in(packed(shown), CARDS[kind])


LISTS = st.one_of(
    st.binary(max_size=300), *(TABLES.map(lambda t, e=e: t.encode(e)) for e in ("utf-8", "utf-16"))
)


@tried(50)
@given(LISTS)
@example(b"path,label\n" + b'"' * 200_000)
@example(b"path;label\r\na.png;normal\r\n;\r\n")
@example("path\tlabel\na.png\tnormal\n".encode("utf-16"))
@example(b'path,label\n"\n!",')
@example(b'Path,label,split\na.png,a,",\na')
def test_any_list_is_read_or_refused(table: bytes) -> None:
    found = found_in(packed({"list.csv": table, "a.png": b"1", "b.JPG": b"2"}), CARDS["list"])
    if found is not None:
        assert {record.source for record in found.records} <= {"a.png", "b.JPG"}


@tried(30)
@given(st.binary(max_size=300), st.sampled_from(["mvtec", "two"]))
@example(b"\xff\xfefile,group\n", "mvtec")
def test_any_table_of_groups_is_read_or_refused(table: bytes, kind: str) -> None:
    names = ["train/good/a.png", "normal/a.png", "normal/b.png"]
    found_in(packed({"groups.csv": table, **dict.fromkeys(names, b"")}), CARDS[kind])


IMAGES = {"train/good/a.png": b"a" * 100, "train/good/b.png": b"b" * 100, "test/hole/a.png": b"c"}


def tarred(files: dict[str, bytes], mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


WHOLE = {
    "zip": packed(IMAGES),
    "tar": tarred(IMAGES, "w"),
    "gz": tarred(IMAGES, "w:gz"),
    "xz": tarred(IMAGES, "w:xz"),
}
EDITS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6)


@tried(15)
@given(st.sampled_from(sorted(WHOLE)), EDITS, st.integers(0, 4000))
def test_a_damaged_archive_is_refused_or_read(
    kind: str, edits: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(WHOLE[kind][: len(WHOLE[kind]) - cut % 50])
    for place, value in edits:
        content[place % len(content)] = value
    with TemporaryDirectory() as folder:
        path = Path(folder, "a")
        path.write_bytes(content)
        try:
            read = {name: b"".join(blocks) for name, _, blocks in archive_members(path)}
        except DataError as error:
            check_sentence(error)
        else:
            assert all(len(content) <= 200 for content in read.values())


def test_the_cards_of_ones_own_are_all_here() -> None:
    own = {path.stem for path in DATASET_CARDS.glob("folder_*.yaml")}
    assert own == {f"folder_{name}" for name in CARDS}
