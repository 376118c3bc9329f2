"""Splits by brute force: what may be where, and how much of it."""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeflow.core.errors import DataError
from aeflow.core.types import Split
from aeflow.data.records import Record
from aeflow.data.splits import Splits, assign_splits, check_disjoint
from aeflow.study.settings import DataSettings


def assign(records: Sequence[Record], *protocol: Any, **changes: Any) -> Splits:
    fraction = changes.pop("test_fraction", None)
    settings = DataSettings.model_validate(changes)
    return assign_splits(records, settings, *protocol, test_fraction=fraction)


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def image(
    name: str, split: str = "train", label: int = 0, group: str | None = None, content: str = ""
) -> Record:
    defect = "hole" if label else "good"
    return Record(name, Split(split), label, defect, group, None, hashed(content or name))


def names(found: Splits | Sequence[Record], split: str, label: int = 0) -> set[str]:
    records = found.records if isinstance(found, Splits) else found
    return {r.source for r in records if (r.split, r.gt_label) == (split, label)}


def tied(one: Record, other: Record) -> bool:
    return one.sha256 == other.sha256 or (one.group is not None and one.group == other.group)


def assert_disjoint(records: Sequence[Record], protocol: str = "patient_disjoint") -> None:
    for one in records:
        for other in records:
            shared = protocol == "official" and one.sha256 != other.sha256
            shared = shared and {one.split, other.split} == {"train", "test"}
            assert one.split == other.split or shared or not tied(one, other)


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


@given(
    datasets(),
    st.sampled_from(["official", "patient_disjoint"]),
    st.floats(0.05, 0.8),
    st.integers(0, 10),
    st.integers(0, 3),
    st.randoms(),
)
def test_splits_of_any_dataset(
    records: list[Record],
    protocol: Any,
    fraction: float,
    cap: int,
    seed: int,
    shuffle: random.Random,
) -> None:
    """Against brute force."""
    chosen = {"val_fraction": fraction, "max_val_anomalous": cap, "split_seed": seed}
    splits = assign(records, protocol, **chosen)
    found = splits.records
    assert_disjoint(found, protocol)
    shuffled = list(records)
    shuffle.shuffle(shuffled)
    assert assign(shuffled, protocol, **chosen) == splits
    before = {record.source: record for record in records}
    assert all(replace(r, split=before[r.source].split) == before[r.source] for r in found)
    order = ["train", "validation", "test"]
    keys = [(order.index(record.split), record.source) for record in found]
    assert keys == sorted(set(keys))

    assert names(found, "test", 0) == names(records, "test", 0)
    assert names(found, "test", 1) == names(records, "test", 1)
    test = [record for record in records if record.split == "test"]
    copies, patients = (
        {
            record.source
            for record in records
            if (record.split, record.gt_label) == ("train", 0)
            and any(getattr(record, key) == getattr(other, key) for other in test)
            and getattr(record, key) is not None
        }
        for key in ("sha256", "group")
    )
    assert splits.dropped_duplicates == len(copies)
    shared = len(patients - copies)
    official = protocol == "official"
    assert splits.dropped_groups == (0 if official else shared)
    assert splits.shared_groups == (shared if official else 0)
    dropped = copies if official else copies | patients
    validated, trained = names(found, "validation"), names(found, "train")
    assert validated | trained == names(records, "train") - dropped
    assert validated
    assert trained
    assert not validated & patients
    assert names(found, "train", 1) == set()
    anomalies = names(found, "validation", 1)
    kept = [r for r in found if r.split == "test" or r.source in trained]
    free = {
        record.source
        for record in records
        if (record.split, record.gt_label) == ("train", 1)
        and not any(tied(record, other) for other in kept)
    }
    assert anomalies <= free
    assert len(anomalies) == min(cap, len(free))
    assert splits.dropped_anomalies == len(names(records, "train", 1)) - len(anomalies)


