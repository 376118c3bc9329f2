"""Downloads from a real server that breaks off, lies, stalls and changes its mind."""

import hashlib
import random
from pathlib import Path

import pytest

from aeflow.core.errors import DataError, NoSpaceError
from aeflow.data.download import TOLD, Patience
from aeflow.data.fetch import fetch_file
from aeflow.study.cards import SourceFile
from tests.unit.data.faulty_server import QUICK, Fault, Server
from tests.unit.data.toy_dataset import left

CONTENT = random.Random(0).randbytes(400_000)
OTHER = random.Random(1).randbytes(400_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PATH = "/official/big.bin"
KEPT = ".images.zip.big.bin"


@pytest.fixture
def big(server: Server) -> Server:
    server.files[PATH] = server.files["/mirror/big.bin"] = CONTENT
    return server


def fetch(
    server: Server, destination: Path, patience: Patience = QUICK, path: str = PATH, **facts: str
) -> bytes:
    """Fetch big.bin; `facts` are what the card knows of it."""
    file = SourceFile.model_validate({"name": "big.bin", "urls": [server.url + path], **facts})
    fetch_file(file, destination, None, patience)
    assert left(destination) == [destination.name]
    return destination.read_bytes()


def break_off(server: Server, destination: Path) -> None:
    """Leave a partial download."""
    server.faults[PATH] = [Fault(cut=200_000), Fault(status=404)]
    with pytest.raises(DataError, match="status 404"):
        fetch(server, destination)


@pytest.mark.parametrize("facts", [{}, {"sha256": DIGEST}], ids=["unknown", "pinned"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etags", ["strong", "weak", None])
def test_cut_anywhere_the_file_is_the_same(
    big: Server, destination: Path, facts: dict[str, str], ranges: bool, etags: str | None
) -> None:
    big.ranges, big.etags = ranges, etags
    chance = random.Random(f"{facts} {ranges} {etags}")
    for _ in range(8):
        count = chance.randint(1, 3)
        big.faults[PATH] = [Fault(cut=chance.randrange(400_001)) for _ in range(count)]
        assert fetch(big, destination, **facts) == CONTENT
    assert any(big.offsets) == (etags == "strong" or bool(facts))


def test_it_goes_on_where_it_broke_off_in_the_next_run_too(
    big: Server, destination: Path, caplog: pytest.LogCaptureFixture
) -> None:
    big.faults[PATH] = [Fault(cut=150_000), Fault(cut=100_000), *[Fault(cut=0)] * 2]
    with pytest.raises(DataError, match="4 times in a row; run again to go on from there"):
        fetch(big, destination)
    first, second, third, *_ = big.offsets
    assert first == 0
    assert big.expected == [None, *[big.etag(PATH)] * 3]
    assert 150_000 - 2**16 <= second <= 150_000
    assert second + 100_000 - 2**16 <= third <= second + 100_000
    assert CONTENT.startswith(destination.with_name(KEPT).read_bytes())
    assert left(destination) == [KEPT, f"{KEPT}.json"]
    with caplog.at_level("INFO"):
        assert fetch(big, destination) == CONTENT
    assert big.offsets[-1] == third
    assert "going on after" in caplog.text
    assert "0.4 MB (100 %)" in caplog.text


def test_attempts_that_bring_something_do_not_count(big: Server, destination: Path) -> None:
    big.files[PATH] = CONTENT * 20
    big.faults[PATH] = [Fault(cut=1_300_000) for _ in range(6)]
    assert fetch(big, destination) == CONTENT * 20
    assert len(big.asked) == 7


@pytest.mark.parametrize(
    ("etags", "conditions"),
    [("strong", True), ("strong", False), ("weak", False), (None, False)],
    ids=["If-Range", "no If-Range", "weak ETag", "no ETag"],
)
@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("size", [400_000, 300_000, 100_000])
def test_a_file_that_changed_is_not_glued_together(
    big: Server, destination: Path, etags: str | None, conditions: bool, pinned: bool, size: int
) -> None:
    big.etags, big.conditions = etags, conditions
    break_off(big, destination)
    changed = big.files[PATH] = OTHER[:size]
    facts = {"sha256": hashlib.sha256(changed).hexdigest()} if pinned else {}
    assert fetch(big, destination, **facts) == changed


def test_a_date_is_as_good_as_an_etag_but_for_the_size(big: Server, destination: Path) -> None:
    big.etags, big.date = None, "Mon, 01 Jan 2024 00:00:00 GMT"
    big.faults[PATH] = [Fault(cut=200_000)]
    assert fetch(big, destination) == CONTENT
    assert big.offsets[-1] > 0
    assert big.expected[-1] == big.date
    break_off(big, destination)
    big.files[PATH] = OTHER[:300_000]  # within the same second
    assert fetch(big, destination) == OTHER[:300_000]


def test_a_server_may_send_less_than_the_rest(big: Server, destination: Path) -> None:
    big.faults[PATH] = [Fault(cut=100_000), Fault(part=50_000), Fault(part=70_000)]
    assert fetch(big, destination) == CONTENT
    assert [offset >= 150_000 for offset in big.offsets] == [False, False, True, True]


def test_everything_is_there_but_the_process_was_killed(big: Server, destination: Path) -> None:
    break_off(big, destination)
    destination.with_name(KEPT).write_bytes(CONTENT)
    assert fetch(big, destination) == CONTENT
    assert big.offsets[-1] == len(CONTENT)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"total": 3}'])
def test_a_partial_file_of_unknown_origin_is_not_continued(
    big: Server, destination: Path, damage: bytes
) -> None:
    destination.parent.mkdir()
    destination.with_name(KEPT).write_bytes(b"from somewhere else")
    if damage:
        destination.with_name(f"{KEPT}.json").write_bytes(damage)
    assert fetch(big, destination, sha256=DIGEST) == CONTENT
    assert big.offsets == [0]


@pytest.mark.parametrize("facts", [{}, {"sha256": DIGEST}], ids=["unknown", "pinned"])
def test_another_source_continues_only_if_a_checksum_tells(
    big: Server, destination: Path, facts: dict[str, str]
) -> None:
    break_off(big, destination)
    assert fetch(big, destination, path="/mirror/big.bin", **facts) == CONTENT
    assert (big.offsets[-1] > 0) == bool(facts)


def test_a_web_page_is_named_and_costs_nothing(big: Server, destination: Path) -> None:
    big.faults[PATH] = [Fault(cut=200_000), Fault(page=True)]
    with pytest.raises(DataError, match="this is a web page, not the file: a login"):
        fetch(big, destination)
    assert fetch(big, destination) == CONTENT
    assert big.offsets[-1] > 0


def test_errors_that_pass_are_waited_for_patiently(
    big: Server, destination: Path, caplog: pytest.LogCaptureFixture
) -> None:
    big.faults[PATH] = [Fault(status=500), Fault(status=503), Fault(status=408)]
    assert fetch(big, destination) == CONTENT
    big.faults[PATH] = [Fault(status=500)] * 4
    with pytest.raises(DataError, match="answered with status 500 after 0 bytes, 4 times"):
        fetch(big, destination)
    assert len(big.asked) == 8
    big.faults[PATH] = [Fault(status=429)]
    with caplog.at_level(TOLD):
        assert fetch(big, destination, Patience(stall=1, delays=(0, 0, 0))) == CONTENT
    assert "status 429 after 0 bytes; next attempt in 1 s" in caplog.text


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_errors_that_do_not_pass_are_not(big: Server, destination: Path, status: int) -> None:
    big.faults[PATH] = [Fault(status=status)]
    with pytest.raises(DataError, match=f"the server answered with status {status}"):
        fetch(big, destination)
    assert len(big.asked) == 1
    assert left(destination) == []


def test_redirects_are_followed(big: Server, destination: Path) -> None:
    big.faults["/moved"] = [Fault(redirect=PATH)] * 2
    big.faults[PATH] = [Fault(cut=200_000)]
    assert fetch(big, destination, path="/moved") == CONTENT
    assert big.asked == ["/moved", PATH] * 2
    assert big.offsets[-1] > 0


def test_a_stalled_transfer_is_given_up_and_goes_on(big: Server, destination: Path) -> None:
    big.faults[PATH] = [Fault(stall=200_000)]
    assert fetch(big, destination, Patience(stall=1, delays=(0, 0, 0))) == CONTENT
    assert big.offsets[1] > 0


def test_a_server_that_is_not_there(destination: Path) -> None:
    with pytest.raises(DataError, match=r"connection failed \(ConnectionError\) after 0 bytes"):
        fetch(Server("http://127.0.0.1:9"), destination)
    assert left(destination) == []


def test_a_wrong_length_or_checksum_is_not_kept(big: Server, destination: Path) -> None:
    big.announced[PATH], big.ranges = 400_010, False
    with pytest.raises(DataError, match="after 400000 bytes"):
        fetch(big, destination)
    big.announced.clear()
    with pytest.raises(DataError, match="the file has 400000 bytes instead of 400010"):
        fetch(big, destination, size_bytes="400010")
    assert len(big.asked) == 5
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, got {DIGEST}"):
        fetch(big, destination, sha256="0" * 64)
    assert len(big.asked) == 6  # it came as a whole, and would again
    big.ranges, big.offsets[:] = True, []
    big.faults[PATH] = [Fault(cut=200_000)]
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, got {DIGEST}"):
        fetch(big, destination.with_name("x"), sha256="0" * 64)
    assert big.offsets[0] == big.offsets[2] == 0 < big.offsets[1]  # pieces, then as a whole
    assert not any(name.startswith(".x") for name in left(destination))


def test_a_file_that_cannot_fit_is_not_begun(big: Server, destination: Path) -> None:
    big.announced[PATH] = 10**18
    file = SourceFile(name="big.bin", urls=[big.url + PATH, f"{big.url}/mirror/big.bin"])
    with pytest.raises(NoSpaceError, match=r"big\.bin needs 1,000,000,000,000\.0 MB in"):
        fetch_file(file, destination, None, QUICK)
    assert big.asked == [PATH]
    assert left(destination) == []
