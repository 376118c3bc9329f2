"""What each card reads in the names of its dataset, for any name of the official form."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aeflow.core.errors import AeflowError, DataError
from aeflow.data.records import Record, find_records
from aeflow.study.cards import DatasetCard, load_dataset_card

CARDS = Path(__file__).parents[3] / "config/datasets"
Named = tuple[str, dict[str, Any]]  # a path and what it says

splits = st.sampled_from(["train", "test"])
numbers = st.integers(0, 99_999)
roots = st.sampled_from(["", "download/", "a/b/", "mask/"])
stems = st.text("abcXYZ019_- äß漢", min_size=1, max_size=12)
endings = st.sampled_from(["png", "PNG", "jpg", "JPEG", "bmp", "tif", "webp", "pgm"])


@cache
def card_of(name: str) -> DatasetCard:
    return load_dataset_card(name, CARDS)


@st.composite
def oct2017(draw: st.DrawFn) -> Named:
    split, defect = draw(splits), draw(st.sampled_from(["NORMAL", "CNV", "DME", "DRUSEN"]))
    patient = str(draw(st.integers(1, 9_999_999)))
    name = f"{defect}-{patient}-{draw(numbers)}.jpeg"
    path = f"{draw(roots)}OCT2017{draw(st.sampled_from(['', ' ']))}/{split}/{defect}/{name}"
    return path, {"split": split, "defect": defect, "normal": "NORMAL", "group": patient}


@st.composite
def chest_xray(draw: st.DrawFn) -> Named:
    split, defect = draw(splits), draw(st.sampled_from(["NORMAL", "PNEUMONIA"]))
    healthy = st.sampled_from(["IM", "NORMAL2-IM"])
    group = f"{draw(healthy)}-{draw(numbers):04}"
    name = f"{group}-0001"
    if defect == "PNEUMONIA":
        group = f"person{draw(numbers)}"
        name = f"{group}_{draw(st.sampled_from(['virus', 'bacteria']))}_{draw(numbers)}"
    path = f"{draw(roots)}chest_xray/{split}/{defect}/{name}.jpeg"
    return path, {"split": split, "defect": defect, "normal": "NORMAL", "group": group}


@st.composite
def miic(draw: st.DrawFn) -> Named:
    split, defect = draw(splits), draw(st.sampled_from(["normal", "abnormal"]))
    start = draw(st.text("bcefgxyzBX019_- ", max_size=8))
    path = f"{draw(roots)}Anomaly_{split}/{start}{defect}_{draw(numbers):05}.jpg"
    return path, {"split": split, "defect": defect, "normal": "normal"}


@st.composite
def btad(draw: st.DrawFn) -> Named:
    product = draw(st.sampled_from(["01", "02", "03"]))
    split, defect = draw(splits), draw(st.sampled_from(["ok", "ko"]))
    name = f"{draw(numbers):04}.{draw(st.sampled_from(['bmp', 'png']))}"
    path = f"{draw(roots)}BTech_Dataset_transformed/{product}/{split}/{defect}/{name}"
    return path, {"split": split, "defect": defect, "normal": "ok", "category": product}


@st.composite
def mvtec_ad(draw: st.DrawFn) -> Named:
    categories = card_of("mvtec_ad").categories
    category, split = draw(st.sampled_from(categories)), draw(splits)
    defect = draw(st.sampled_from(["good", "broken_large", "cut", "metal_contamination"]))
    path = f"{draw(roots)}{category}/{split}/{defect}/{draw(st.integers(0, 999)):03}.png"
    return path, {"split": split, "defect": defect, "normal": "good", "category": category}


@st.composite
def medmnist(draw: st.DrawFn, name: str) -> Named:
    conversion, layout = (getattr(card_of(name), key) for key in ("conversion", "layout"))
    written = [label.lower() for label in conversion.classes]
    defect = "".join(c if c.isalnum() else "_" for c in draw(st.sampled_from(written)))
    split = draw(st.sampled_from(["train", "validation", "test"]))
    path = f"{split}/{defect}/{draw(numbers):06}.png"
    return path, {"split": split, "defect": defect, "normal": layout.normal}


@st.composite
def brats2021(draw: st.DrawFn) -> Named:
    defect, case = draw(st.sampled_from(["normal", "tumour"])), f"BraTS2021_{draw(numbers):05}"
    path = f"slices/{defect}/{case}_{draw(st.integers(0, 154)):03}.png"
    return path, {"split": "train", "defect": defect, "normal": "normal", "group": case}


@st.composite
def in_mvtec_folders(draw: st.DrawFn, root: str | None = None, ending: str = "") -> Named:
    split, defect = draw(splits), draw(st.sampled_from(["good", "hole", "Kratzer tief"]))
    top = draw(roots) if root is None else root
    path = f"{top}{split}/{defect}/{draw(stems)}.{ending or draw(endings)}"
    return path, {"split": split, "defect": defect, "normal": "good"}


@st.composite
def folder_two(draw: st.DrawFn) -> Named:
    defect = draw(st.sampled_from(["normal", "anomalous"]))
    below = draw(st.sampled_from(["", "day 1/"]))
    path = f"{draw(roots)}{defect}/{below}{draw(stems)}.{draw(endings)}"
    return path, {"split": "train", "defect": defect, "normal": "normal"}


OFFICIAL: dict[str, st.SearchStrategy[Named]] = {
    "oct2017": oct2017(),
    "chest_xray": chest_xray(),
    "brats2021": brats2021(),
    "miic": miic(),
    "btad": btad(),
    "mvtec_ad": mvtec_ad(),
    "pneumoniamnist": medmnist("pneumoniamnist"),
    "octmnist": medmnist("octmnist"),
    "dermamnist": medmnist("dermamnist"),
    "magnetic_tile": in_mvtec_folders("magnetic_tile/", "jpg"),
    "folder_mvtec": in_mvtec_folders(),
    "folder_two": folder_two(),
}
TABLES = {"magnetic_tile": ("magnetic_tile/groups.csv", "file,group\n{name},7\n")}
ELSEWHERE = {"demo_textures", "isic2018", "folder_list"}  # below, test_demo_textures.py


def find(card: DatasetCard, members: dict[str, str], category: str = "all") -> list[Record]:
    unknown = card.model_copy(update={"counts": dict.fromkeys(card.counts)})
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    with ZipFile(content) as archive:
        return find_records(archive, unknown, category)


def test_every_card_is_here() -> None:
    assert OFFICIAL.keys() | ELSEWHERE == {path.stem for path in CARDS.glob("*.yaml")}


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_name_is_read(name: str) -> None:
    card = card_of(name)

    @settings(max_examples=40)
    @given(OFFICIAL[name])
    def check(named: Named) -> None:
        path, says = named
        members = {path: ""}
        if name in TABLES:
            table, text = TABLES[name]
            members[table] = text.format(name=path.rpartition("/")[2])
            says = says | {"group": "7"}
        [record] = find(card, members, says.get("category", "all"))
        label = int(says["defect"] != says["normal"])
        found = (record.source, record.split, record.gt_label, record.defect, record.group)
        assert found == (path, says["split"], label, says["defect"], says.get("group"))

    check()


@pytest.mark.parametrize("name", OFFICIAL)
def test_what_lies_beside_the_images_is_none(name: str) -> None:
    card = card_of(name)
    other = {"train": "val", "test": "training", "validation": "valid"}
    changes: list[Callable[[str, str], str]] = [
        lambda path, _: f"__MACOSX/{path}",
        lambda path, _: "/._".join(path.rsplit("/", 1)),
        lambda path, _: path + ".txt",
        lambda path, _: path.rpartition(".")[0],
    ]
    if card.layout.test_fraction is None:
        changes.append(lambda path, split: path.replace(split, other[split]))
    if name == "miic":
        changes.append(lambda path, _: path.replace("normal_", "normal_mask_"))
        changes.append(lambda path, _: "/Padded ".join(path.rsplit("/", 1)))
        changes.append(lambda path, _: path.replace("Anomaly_", "Inpainting_"))

    @settings(max_examples=40)
    @given(OFFICIAL[name], st.sampled_from(changes))
    def check(named: Named, change: Callable[[str, str], str]) -> None:
        path, says = named
        category = says.get("category", "all")
        text = TABLES[name][1].format(name=path) if name in TABLES else ""
        members = {change(path, says["split"]): "", TABLES.get(name, ("x",))[0]: text}
        with pytest.raises(DataError, match="no path inside the archive matches"):
            find(card, members, category)

    check()


@pytest.mark.parametrize(
    ("name", "image", "mask"),
    [
        ("btad", "{0}01/test/ko/0001.bmp", "{0}01/ground_truth/ko/0001.png"),
        ("btad", "x/{0}03/test/ko/0001.bmp", "x/{0}03/ground_truth/ko/0001.bmp"),
        ("mvtec_ad", "wood/test/hole/000.png", "wood/ground_truth/hole/000_mask.png"),
        ("folder_mvtec", "a/test/hole/b.JPG", "a/ground_truth/hole/b_mask.png"),
        ("brats2021", "slices/tumour/BraTS2021_00001_070.png", "masks/BraTS2021_00001_070.png"),
    ],
)
def test_a_mask_belongs_to_its_image(name: str, image: str, mask: str) -> None:
    image, mask = (text.format("BTech_Dataset_transformed/") for text in (image, mask))
    category = "wood" if name == "mvtec_ad" else image[-19:-17] if name == "btad" else "all"
    members = dict.fromkeys([image, mask, mask.replace("00", "11"), "groups.csv.txt"], "")
    [record] = find(card_of(name), members, category)
    assert (record.source, record.mask) == (image, mask)


CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.integers(0, 9_999_999).map("ISIC_{:07}".format),
        st.tuples(st.sampled_from(["Training", "Validation"]), st.sampled_from(CLASSES)),
        min_size=1,
        max_size=8,
    )
)
def test_labels_of_isic_come_from_its_tables(labels: dict[str, tuple[str, str]]) -> None:
    members = {}
    tables = {part: ["image," + ",".join(CLASSES)] for part in ("Training", "Validation")}
    for name, (part, label) in labels.items():
        members[f"ISIC2018_Task3_{part}_Input/ISIC2018_Task3_{part}_Input/{name}.jpg"] = ""
        ones = [f"{column == label:.1f}" for column in CLASSES]
        tables[part].append(",".join([name, *ones]))
    for part, rows in tables.items():
        stem = f"ISIC2018_Task3_{part}_GroundTruth"
        members[f"{stem}/{stem}/{stem}.csv"] = "\r\n".join(rows)
    found = find(card_of("isic2018"), members)
    read = {
        record.source[-16:-4]: (
            {"train": "Training", "test": "Validation"}[record.split],
            record.defect,
        )
        for record in found
    }
    assert read == labels
    assert all(record.gt_label == (record.defect != "NV") for record in found)


@pytest.mark.parametrize(
    ("cells", "message"),
    [("0,0,0,0,0,0,0", "exactly one"), ("1,1,0,0,0,0,0", "exactly one"), ("x,1,0,0,0,0,0", "one")],
)
def test_a_table_of_classes_that_is_none(cells: str, message: str) -> None:
    table = f"image,{','.join(CLASSES)}\nISIC_1,{cells}\n"
    members = {"ISIC2018_Task3_Training_GroundTruth.csv": table}
    with pytest.raises(DataError, match=message):
        find(card_of("isic2018"), members)


def test_an_image_without_a_class() -> None:
    table = f"image,{','.join(CLASSES)}\n"
    members = {"ISIC2018_Task3_Training_GroundTruth.csv": table}
    members["ISIC2018_Task3_Training_Input/ISIC_0000001.jpg"] = ""
    with pytest.raises(DataError, match=r"no class for .*ISIC_0000001\.jpg"):
        find(card_of("isic2018"), members)
    with pytest.raises(DataError, match="the table of classes"):
        find(card_of("isic2018"), {"x": ""})


@settings(max_examples=40)
@given(
    st.dictionaries(
        stems.map(lambda stem: f"{stem.strip()}x.png"),
        st.tuples(
            st.sampled_from(["normal", "dent", "0"]),
            st.sampled_from(["", "train", "validation", "test"]),
            st.sampled_from(["", "p1", "p2"]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["", "set/"]),
    st.booleans(),
)
def test_a_list_says_what_its_images_are(
    images: dict[str, tuple[str, str, str]], root: str, marked: bool
) -> None:
    rows = [f"{name},{label},{split},{group}" for name, (label, split, group) in images.items()]
    text = "\ufeff" * marked + "\n".join(["path,label,split,group", *rows])
    members = {f"{root}{name}": "" for name in images}
    found = find(card_of("folder_list"), members | {f"{root}list.csv": text})
    assert {
        record.source.removeprefix(root): (record.defect, record.split, record.group)
        for record in found
    } == {
        name: (label, split or "train", group or None)
        for name, (label, split, group) in images.items()
    }
    assert all(record.gt_label == (record.defect != "normal") for record in found)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("path,label\nb.png,normal", r"names b\.png, which is not in the archive"),
        ("path,label\na.png,normal\n./a.png,dent", r"names \./a\.png twice"),
        ("path,label\na.png,", r"gives a\.png no label"),
        ("path,label,mask\na.png,dent,m.png", r"names m\.png, which is not"),
        ("path,label\na.png,normal,more", "line 2: not one cell for each column"),
        ("path,label,split\na.png,normal", "line 2: not one cell for each column"),
        ("file,label\na.png,normal", "lacks the column path"),
        ("path,label,split\na.png,normal,tset", "of the split 'tset'"),
    ],
)
def test_a_mistake_in_a_list_is_named(rows: str, message: str) -> None:
    with pytest.raises(AeflowError, match=message):
        find(card_of("folder_list"), {"a.png": "", "list.csv": rows})