@given(datasets(), st.floats(0.05, 0.8), st.integers(0, 3), st.randoms())
def test_a_drawn_test_of_any_dataset(
    records: list[Record], fraction: float, seed: int, shuffle: random.Random
) -> None:
    folder = [replace(record, split=Split.TRAIN) for record in records]
    folder += [image(f"more{n}.png", content=f"more {n}") for n in range(8)]
    chosen = {"split_seed": seed, "test_fraction": fraction}
    try:
        found = assign(folder, **chosen)
    except DataError:  # everything is one patient's
        return
    assert_disjoint(found.records)
    assert found.drawn_test == len(names(found, "test") | names(found, "test", 1))
    assert names(found, "test")
    shuffle.shuffle(folder)
    assert assign(folder, **chosen) == found


def test_share_of_single_images_is_exact_and_in_hashed_order() -> None:
    records = [image(f"{number}.png") for number in range(50)]
    for fraction, seed in ((0.15, 0), (0.2, 7), (0.5, 1)):
        found = assign(records, val_fraction=fraction, split_seed=seed)
        order = sorted(records, key=lambda r: hashed(f"{seed}:sha256 {r.sha256}"))
        expected = {record.source for record in order[: math.ceil(fraction * 50)]}
        assert names(found, "validation") == expected
        assert names(found, "train") == {r.source for r in records} - expected


def test_groups_stay_whole_and_the_share_is_just_reached() -> None:
    records = [image(f"{n}.png", group=f"patient {n // 6}") for n in range(300)]
    found = assign(records, val_fraction=0.15).records
    sizes = Counter(record.group for record in found if record.split == "validation")
    assert set(sizes.values()) == {6}
    assert sum(sizes.values()) == 48  # 45 wanted, in steps of 6


def test_identical_files_tie_their_groups_together() -> None:
    # a-b share a file, b-c another one: a, b, c are one unit, d the other.
    rows = ["ax", "bx", "by", "-y", "cy", "d-"]
    records = [
        image(f"{n}.png", group=group.strip("-") or None, content=content.strip("-"))
        for n, (group, content) in enumerate(rows)
    ]
    held = [names(assign(records, split_seed=seed), "validation") for seed in range(8)]
    units = [{"5.png"}, {f"{n}.png" for n in range(5)}]
    assert all(found in units for found in held)
    assert all(unit in held for unit in units)


def test_cap_takes_whole_groups_and_cuts_only_the_last() -> None:
    records = [image(f"{number}.png") for number in range(4)]
    records += [image(f"{n:02}s.png", label=1, group=f"person{n // 5}") for n in range(50)]
    found = assign(records, max_val_anomalous=12)
    sizes = Counter(record.group for record in found.records if record.gt_label)
    assert sorted(sizes.values()) == [2, 5, 5]
    assert found.dropped_anomalies == 38
    larger = assign(records, max_val_anomalous=20)
    assert names(found, "validation", 1) < names(larger, "validation", 1)


def test_the_official_split_holds_out_the_share_of_all_its_normals() -> None:
    """Ten healthy patients of two images each; 0 to 2 are also in the test."""
    records = [image(f"{n}{part}.png", group=f"p{n}") for n in range(10) for part in "ab"]
    records += [image(f"t{n}.png", "test", group=f"p{n}") for n in range(3)]
    official, disjoint = (
        assign(records, protocol, val_fraction=0.3)
        for protocol in ("official", "patient_disjoint")
    )
    assert len(names(official, "validation")) == 6  # 0.3 of 20
    assert len(names(disjoint, "validation")) == 6  # 0.3 of 14, in pairs
    assert names(disjoint, "validation") == names(official, "validation")
    assert {f"{n}{part}.png" for n in range(3) for part in "ab"} < names(official, "train")


def test_a_datasets_own_validation_is_kept_apart_and_capped() -> None:
    records = [image(f"{n}.png", group=f"p{n}") for n in range(6)]
    records += [image("sick.png", label=1)]
    records += [image(f"v{n}.png", "validation", group=f"v{n}") for n in range(3)]
    records += [image(f"vs{n}.png", "validation", 1) for n in range(5)]
    records += [
        image("of_a_test_patient.png", "validation", group="q"),
        image("of_a_train_patient.png", "validation", 1, group="p0"),
        image("copy.png", "validation", content="0.png"),
        image("test.png", "test", group="q"),
    ]
    found = assign(records, max_val_anomalous=4, val_fraction=0.8)
    assert names(found, "train") == {f"{n}.png" for n in range(6)}
    assert names(found, "validation") == {f"v{n}.png" for n in range(3)}
    assert len(names(found, "validation", 1)) == 4
    assert (found.dropped_validation, found.dropped_anomalies) == (3, 2)
    leaky = [r for r in records if r.split != "validation" or r.source.startswith(("of", "copy"))]
    with pytest.raises(DataError, match="to train on: 6, to validate: 0"):
        assign(leaky)


