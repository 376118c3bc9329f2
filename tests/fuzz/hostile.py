"""Strategies of hostile input: values that nobody would write, and documents changed in places."""

import copy
from typing import Any

from hypothesis import strategies as st

WORDS = [
    *("", " ", "a", "x" * 70, "x" * 30_000, "../../x", "x$(touch F)", "`x`", "-rf", ".x", "CON"),
    *("a.dvc", "Logs", "bench", "nul.txt", "NaN", "null", "true", "01", "1e5", "é", "新", "a b"),
    *("\x00", "a\x1b[31mb", "a\u202eb", "\ud800", "a\nb", "=HYPERLINK(1)", "\\write18{x}", "|"),
    *("javascript:x", "http://[::1/x", "http://u:p@h/x?t=1", "~nosuch/x", "s3://b/x", "file:///x"),
    *("flow", "gradient", "fusion", "aeflow", "defect", "{x!r:>99}", "(?P<split>", "(a+)+$", "{"),
]
NUMBERS = [0, 1, -1, 2, 10**6, 2**32, 2**64, 10**29, 10**31, 10**400, 0.5, -0.0, 1e12, 1e308]
ODD = [None, True, False, float("nan"), float("inf"), [], {}, [[]], {"a": None}, {1: 2}]
values = st.recursive(
    st.sampled_from([*WORDS, *NUMBERS, *ODD]) | st.text(max_size=20) | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def changed(draw: st.DrawFn, documents: list[Any]) -> Any:
    """Draw one of some documents with a few changes anywhere in it."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 4))):
        places = [place for place in _places(document) if place]
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        inner = document
        for step in way:
            inner = inner[step]
        what = draw(st.sampled_from(("put", "put", "remove", "rename", "twice", "swap", "deep")))
        if what == "put":
            inner[last] = copy.deepcopy(draw(values))  # it may be changed next
        elif what == "remove":
            del inner[last]
        elif what == "rename" and isinstance(inner, dict):
            name = draw(st.sampled_from([f"{last}s", str(last)[1:], str(last).upper(), *WORDS]))
            inner[name] = inner.pop(last)
        elif what == "twice" and isinstance(inner, list):
            inner.insert(last, copy.deepcopy(inner[last]))
        elif what == "swap":
            other = document
            for step in draw(st.sampled_from(places)):
                other = other[step]
            inner[last] = copy.deepcopy(other)
        elif what == "deep":
            for _ in range(draw(st.sampled_from((1, 5, 40, 150)))):
                inner[last] = [inner[last]]
    return document


def _places(document: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to each value of a document, as far as it is not too deep to copy."""
    found = [way]
    if len(way) < 20:
        steps: Any = ()
        if isinstance(document, dict):
            steps = list(document)
        elif isinstance(document, list):
            steps = range(min(len(document), 50))
        for step in steps:
            found += _places(document[step], (*way, step))
    return found


@st.composite
def damaged(draw: st.DrawFn, texts: list[bytes]) -> bytes:
    """Draw one of some files with bytes changed, left out or put in."""
    text = bytearray(draw(st.sampled_from(texts)))
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(text)))
        until = draw(st.sampled_from((place, place + 1, place + draw(st.integers(0, 200)))))
        more = st.binary(max_size=8) | st.sampled_from(
            [
                b"\t",
                b"\n",
                b": ",
                b"- ",
                b"&a ",
                b"*a",
                b"[" * 60,
                b"<<: ",
                b"!!x ",
                b"\xff",
                b"|\n",
            ]
        )
        text[place:until] = draw(more)
    return bytes(text)
