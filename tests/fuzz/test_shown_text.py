"""Whatever a label is: it is refused, or shown as text and read again as it was."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import example, given
from hypothesis import strategies as st

from aeflow.core.schema import label_fault
from aeflow.core.text import UNSEEN, printable
from aeflow.display.table import plain, read_table, typed, write_table
from aeflow.scoring.score_tables import read_scores, write_scores
from tests.fuzz.budget import tried
from tests.fuzz.hostile import WORDS

labels = st.text(min_size=1, max_size=30) | st.sampled_from(WORDS)


@tried(50)
@given(labels)
@example("'")
@example("-")
@example("\\")
@example("NA")
def test_a_label_is_refused_or_shown_as_text(tmp_path_factory: Any, label: str) -> None:
    if label_fault(label) is not None or label != label.strip():
        return
    folder: Path = tmp_path_factory.getbasetemp()
    csv, md, tex = (folder / f"label.{ending}" for ending in ("csv", "md", "tex"))
    table = typed(pd.DataFrame({"defect": [label, "x"], "f1": [0.5, 0.25]}))
    write_table(table, plain(pd.DataFrame({label: [label, "x"], "F1": ["1", "2"]})), csv, md, tex)
    assert read_table(csv)["defect"].tolist() == [label, "x"]
    rows = md.read_text().splitlines()
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3 for row in rows)
    lines = [line for line in tex.read_text().splitlines() if line.endswith(r"\\")]
    assert len(lines) == 3
    assert all(len(re.findall(r"(?<!\\)&", line)) == 1 for line in lines)
    scores = pd.DataFrame(
        {
            **{"image_id": [label, "other"], "split": ["test", "test"], "gt_label": [0, 1]},
            **{"defect": ["good", label], "density": [0.5, 0.25]},
        }
    )
    write_scores(folder / "scores.csv", scores)
    assert read_scores(folder / "scores.csv")["defect"].tolist() == ["good", label]


@tried(50)
@given(st.text())
def test_what_is_shown_can_be_seen(text: str) -> None:
    shown = printable(text)
    assert UNSEEN.search(shown) is None
    assert printable(shown) == shown
    shown.encode()
