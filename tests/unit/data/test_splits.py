import hashlib
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeflow.data.records import Record
from aeflow.data.splits import assign_splits, check_disjoint
from aeflow.errors import DataError
from aeflow.settings import DataSettings
from aeflow.types import Split


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate(changes)


def image(
    name: str, split: str = "train", label: int = 0, group: str | None = None, content: str = ""
) -> Record:
    digest = hashlib.sha256((content or name).encode()).hexdigest()
    return Record(name, Split(split), label, "hole" if label else "good", group, None, digest)


def names(records: Sequence[Record], split: str, label: int = 0) -> set[str]:
    return {
        record.source for record in records if (record.split, record.gt_label) == (split, label)
    }


@st.composite
def datasets(draw: st.DrawFn) -> list[Record]:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["train", "train", "train", "test"]),
                st.integers(0, 1),
                st.sampled_from([None, *"abcdefgh"]),
                st.integers(0, 40),
            ),
            max_size=40,
        )
    )
    fixed = [("train", 0, "first", 100), ("train", 0, None, 101)]  # two units at least
    return [
        image(f"{number:02}.png", split, label, group, f"content {content}")
        for number, (split, label, group, content) in enumerate([*fixed, *rows])
    ]


@given(datasets(), st.floats(0.05, 0.8), st.integers(0, 10), st.integers(0, 3), st.randoms())
def test_splits_of_any_dataset(
    records: list[Record], fraction: float, cap: int, seed: int, shuffle: random.Random
) -> None:
    chosen = settings(val_fraction=fraction, max_val_anomalous=cap, split_seed=seed)
    found = assign_splits(records, chosen).records

    for one in found:  # brute force: nothing ties two splits together
        for other in found:
            tied = one.sha256 == other.sha256 or (one.group and one.group == other.group)
            assert one.split == other.split or not tied

    shuffled = list(records)
    shuffle.shuffle(shuffled)
    assert assign_splits(shuffled, chosen).records == found

    before = {record.source: record for record in records}
    assert all(replace(r, split=before[r.source].split) == before[r.source] for r in found)
    assert len({record.source for record in found}) == len(found)
    assert names(found, "test", 0) == names(records, "test", 0)
    assert names(found, "test", 1) == names(records, "test", 1)
    assert names(found, "train", 1) == set()
    assert len(names(found, "validation", 1)) <= cap
    assert names(found, "train")
    assert names(found, "validation")


def test_share_of_single_images_is_exact_and_in_hashed_order() -> None:
    records = [image(f"{number}.png") for number in range(50)]
    for fraction, seed in ((0.15, 0), (0.2, 7), (0.5, 1)):
        found = assign_splits(records, settings(val_fraction=fraction, split_seed=seed)).records
        order = sorted(
            records,
            key=lambda r: hashlib.sha256(f"{seed}:sha256 {r.sha256}".encode()).hexdigest(),
        )
        expected = {record.source for record in order[: math.ceil(fraction * 50)]}
        assert names(found, "validation") == expected
        assert names(found, "train") == {r.source for r in records} - expected


def test_groups_stay_whole_and_the_share_is_just_reached() -> None:
    records = [image(f"{n}.png", group=f"patient {n // 6}") for n in range(300)]
    found = assign_splits(records, settings(val_fraction=0.15)).records
    sizes = Counter(record.group for record in found if record.split == "validation")
    assert set(sizes.values()) == {6}
    assert sum(sizes.values()) == 48  # 45 wanted, in steps of 6


def test_seed_changes_the_split() -> None:
    records = [image(f"{number}.png") for number in range(50)]
    splits = [
        names(assign_splits(records, settings(split_seed=seed)).records, "validation")
        for seed in range(3)
    ]
    assert len({frozenset(split) for split in splits}) == 3


