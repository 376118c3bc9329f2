from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.types import Split
from aeflow.data.records import Record, find_records
from aeflow.study.cards import DatasetCard, load_dataset_card

MakeCard = Callable[..., DatasetCard]
Find = Callable[..., list[Record]]
ROOT = Path(__file__).parents[3]
MASK = "toy/ground_truth/{defect}/{stem}_mask.png"


@pytest.fixture
def find(tmp_path: Path, write_zip: Callable[[Path, dict[str, bytes]], Path]) -> Find:
    def run(card: DatasetCard, names: list[str], category: str = "all", table: str = "") -> object:
        members = {name: table.encode() for name in names}
        with ZipFile(write_zip(tmp_path / "a.zip", members)) as archive:
            return find_records(archive, card, category)

    return run  # type: ignore[return-value]


def counts(*numbers: int) -> dict[str, dict[str, int]]:
    keys = ("train_normal", "train_anomalous", "test_normal", "test_anomalous")
    return {"all": dict(zip(keys, numbers, strict=True))}


def test_images_are_found_and_everything_else_ignored(make_card: MakeCard, find: Find) -> None:
    names = [
        "toy/train/good/b.png",
        "toy/train/good/a.png",
        "toy/train/hole/a.png",
        "toy/test/good/a.png",
        "toy/test/hole/a.png",
        "toy/test/hole/b.png",
        "toy/ground_truth/hole/a_mask.png",
        "toy/ground_truth/hole/b_mask.png",
        "toy/readme.txt",
        "toy/test/good/.hidden.png",
        "toy/val/good/a.png",
        "elsewhere/toy/test/good/a.png",
    ]
    found = find(make_card(counts(2, 1, 1, 2), mask=MASK), names)
    # The mask hole/a_mask is that of test/hole/a, not of train/hole/a.
    assert found == [
        Record("toy/test/good/a.png", Split.TEST, 0, "good"),
        Record("toy/test/hole/a.png", Split.TEST, 1, "hole", None, names[6]),
        Record("toy/test/hole/b.png", Split.TEST, 1, "hole", None, names[7]),
        Record("toy/train/good/a.png", Split.TRAIN, 0, "good"),
        Record("toy/train/good/b.png", Split.TRAIN, 0, "good"),
        Record("toy/train/hole/a.png", Split.TRAIN, 1, "hole"),
    ]
    assert found[0].image_id == "toy/test/good/a"


def test_hidden_folders_never_match(make_card: MakeCard, find: Find) -> None:
    image = r"(?:.*/)?toy/(?P<split>train|test)/(?P<defect>[^/]+)/[^/]+\.png"
    names = ["toy/train/good/a.png", "x/toy/test/good/a.png"]
    extra = ["__MACOSX/toy/train/good/._a.png", "__MACOSX/toy/train/good/b.png", ".x/" + names[0]]
    assert len(find(make_card(counts(1, 0, 1, 0), image=image), names + extra)) == 2


def test_every_differing_count_is_named(make_card: MakeCard, find: Find) -> None:
    names = ["toy/train/good/a.png", "toy/test/good/a.png", "toy/test/hole/a.png"]
    with pytest.raises(DataError) as caught:
        find(make_card(counts(2, 5, 1, 0)), names)
    message = str(caught.value)
    assert "train_normal: expected 2, found 1" in message
    assert "train_anomalous: expected 5, found 0" in message
    assert "test_anomalous: expected 0, found 1" in message
    assert "test_normal" not in message
    assert "config/datasets/toy.yaml" in message


def test_archive_of_another_layout(make_card: MakeCard, find: Find) -> None:
    with pytest.raises(DataError, match=r"first of 2 files: good/a\.png"):
        find(make_card(), ["good/b.png", "good/a.png"])


def test_category_is_chosen_and_a_wrong_one_corrected(make_card: MakeCard, find: Find) -> None:
    image = r"(?P<category>\w+)/(?P<split>\w+)/(?P<defect>\w+)/(?P<stem>\w+)\.png"
    one = {"train_normal": 1, "test_normal": 1, "test_anomalous": 0}
    card = make_card({"brick": one, "gravel": one}, image=image)
    names = [f"{c}/{s}/good/a.png" for c in ("brick", "gravel", "wood") for s in ("train", "test")]
    sources = [record.source for record in find(card, names, "gravel")]
    assert sources == ["gravel/test/good/a.png", "gravel/train/good/a.png"]
    with pytest.raises(ConfigError, match="did you mean 'gravel'"):
        find(card, names, "gravle")


