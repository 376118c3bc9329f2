"""Text that came from outside: what nobody could see in it, and how it is shown all the same."""

import re

# Control characters but line break and tab, marks that turn the direction of writing, and what has
# no width: two texts could look alike, or show something else than what is there. Not the two
# joiners that some scripts are written with.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """Return text in which each unseen character is its escape, such as `\\x1b`.

    A terminal obeys some of them; line breaks and tabs stay.
    """
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return `printable` text with blanks for its line breaks and tabs."""
    return printable(re.sub(r"[\r\n\t]+", " ", text))


def megabytes(size: float) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e6:,.1f} MB"


def span(seconds: float) -> str:
    """Return a time in words: 42 s, 12 min, 3 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def guarded(text: str) -> str:
    """Return text for a table: an apostrophe before what a spreadsheet would take for a formula.

    After blanks too, which some take away, and in full width; `unguarded` takes it away again.
    """
    formula = text.strip().startswith(("=", "@", "+", "-", "＝", "＠", "＋", "－"))
    if formula and not _is_number(text):
        return f"'{text}"
    return f"'{text}" if text[:1] in ("'", "\t") else text


def unguarded(text: str) -> str:
    """Return what `guarded` was given."""
    return text.removeprefix("'")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