def test_identical_files_tie_their_groups_together() -> None:
    # a-b share a file, b-c another one: a, b, c are one unit, d the other.
    records = [
        image("1.png", group="a", content="x"),
        image("2.png", group="b", content="x"),
        image("3.png", group="b", content="y"),
        image("4.png", content="y"),
        image("5.png", group="c", content="y"),
        image("6.png", group="d"),
    ]
    for seed in range(8):
        found = assign_splits(records, settings(split_seed=seed)).records
        assert names(found, "validation") in ({"6.png"}, {f"{n}.png" for n in range(1, 6)})


def test_training_images_that_leak_into_the_test_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    records = [
        *(image(f"{number}.png") for number in range(4)),
        image("copy.png", content="t"),
        image("copy_and_patient.png", group="p", content="t"),
        image("patient.png", group="p"),
        image("test.png", "test", content="t"),
        image("test_anomaly.png", "test", 1, group="p"),
    ]
    found = assign_splits(records, settings())
    assert (found.dropped_duplicates, found.dropped_groups) == (2, 1)
    kept = names(found.records, "train") | names(found.records, "validation")
    assert kept == {f"{number}.png" for number in range(4)}
    assert "Left out of training, their bytes are in the test: 2 images" in caplog.text
    assert "Left out of training, their group is in the test: 1 images" in caplog.text


def test_anomalies_of_patients_in_the_test_never_tune_a_threshold() -> None:
    records = [
        *(image(f"{number}.png", group=f"n{number}") for number in range(4)),
        image("seen.png", label=1, group="person1"),
        image("copy.png", label=1, group="person2", content="t"),
        image("fine.png", label=1, group="person2"),
        image("test.png", "test", 1, group="person1", content="t"),
    ]
    found = assign_splits(records, settings(max_val_anomalous=10)).records
    assert names(found, "validation", 1) == {"fine.png"}


def test_anomalies_of_training_patients_are_left_out() -> None:
    """A patient with healthy and sick slices: validated only where the healthy ones are, too."""
    records = [image(f"{n}.png", group=f"patient {n}") for n in range(10)]
    records += [image(f"{n}s.png", label=1, group=f"patient {n}") for n in range(10)]
    found = assign_splits(records, settings(val_fraction=0.3)).records
    healthy = names(found, "validation", 0)
    assert len(healthy) == 3
    assert {name.replace("s", "") for name in names(found, "validation", 1)} == healthy


def test_cap_takes_whole_groups_and_cuts_only_the_last() -> None:
    records = [image(f"{number}.png") for number in range(4)]
    records += [image(f"{n:02}s.png", label=1, group=f"person{n // 5}") for n in range(50)]
    found = assign_splits(records, settings(max_val_anomalous=12)).records
    sizes = Counter(record.group for record in found if record.gt_label)
    assert sorted(sizes.values()) == [2, 5, 5]
    assert (
        names(assign_splits(records, settings(max_val_anomalous=0)).records, "validation", 1)
        == set()
    )
    larger = assign_splits(records, settings(max_val_anomalous=20)).records
    assert names(found, "validation", 1) < names(larger, "validation", 1)


def test_order_is_split_then_path() -> None:
    records = [image(f"{n}.png", "test" if n % 3 else "train") for n in range(9, -1, -1)]
    found = assign_splits(records, settings()).records
    order = ["train", "validation", "test"]
    keys = [(order.index(record.split), record.source) for record in found]
    assert keys == sorted(keys)


def test_one_group_cannot_be_held_out() -> None:
    records = [image(f"{n}.png", group="only") for n in range(9)]
    with pytest.raises(DataError, match=r"9 usable training normals belong to 1 group"):
        assign_splits(records, settings())


@pytest.mark.parametrize("tie", [{"group": "p"}, {"content": "same"}])
def test_leak_is_an_error(tie: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"1\.png \(validation\) and 0\.png \(train\) share"):
        check_disjoint([image("0.png", **tie), image("1.png", "validation", **tie)])