def test_a_drawn_test_has_its_share_of_both_and_follows_the_seed() -> None:
    records = [image(f"{n:03}.png") for n in range(100)]
    records += [image(f"{n:03}s.png", label=1) for n in range(30)]
    records = [replace(r, mask=f"m{r.source}") if r.gt_label else r for r in records]
    drawn = [assign(records, split_seed=seed, test_fraction=0.2) for seed in (0, 1)]
    assert [len(names(found, "test", label)) for found in drawn for label in (0, 1)] == [20, 6] * 2
    order = sorted((hashed(f"test 0:sha256 {r.sha256}"), r.source) for r in records[:100])
    assert names(drawn[0], "test") == {name for _, name in order[:20]}
    assert names(drawn[0], "test") != names(drawn[1], "test")
    assert names(drawn[0], "validation") != names(drawn[1], "validation")
    assert len(names(drawn[0], "validation")) == 12  # 0.15 of 80
    assert len(names(drawn[0], "validation", 1)) == 24
    masked = {record.source for record in drawn[0].records if record.mask is not None}
    assert masked == names(drawn[0], "test", 1)
    own = [*records, image("own.png", "test"), image("owns.png", "test", 1)]
    found = assign(own, test_fraction=0.2)
    assert (found.drawn_test, names(found, "test")) == (0, {"own.png"})


def test_patients_with_healthy_and_sick_images_are_drawn_by_the_healthy_ones() -> None:
    records = [image(f"{n}.png", group=f"p{n}") for n in range(20)]
    records += [image(f"{n}s{k}.png", label=1, group=f"p{n}") for n in range(20) for k in range(n)]
    for seed in range(4):
        found = assign(records, split_seed=seed, test_fraction=0.2)
        assert len(names(found, "test")) == 4
        patients = {record.group for record in found.records if record.split == "test"}
        sick = {r.source for r in records if r.gt_label and r.group in patients}
        assert names(found, "test", 1) == sick


def test_too_few_units_are_an_error() -> None:
    records = [image(f"{n}.png", group="only") for n in range(9)]
    with pytest.raises(DataError, match=r"to train on: 9, all of one group"):
        assign(records)
    records = [image(f"{n}.png", group=f"p{n}") for n in range(4)]
    records += [image(f"t{n}.png", "test", group=f"p{n}") for n in range(4)]
    with pytest.raises(DataError, match="on: 4, each of a group that the test has too"):
        assign(records, "official")


@pytest.mark.parametrize("number", [2, 3, 4, 5, 9])
@pytest.mark.parametrize("fraction", [None, 0.3])
def test_few_normals_train_and_validate(number: int, fraction: float | None) -> None:
    found = assign([image(f"{n}.png") for n in range(number)], test_fraction=fraction)
    split = Counter(record.split for record in found.records)
    assert split["train"] >= 1
    assert split["validation"] == min(2, (number - split["test"]) // 2)
    assert split.total() == number
    with pytest.raises(DataError, match=r"normal images to train on: 1\. Two are needed"):
        assign([image("0.png")], test_fraction=fraction)


@pytest.mark.parametrize("tie", [{"group": "p"}, {"content": "same"}])
@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("protocol", ["patient_disjoint", "official"])
def test_a_leak_is_an_error_but_a_patient_in_train_and_test_of_the_official_split(
    tie: dict[str, str], split: str, protocol: Any
) -> None:
    both = [image("0.png", **tie), image("1.png", split, **tie)]
    if (protocol, split, "group" in tie) == ("official", "test", True):
        check_disjoint(both, protocol)
        both.append(image("2.png", "validation", **tie))
    with pytest.raises(DataError, match=r"\d\.png \(\w+\) and \d\.png \(\w+\) share the"):
        check_disjoint(both, protocol)
