"""Whatever a server does: the right bytes come, or one sentence says why not."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from aeflow.core.errors import DataError
from aeflow.core.text import UNSEEN
from aeflow.data.download import Patience
from aeflow.data.fetch import fetch_file
from aeflow.study.cards import SourceFile
from tests.fuzz.budget import tried
from tests.unit.data.faulty_server import Fault, serving

CONTENT = random.Random(0).randbytes(200_000)
PATIENCE = Patience(
    connect=1, stall=0.3, delays=(0, 0), window=0.2, least_rate=1e6, redirects=4, most=500_000
)
places = st.integers(0, 200_000)
headers = st.dictionaries(
    st.sampled_from(
        ["Content-Length", "Content-Range", "ETag", "Retry-After", "Content-Encoding", "Location"]
    ),
    st.sampled_from(
        [
            "",
            "x",
            "-1",
            "0",
            "99999999999",
            "9" * 5000,
            "1, 2",
            "²",
            "bytes 0-1/2",
            "gzip",
            "é",
            '"',
        ],
    ),
    max_size=2,
)
# What any file may meet, and what only a checksum can tell from another version of it.
honest = st.one_of(
    st.builds(Fault, status=st.sampled_from([404, 408, 425, 429, 500, 503, 401, 416, 304, 100])),
    st.builds(Fault, cut=places),
    st.builds(Fault, stall=places),
    st.builds(Fault, trickle=places),
    st.builds(
        Fault, redirect=st.sampled_from(["/big.bin", "/moved", "//", "http://[", "ftp://x"])
    ),
    st.just(Fault(page=True)),
    st.just(Fault()),
)
dishonest = st.one_of(
    st.builds(Fault, part=st.integers(1, 150_000)),
    st.just(Fault(endless=True)),
    st.just(Fault(headers=0)),
    st.builds(Fault, cut=places, more=headers),
    st.builds(Fault, status=st.sampled_from([200, 206, 302, 416]), more=headers),
    st.builds(Fault, raw=st.binary(max_size=60)),
    st.builds(
        lambda status, rest: Fault(raw=b"HTTP/1.1 " + status + b"\r\n" + rest),
        st.sampled_from([b"200 OK", b"206 Part", b"302 Go", b"999 x", b"-1"]),
        st.sampled_from([b"\r\n", b"", b"A" * 70_000, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"])
        | st.binary(max_size=60),
    ),
)


@tried(10)
@given(st.lists(honest, max_size=4), st.lists(dishonest, max_size=3), st.booleans(), st.data())
@example([Fault(cut=5)], [Fault(part=7)], False, None)
def test_a_server_gives_the_right_bytes_or_a_sentence(
    tmp_path_factory: Any,
    faults: list[Fault],
    lies: list[Fault],
    ranges: bool,
    data: st.DataObject | None,
) -> None:
    folder = tmp_path_factory.mktemp("server")
    mixed = faults + lies if data is None else data.draw(st.permutations(faults + lies))
    with serving() as server:
        server.files["/big.bin"] = CONTENT
        server.ranges = ranges
        server.faults["/big.bin"] = list(mixed)
        server.faults["/moved"] = [Fault(redirect="/big.bin")] * 2
        facts = {"sha256": hashlib.sha256(CONTENT).hexdigest()} if lies else {}
        file = SourceFile(name="big.bin", urls=[f"{server.url}/big.bin"], **facts)
        for _ in range(2):  # the second goes on where the first broke off
            try:
                fetch_file(file, Path(folder, "it"), None, replace(PATIENCE))
                said = ""
            except DataError as error:
                said = str(error)
            assert UNSEEN.search(said) is None
            assert Path(folder, "it").exists() == (not said)
            if not said:
                assert Path(folder, "it").read_bytes() == CONTENT
                assert [place.name for place in folder.iterdir()] == ["it"]
                return