def test_missing_mask_of_a_test_image(make_card: MakeCard, find: Find) -> None:
    names = ["toy/train/good/a.png", "toy/train/hole/z.png", "toy/test/hole/a.png"]
    card = make_card(counts(1, 1, 0, 1), mask=MASK)
    with pytest.raises(DataError, match=r"1 anomalous test images.*toy/test/hole/a\.png"):
        find(card, names)
    with_mask = find(card, [*names, "toy/ground_truth/hole/a_mask.png"])
    assert [record.mask is not None for record in with_mask] == [True, False, False]


def test_split_of_another_name(make_card: MakeCard, find: Find) -> None:
    image = r"toy/(?P<split>\w+)/(?P<defect>\w+)/\w+\.png"
    with pytest.raises(ConfigError, match=r"split 'val'.*knows train, validation, test"):
        find(make_card(image=image), ["toy/val/good/a.png"])


def test_same_name_with_two_extensions(make_card: MakeCard, find: Find) -> None:
    image = r"toy/(?P<split>\w+)/(?P<defect>\w+)/\w+\.(?:png|jpg)"
    with pytest.raises(DataError, match="two images are called toy/train/good/a"):
        find(
            make_card(counts(2, 0, 0, 0), image=image),
            ["toy/train/good/a.png", "toy/train/good/a.jpg"],
        )


GROUPED = ["toy/train/good/a.png", "toy/test/good/b.png", "toy/groups.csv"]


def test_groups_by_file_name_or_path(make_card: MakeCard, find: Find) -> None:
    table = "\ufefffile,class,group\na.png,x,7\ntoy/test/good/b.png,x,8\nother.png,x,9\n"
    card = make_card(counts(1, 0, 1, 0), groups="toy/groups.csv")
    assert [record.group for record in find(card, GROUPED, table=table)] == ["8", "7"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,group\na.png,7\n", r"no group for toy/test/good/b\.png"),
        ("file,group\na.png,7\nb.png,\n", r"no group for toy/test/good/b\.png"),
        ("file,group\na.png,7\na.png,8\nb.png,1\n", r"gives a\.png two groups"),
        ("name,group\na.png,7\n", "lacks the column file"),
        ("", "lacks the column file and group"),
    ],
)
def test_wrong_table_of_groups(make_card: MakeCard, find: Find, table: str, message: str) -> None:
    card = make_card(counts(1, 0, 1, 0), groups="toy/groups.csv")
    with pytest.raises(DataError, match=message):
        find(card, GROUPED, table=table)


def test_missing_table_of_groups(make_card: MakeCard, find: Find) -> None:
    with pytest.raises(DataError, match=r"archive has no toy/groups\.csv"):
        find(make_card(counts(1, 0, 1, 0), groups="toy/groups.csv"), GROUPED[:2])


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115"),
        ("train/NORMAL/NORMAL2-IM-0927-0001-0002.jpeg", "NORMAL2-IM-0927"),
        ("test/PNEUMONIA/person1_virus_6.jpeg", "person1"),
        ("train/PNEUMONIA/person1000_bacteria_2931.jpeg", "person1000"),
    ],
)
def test_chest_xray_file_names_tell_the_patient(find: Find, name: str, group: str) -> None:
    card = load_dataset_card("chest_xray", ROOT / "config/datasets")
    split, defect, _ = name.split("/")
    number = {"train_normal": 1, "test_normal": 0, "test_anomalous": 0}
    number |= {"train_anomalous": int(split == "train" and defect != "NORMAL")}
    number |= {"train_normal": int(split == "train" and defect == "NORMAL")}
    number |= {"test_anomalous": int(split == "test")}
    card = card.model_copy(
        update={"counts": {"all": card.counts["all"].model_copy(update=number)}}
    )
    (record,) = find(card, [f"ChestXRay2017/chest_xray/{name}"])
    assert record.group == group
