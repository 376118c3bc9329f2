import hashlib
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeflow.core.errors import DataError
from aeflow.core.types import Split
from aeflow.data.records import Record
from aeflow.data.splits import assign_splits, check_disjoint
from aeflow.study.settings import DataSettings


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


def shared_patients() -> list[Record]:
    """Ten healthy patients of two images each; 0 to 2 are also in the test, 0 also sick."""
    records = [image(f"{n}{part}.png", group=f"p{n}") for n in range(10) for part in "ab"]
    records += [image(f"t{n}.png", "test", group=f"p{n}") for n in range(3)]
    records += [image("copy.png", group="p9", content="t0.png")]
    records += [
        image(f"s{n}.png", label=1, group=group) for n, group in enumerate(["p0", "x", "y"])
    ]
    return [*records, image("sick.png", "test", 1, group="p0")]


def test_the_official_split_trains_on_patients_of_the_test_but_never_validates_on_them() -> None:
    records = shared_patients()
    official, disjoint = (
        assign_splits(records, settings(val_fraction=0.3), protocol)
        for protocol in ("official", "patient_disjoint")
    )
    assert (official.dropped_groups, official.shared_groups) == (0, 6)
    assert (disjoint.dropped_groups, disjoint.shared_groups) == (6, 0)
    assert official.dropped_duplicates == disjoint.dropped_duplicates == 1
    shared = {f"{n}{part}.png" for n in range(3) for part in "ab"}
    for found in (official, disjoint):
        assert names(found.records, "test") == {f"t{n}.png" for n in range(3)}
        assert names(found.records, "validation", 1) == {"s1.png", "s2.png"}
        assert not names(found.records, "validation") & shared
    assert shared < names(official.records, "train")
    assert not shared & names(disjoint.records, "train")
    assert len(names(official.records, "validation")) == 6  # 0.3 of 20
    assert len(names(official.records, "train")) == 14
    assert len(names(disjoint.records, "validation")) == 6  # 0.3 of 14, in pairs
    assert names(disjoint.records, "validation") == names(official.records, "validation")


def test_without_shared_patients_both_protocols_are_the_same() -> None:
    records = [record for record in shared_patients() if record.group not in ("p0", "p1", "p2")]
    one, other = (
        assign_splits(records, settings(), protocol).records
        for protocol in ("official", "patient_disjoint")
    )
    assert one == other


def test_all_patients_in_the_test_leave_none_to_validate() -> None:
    records = [image(f"{n}.png", group=f"p{n}") for n in range(4)]
    records += [image(f"t{n}.png", "test", group=f"p{n}") for n in range(4)]
    with pytest.raises(DataError, match=r"4 group.*0 of them not in the test"):
        assign_splits(records, settings(), "official")


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
    found = assign_splits(records, settings(max_val_anomalous=4, val_fraction=0.8))
    assert names(found.records, "train") == {f"{n}.png" for n in range(6)}
    assert names(found.records, "validation") == {f"v{n}.png" for n in range(3)}
    assert len(names(found.records, "validation", 1)) == 4
    assert found.dropped_validation == 3
    leaky = [r for r in records if r.split != "validation" or r.source.startswith(("of", "copy"))]
    with pytest.raises(DataError, match="6 training and 0 validation normals"):
        assign_splits(leaky, settings())


@given(datasets(), st.floats(0.05, 0.8), st.integers(0, 3), st.randoms())
def test_a_drawn_test_of_any_dataset(
    records: list[Record], fraction: float, seed: int, shuffle: random.Random
) -> None:
    folder = [replace(record, split=Split.TRAIN) for record in records]
    folder += [image(f"more{n}.png", content=f"more {n}") for n in range(8)]
    try:
        found = assign_splits(folder, settings(split_seed=seed), test_fraction=fraction)
    except DataError:  # everything is one patient's
        return
    for one in found.records:
        for other in found.records:
            tied = one.sha256 == other.sha256 or (one.group and one.group == other.group)
            assert one.split == other.split or not tied
    test = names(found.records, "test") | names(found.records, "test", 1)
    assert found.drawn_test == len(test)
    assert names(found.records, "test")
    shuffle.shuffle(folder)
    again = assign_splits(folder, settings(split_seed=seed), test_fraction=fraction)
    assert again.records == found.records


def test_a_drawn_test_has_its_share_of_both_and_follows_the_seed() -> None:
    records = [image(f"{n:03}.png") for n in range(100)]
    records += [image(f"{n:03}s.png", label=1) for n in range(30)]
    drawn = [
        assign_splits(records, settings(split_seed=seed), test_fraction=0.2).records
        for seed in (0, 1)
    ]
    assert [len(names(found, "test", label)) for found in drawn for label in (0, 1)] == [20, 6] * 2
    assert names(drawn[0], "test") != names(drawn[1], "test")
    assert len(names(drawn[0], "validation")) == 12  # 0.15 of 80
    assert len(names(drawn[0], "validation", 1)) == 24
    own = [*records, image("own.png", "test"), image("owns.png", "test", 1)]
    found = assign_splits(own, settings(), test_fraction=0.2)
    assert (found.drawn_test, names(found.records, "test")) == (0, {"own.png"})


def test_patients_with_healthy_and_sick_images_are_drawn_by_the_healthy_ones() -> None:
    records = [image(f"{n}.png", group=f"p{n}") for n in range(20)]
    records += [image(f"{n}s{k}.png", label=1, group=f"p{n}") for n in range(20) for k in range(n)]
    for seed in range(4):
        found = assign_splits(records, settings(split_seed=seed), test_fraction=0.2).records
        assert len(names(found, "test")) == 4
        patients = {record.group for record in found if record.split == "test"}
        sick = {
            record.source for record in records if record.gt_label and record.group in patients
        }
        assert names(found, "test", 1) == sick


def test_only_test_images_keep_their_masks() -> None:
    records = [image(f"{n}.png") for n in range(9)]
    records += [replace(image(f"s{n}.png", label=1), mask=f"m{n}.png") for n in range(9)]
    found = assign_splits(records, settings(), test_fraction=0.4).records
    masked = {record.source for record in found if record.mask is not None}
    assert masked == names(found, "test", 1)
    assert len(masked) == 4


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
    with pytest.raises(DataError, match=r"share"):
        check_disjoint([image("0.png", **tie), image("1.png", "validation", **tie)], "official")


def test_a_patient_in_train_and_test_is_a_leak_unless_that_is_the_official_split() -> None:
    both = [image("0.png", group="p"), image("1.png", "test", group="p")]
    check_disjoint(both, "official")
    with pytest.raises(DataError, match="share the group p"):
        check_disjoint(both)
    with pytest.raises(DataError, match="share the group p"):
        check_disjoint([*both, image("2.png", "validation", group="p")], "official")
    copies = [image("0.png", content="x"), image("1.png", "test", content="x")]
    with pytest.raises(DataError, match="share the sha256"):
        check_disjoint(copies, "official")
