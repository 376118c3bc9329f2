"""What is read in paths and tables of an archive: by a toy's card, and by every card of ours."""

import io
from pathlib import Path
from unicodedata import normalize
from zipfile import ZipFile

import pytest

from aeflow.core.errors import AeflowError, ConfigError, DataError
from aeflow.core.types import Split
from aeflow.data.archives import Folder
from aeflow.data.not_used import SPARE_MASK, UNREAD
from aeflow.data.records import Found, Record, check_labels, find_records
from aeflow.study.cards import DatasetCard, load_dataset_card
from tests.unit.data.processes import ROOT
from tests.unit.data.toy_dataset import make_card

CARDS = ROOT / "config/datasets"
MASK = {"mask": "toy/ground_truth/{defect}/{stem}_mask.png"}
FOLDERS = {
    f"folder_{n}": load_dataset_card(f"folder_{n}", CARDS) for n in ("mvtec", "two", "list")
}
ANY = {"image": r"(?P<category>\w+)/(?P<split>\w+)/(?P<defect>\w+)/\w+\.(?:png|jpg)"}


def look(card: DatasetCard, members: dict[str, str], category: str = "all") -> Found:
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    with ZipFile(content) as archive:
        return find_records(archive, card, category)


def find(card: DatasetCard, names: list[str], category: str = "all") -> list[Record]:
    return look(card, dict.fromkeys(names, ""), category).records


def counts(*numbers: int) -> dict[str, dict[str, int]]:
    keys = ("train_normal", "train_anomalous", "test_normal", "test_anomalous")
    return {"all": dict(zip(keys, numbers, strict=True))}


def test_images_are_found_and_everything_else_is_not_used() -> None:
    names = [
        "toy/train/good/b.png",
        "toy/train/good/a.png",
        "toy/train/hole/a.png",
        "toy/test/good/a.png",
        "toy/test/hole/a.png",
        "toy/test/hole/b.png",
        "toy/ground_truth/hole/a_mask.png",
        "toy/ground_truth/hole/b_mask.png",
        "toy/groups.csv",
        "toy/readme.txt",
        "toy/test/good/.hidden.png",
        "__MACOSX/toy/test/good/a.png",
        "toy/val/good/a.png",
        "elsewhere/toy/test/good/a.png",
    ]
    table = "file,group\n" + "".join(f"{name},1\n" for name in names[:6])
    card = make_card(counts=counts(2, 1, 1, 2), layout=MASK | {"groups": "toy/groups.csv"})
    found = look(card, dict.fromkeys(names, "") | {"toy/groups.csv": table})
    # The mask hole/a_mask is that of test/hole/a, not of train/hole/a.
    assert found.records == [
        Record("toy/test/good/a.png", Split.TEST, 0, "good", "1"),
        Record("toy/test/hole/a.png", Split.TEST, 1, "hole", "1", names[6]),
        Record("toy/test/hole/b.png", Split.TEST, 1, "hole", "1", names[7]),
        Record("toy/train/good/a.png", Split.TRAIN, 0, "good", "1"),
        Record("toy/train/good/b.png", Split.TRAIN, 0, "good", "1"),
        Record("toy/train/hole/a.png", Split.TRAIN, 1, "hole", "1"),
    ]
    assert found.records[0].image_id == "toy/test/good/a"
    assert found.not_used == {
        names[13]: "not in a place that the card reads",
        "toy/readme.txt": "neither an image nor a table",
        "toy/val/good/a.png": "not in a place that the card reads",
    }
    assert found.masks == set(names[6:8])


def test_every_differing_count_is_named() -> None:
    names = ["toy/train/good/a.png", "toy/test/good/a.png", "toy/test/hole/a.png"]
    with pytest.raises(DataError) as caught:
        find(make_card(counts=counts(2, 5, 1, 0)), names)
    message = str(caught.value)
    assert "train_normal: expected 2, found 1" in message
    assert "train_anomalous: expected 5, found 0" in message
    assert "test_anomalous: expected 0, found 1" in message
    assert "test_normal" not in message
    assert "config/datasets/toy.yaml" in message


def test_the_category_is_chosen_and_files_of_another_are_used_there() -> None:
    one = {"train_normal": 1, "test_normal": 1, "test_anomalous": 0}
    card = make_card(counts={"brick": one, "gravel": one}, layout=ANY)
    names = [f"{c}/{s}/good/a.png" for c in ("brick", "gravel") for s in ("train", "test")]
    found = look(card, dict.fromkeys([*names, "licence"], ""), "gravel")
    assert [record.source for record in found.records] == names[3:1:-1]
    assert list(found.not_used) == ["licence"]
    with pytest.raises(ConfigError, match="did you mean 'gravel'"):
        find(card, names, "gravle")


def test_all_categories_in_one_are_those_of_each_and_are_not_counted() -> None:
    """Of MVTec AD: the card says how many images a category has, and nothing of all."""
    kinds = ("train/good", "test/good", "test/{}", "ground_truth/{}")
    bottle, screw = (
        [
            f"x/{category}/{kind.format(defect)}/00{n}{'_mask' if kind[0] == 'g' else ''}.png"
            for kind in kinds
            for n in range(2)
        ]
        for category, defect in (("bottle", "broken"), ("screw", "scratch"))
    )
    card = load_dataset_card("mvtec_ad", CARDS)
    found = look(card, dict.fromkeys([*screw, *bottle, "x/bottle/readme.txt"], ""), "all")
    # A category's own number counts, and is not that of these few images.
    with pytest.raises(DataError, match="train_normal: expected 209, found 2"):
        find(card, [*screw, *bottle], "bottle")
    assert [record.source for record in found.records] == sorted(bottle[:6] + screw[:6])
    assert list(found.not_used) == ["x/bottle/readme.txt"]
    each = [read("mvtec_ad", dict.fromkeys([*screw, *bottle], ""), c) for c in ("bottle", "screw")]
    assert found.records == [*each[0], *each[1]]
    assert len({record.image_id for record in found.records}) == 12
    anomalous = [(record.source, record.mask) for record in found.records if record.gt_label]
    masks = zip(bottle[4:6] + screw[4:6], bottle[6:] + screw[6:], strict=True)
    assert sorted(anomalous) == list(masks)
    splits = [(record.split, record.defect) for record in found.records]
    assert splits.count(("train", "good")) == splits.count(("test", "good")) == 4


@pytest.mark.parametrize(
    ("names", "layout", "message"),
    [
        (["good/b.png", "good/a.png"], {}, r"first of 2 files is good/a\.png"),
        (["toy/val/good/a.png"], ANY, r"split 'val'.*knows train, validation, test"),
        (
            ["toy/train/good/a.png", "toy/train/good/a.jpg"],
            ANY,
            "two images are called toy/train/good/a",
        ),
        (
            ["toy/train/good/a.png", "toy/train/good/b.png", "toy/test/hole/a.png"],
            MASK,
            r"1 anomalous test images.*toy/test/hole/a\.png",
        ),
    ],
)
def test_another_archive_than_the_cards(
    names: list[str], layout: dict[str, str], message: str
) -> None:
    promised = {"all": {"train_normal": 2}}
    with pytest.raises(AeflowError, match=message):
        find(make_card(counts=promised, layout=layout), names)


GROUPED = ["toy/train/good/a.png", "toy/test/good/b.png"]


def test_groups_by_file_name_or_path() -> None:
    table = "\ufefffile,class,group\na.png,x,7\ntoy/test/good/b.png,x,8\nother.png,x,9\n"
    card = make_card(counts=counts(1, 0, 1, 0), layout={"groups": "toy/groups.csv"})
    members = dict.fromkeys(GROUPED, "")
    found = look(card, members | {"toy/groups.csv": table})
    assert [record.group for record in found.records] == ["8", "7"]
    with pytest.raises(DataError, match=r"archive has no toy/groups\.csv"):
        look(card, members)
    unknown = card.model_copy(update={"counts": {"all": None}})
    assert [record.group for record in look(unknown, members).records] == [None, None]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,group\na.png,7\n", r"no group for toy/test/good/b\.png"),
        ("file,group\na.png,7\nb.png,\n", r"no group for toy/test/good/b\.png"),
        ("file,group\n", r"no group for toy/test/good/b\.png"),
        ("file,group\na.png,7\na.png,8\nb.png,1\n", r"gives a\.png two groups"),
        ("name,group\na.png,7\n", "lacks the column file"),
        ("", "lacks the column file and group"),
    ],
)
def test_a_wrong_table_of_groups(table: str, message: str) -> None:
    card = make_card(counts={"all": None}, layout={"groups": "toy/groups.csv"})
    with pytest.raises(DataError, match=message):
        look(card, dict.fromkeys(GROUPED, "") | {"toy/groups.csv": table})


def of_bytes(card: str, members: dict[str, bytes]) -> list[Record]:
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    with ZipFile(content) as archive:
        return find_records(archive, load_dataset_card(card, CARDS), "all").records


def test_a_table_without_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with (tmp_path / "list.csv").open("wb") as table:
        table.truncate(2**40)  # takes no space
    with pytest.raises(DataError, match=r"list\.csv has 1,099,511,627,776 bytes, more than a"):
        find_records(Folder(tmp_path), load_dataset_card("folder_list", CARDS), "all")


def test_a_table_that_is_no_text() -> None:
    with pytest.raises(DataError, match=r"list\.csv is no text: save it as CSV in UTF-8"):
        of_bytes("folder_list", {"list.csv": b"path,label\n\x81,normal\n"})


@pytest.mark.parametrize(
    "text",
    [
        "path;label\r\nä.png;normal\r\n",
        "path\tlabel\nä.png\tnormal\n",
        " Path , Label \nä.png, normal \n",
        "path,label,,\nä.png,normal,,\n,,,\n\n",
        '"path";"label"\n"ä.png";"normal"\n',
        "\n\npath,label\n\nä.png,normal\n",
        "path,label\n ä.png ,normal\n",
        "path,label\n.\\ä.png,normal\n",
        "path,label\nä.png,normal,,\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_list_as_spreadsheets_write_it_is_read(text: str, encoding: str) -> None:
    [record] = of_bytes("folder_list", {"list.csv": text.encode(encoding), "ä.png": b""})
    assert record == Record("ä.png", Split.TRAIN, 0, "normal")


# Card | path ({} may be any folder) | split | defect | whether anomalous | group | category
OFFICIAL = [
    [cell.strip() for cell in line.split("|")]
    for line in """\
oct2017 | {}OCT2017/train/NORMAL/NORMAL-9053621-1.jpeg | train | NORMAL | 0 | 9053621 |
oct2017 | {}OCT2017 /test/CNV/CNV-16-30.jpeg | test | CNV | 1 | 16 |
chest_xray | {}chest_xray/train/NORMAL/IM-0115-0001.jpeg | train | NORMAL | 0 | IM-0115 |
chest_xray | {}chest_xray/test/NORMAL/NORMAL2-IM-02-01.jpeg | test | NORMAL | 0 | NORMAL2-IM-02 |
chest_xray | {}chest_xray/test/PNEUMONIA/person1_virus_9.jpeg | test | PNEUMONIA | 1 | person1 |
brats2021 | slices/normal/BraTS2021_00001_070.png | train | normal | 0 | BraTS2021_00001 |
brats2021 | slices/tumour/BraTS2021_00002_005.png | train | tumour | 1 | BraTS2021_00002 |
miic | {}Anomaly_train/b_ normal_00012.jpg | train | normal | 0 | |
miic | {}Anomaly_test/X1-abnormal_99999.jpg | test | abnormal | 1 | |
btad | {}BTech_Dataset_transformed/01/train/ok/0001.bmp | train | ok | 0 | | 01
btad | {}BTech_Dataset_transformed/03/test/ko/0042.png | test | ko | 1 | | 03
mvtec_ad | {}zipper/test/broken_teeth/001.png | test | broken_teeth | 1 | | zipper
mvtec_ad | {}wood/train/good/000.png | train | good | 0 | | wood
pneumoniamnist | validation/normal/000001.png | validation | normal | 0 | |
octmnist | train/choroidal_neovascularization/01.png | train | choroidal_neovascularization | 1 | |
dermamnist | test/melanocytic_nevi/000123.png | test | melanocytic_nevi | 0 | |
magnetic_tile | magnetic_tile/train/good/exp1_num_4727.jpg | train | good | 0 | 7 |
folder_mvtec | {}test/Kratzer tief/ä 1-_漢.JPEG | test | Kratzer tief | 1 | |
folder_mvtec | {}train/good/x.webp | train | good | 0 | |
folder_two | {}normal/day 1/ä.PNG | train | normal | 0 | |
folder_two | {}anomalous/x.tif | train | anomalous | 1 | |
""".splitlines()
]
ELSEWHERE = {"demo_textures", "isic2018", "folder_list"}  # below, test_demo_textures.py


def read(name: str, members: dict[str, str], category: str = "all") -> list[Record]:
    """Find what a card of ours reads, whatever it says of counts."""
    card = load_dataset_card(name, CARDS)
    unknown = card.model_copy(update={"counts": dict.fromkeys(card.counts)})
    return look(unknown, members, category).records


def groups_of(name: str, path: str) -> dict[str, str]:
    file = path.rpartition("/")[2]
    return {"magnetic_tile/groups.csv": f"file,group\n{file},7\n"} if name[:3] == "mag" else {}


def test_every_card_is_here() -> None:
    assert {row[0] for row in OFFICIAL} | ELSEWHERE == {path.stem for path in CARDS.glob("*.yaml")}


@pytest.mark.parametrize("row", OFFICIAL, ids=" ".join)
def test_an_official_name_is_read_and_nothing_beside_it(row: list[str]) -> None:
    name, pattern, split, defect, label, group, category = row
    for root in ("", "download/", "a/b/", "mask/"):
        path = pattern.format(root)
        [record] = read(name, {path: ""} | groups_of(name, path), category or "all")
        assert (record.source, record.split, record.gt_label) == (path, split, int(label))
        assert (record.defect, record.group) == (defect, group or None)
    path = pattern.format("a/")
    beside = [f"__MACOSX/{path}", "/._".join(path.rsplit("/", 1)), path + ".txt"]
    beside += [] if name.startswith("folder_") else [path[:-4]]  # DICOM files often end so
    if load_dataset_card(name, CARDS).layout.test_fraction is None:
        other = {"train": "val", "test": "training", "validation": "valid"}
        beside.append(path.replace(split, other[split]))
    if name == "miic":
        beside += [path.replace("normal_", "normal_mask_"), "/Padded ".join(path.rsplit("/", 1))]
        beside.append(path.replace("Anomaly_", "Inpainting_"))
    for other_path in beside:
        with pytest.raises(DataError, match="is where the card"):
            read(name, {other_path: ""} | groups_of(name, path), category or "all")


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
    [record] = read(name, members, category)
    assert (record.source, record.mask) == (image, mask)


# Card, images of a user -> what is said.
NEARLY = [
    ("folder_mvtec", ["Test/good/a.png"], r"Test/good/a\.png is not used: did you mean test/"),
    ("folder_mvtec", ["test/dent/a.png", "ground-truth/dent/a_mask.png"], "mean ground_truth/ "),
    ("folder_mvtec", ["training/good/b.png"], r"did you mean train/ \(there is training/\)"),
    ("folder_mvtec", ["group.csv"], r"did you mean groups\.csv \(there is group\.csv\)"),
    ("folder_mvtec", ["train/good/a.jpg"], "two images are called train/good/a: rename one"),
    ("folder_two", ["Anomalous/a.png", "normal/a.png"], "did you mean anomalous/"),
    ("folder_two", ["anomaly/a.png", "normal/a.png"], "did you mean anomalous/"),
]


@pytest.mark.parametrize(("name", "more", "message"), NEARLY)
def test_a_layout_that_is_nearly_right_is_named(name: str, more: list[str], message: str) -> None:
    names = ["train/good/a.png", *more] if name == "folder_mvtec" else more
    with pytest.raises(DataError, match=message):
        read(name, dict.fromkeys(names, ""))


def test_what_matches_nothing_is_kept_with_its_reason() -> None:
    names = {
        "train/good/a.png": None,
        "train/good/day2/a.png": "not in a place that the card reads",
        "train/good/a.xcf": "neither an image nor a table",
        "val/good/a.tiff": "not in a place that the card reads",
        "ground_truth/dent/a.png": "no image has this mask",
        "ground_truth/dent/b_mask.png": "no image has this mask",
        "labels.xlsx": "a table that the card does not read",
        "Thumbs.db": "neither an image nor a table",
        "train/good/c.heic": "an ending that the card does not read",
        "train/good/scan 1.svg": "an ending that the card does not read",
    }
    card = load_dataset_card("folder_mvtec", CARDS)
    found = look(card, dict.fromkeys(names, ""))
    assert found.not_used == {name: why for name, why in names.items() if why}


@pytest.mark.parametrize(
    ("card", "names", "message"),
    [
        ("folder_mvtec", ["normal/a.png", "anomalous/b.png"], "`card: folder_two`"),
        ("folder_two", ["train/good/a.png", "test/good/b.png"], "`card: folder_mvtec`"),
        ("folder_two", ["list.csv", "a.png"], "`card: folder_list`"),
        ("folder_mvtec", ["a.png"], "It reads: train/<normal class>"),
        ("folder_list", ["List.csv"], r"Did you mean list\.csv"),
        ("folder_list", ["list.xlsx", "a.png"], r"There is list\.xlsx: save it as list\.csv"),
        ("folder_list", ["train/good/a.png"], "has no list.csv.* `card: folder_mvtec`"),
        ("mvtec_ad", ["normal/a.png"], "Give the archive as published"),
    ],
)
def test_a_wrong_card_is_recognised(card: str, names: list[str], message: str) -> None:
    category = "bottle" if card == "mvtec_ad" else "all"
    with pytest.raises(DataError, match=message):
        read(card, dict.fromkeys(names, ""), category)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["normal", "Normal"], r"'normal' and 'Normal'.*Normal \(1\), normal \(1\)"),
        (["normal", "dent", "DENT"], "'dent' and 'DENT'"),
        (["NORMAL", "dent"], "'normal' and 'NORMAL' differ.*'normal' means normal"),
        (["normal", "big dent", "big_dent"], "'big dent' and 'big_dent'"),
        (["ok", "dent"], r"no image to train on is normal, .*'normal'.*dent \(1\), ok \(1\)"),
        (["normal", "nromal"], r"'nromal' is nearly 'normal'.*normal \(1\), nromal \(1\)"),
        (["normal", "normals"], "'normals' is nearly 'normal'"),
        (["normal", "normal 2"], "'normal 2' is nearly 'normal'"),
        (["normal", "ﬁssure", "fissure"], "differ in case, blanks or signs alone"),
    ],
)
def test_a_near_miss_is_no_class_of_its_own(labels: list[str], message: str) -> None:
    rows = "".join(f"{n}.png,{label}\n" for n, label in enumerate(labels))
    members = {f"{n}.png": "" for n in range(len(labels))} | {"list.csv": f"path,label\n{rows}"}
    card = load_dataset_card("folder_list", CARDS)
    with pytest.raises(DataError, match=message):
        check_labels(card, look(card, members))


@pytest.mark.parametrize("other", ["abnormal", "non-normal", "nodule", "norm dev", "neural"])
def test_another_word_is_a_class(other: str) -> None:
    members = {"a.png": "", "b.png": "", "list.csv": f"path,label\na.png,normal\nb.png,{other}\n"}
    check_labels(load_dataset_card("folder_list", CARDS), look(FOLDERS["folder_list"], members))


CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


TABLE = "ISIC2018_Task3_{0}_GroundTruth/ISIC2018_Task3_{0}_GroundTruth.csv"
IMAGE = "ISIC2018_Task3_{0}_Input/ISIC2018_Task3_{0}_Input/{1}.jpg"


def test_labels_of_isic_come_from_its_tables() -> None:
    labels = {
        "ISIC_0000001": ("Training", "NV"),
        "ISIC_0000002": ("Training", "VASC"),
        "ISIC_0000003": ("Validation", "MEL"),
    }
    members = {}
    for name, (part, label) in labels.items():
        members[IMAGE.format(part, name)] = ""
        ones = [f"{column == label:.1f}" for column in CLASSES]
        table = members.setdefault(TABLE.format(part), "image," + ",".join(CLASSES))
        members[TABLE.format(part)] = "\r\n".join([table, ",".join([name, *ones])])
    found = {record.source[-16:-4]: record for record in read("isic2018", members)}
    assert {name: record.defect for name, record in found.items()} == {
        name: label for name, (_, label) in labels.items()
    }
    assert [found[name].gt_label for name in labels] == [0, 1, 1]
    assert [found[name].split for name in labels] == ["train", "train", "test"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [("0,0,0,0,0,0,0", "exactly one"), ("1,1,0,0,0,0,0", "exactly one"), ("x,1,0,0,0,0,0", "one")],
)
def test_a_table_of_classes_that_is_none(cells: str, message: str) -> None:
    table = f"image,{','.join(CLASSES)}\nISIC_1,{cells}\n"
    members = {"ISIC2018_Task3_Training_GroundTruth.csv": table}
    with pytest.raises(DataError, match=message):
        read("isic2018", members)


def test_an_image_without_a_class() -> None:
    table = f"image,{','.join(CLASSES)}\n"
    members = {"ISIC2018_Task3_Training_GroundTruth.csv": table}
    members["ISIC2018_Task3_Training_Input/ISIC_0000001.jpg"] = ""
    with pytest.raises(DataError, match=r"no class for .*ISIC_0000001\.jpg"):
        read("isic2018", members)
    with pytest.raises(DataError, match="the table of classes"):
        read("isic2018", {"x": ""})


@pytest.mark.parametrize("root", ["", "set/"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_says_what_its_images_are(root: str, mark: str) -> None:
    rows = [
        f"{mark}path,label,split,group,mask",
        "./a.png, normal ,,,",
        "sub/ä 1.png,dent,test,p1,m.png",
        " x.png,0,validation,p2,",
    ]
    members = dict.fromkeys([f"{root}{name}" for name in ("a.png", "sub/ä 1.png", " x.png")], "")
    members |= {f"{root}m.png": "", f"{root}list.csv": "\n".join(rows)}
    assert read("folder_list", members) == [
        Record(f"{root} x.png", Split.VALIDATION, 1, "0", "p2"),
        Record(f"{root}a.png", Split.TRAIN, 0, "normal"),
        Record(f"{root}sub/ä 1.png", Split.TEST, 1, "dent", "p1", f"{root}m.png"),
    ]


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
        ("Pfad;Klasse\na.png;normal", r"column label and path \(it has: Pfad, Klasse\)"),
        ("path,label,split\na.png,normal,tset", "of the split 'tset'"),
    ],
)
def test_a_mistake_in_a_list_is_named(rows: str, message: str) -> None:
    with pytest.raises(AeflowError, match=message):
        read("folder_list", {"a.png": "", "list.csv": rows})


COMPOSED, APART = (normalize(form, "Löcher") for form in ("NFC", "NFD"))


def test_two_ways_to_write_an_umlaut_are_one_name() -> None:
    """macOS writes it as two characters, most else as one; nobody sees it."""
    names = [f"test/{COMPOSED}/a.png", f"test/{APART}/b.png", "train/good/a.png"]
    masks = [f"ground_truth/{APART}/a_mask.png", f"ground_truth/{COMPOSED}/b_mask.png"]
    groups = "".join(
        f"{name},{group}\n" for name, group in zip(names, (COMPOSED, APART, "x"), strict=True)
    )
    table = {"groups.csv": "file,group\n" + groups}
    found = look(FOLDERS["folder_mvtec"], dict.fromkeys([*names, *masks], "") | table)
    assert {record.defect for record in found.records} == {COMPOSED, "good"}
    assert {record.group for record in found.records} == {COMPOSED, "x"}
    assert found.masks == set(masks)
    rows = f"path,label\n{COMPOSED}.png,{APART}\n"
    found = look(FOLDERS["folder_list"], {f"{APART}.png": "", "list.csv": rows})
    assert found.records == [Record(f"{APART}.png", Split.TRAIN, 1, COMPOSED)]


# What a table of groups may call the images of a folder -> what is said where it may not.
CALLED = {
    "train/good/{}.png": "",
    "train\\good\\{}.png": "",
    " ./train/good/{}.png ": "",
    "../screws/train/good/{}.png": "",
    "screws/train/good/{}.png": "",
    "{}.png": "",
    "good/{}.png": "no group for screws/train/good/0.png: add a row with it",
    "{}.PNG": "no group for",
}


@pytest.mark.parametrize("called", CALLED)
def test_a_table_of_groups_calls_images_as_a_list_does(called: str) -> None:
    names = [f"screws/train/good/{n}.png" for n in range(3)]
    rows = [f'"{called.format(n)}",p{n}' for n in range(3)]
    members = dict.fromkeys(names, "") | {"screws/groups.csv": "\n".join(["file,group", *rows])}
    if message := CALLED[called]:
        with pytest.raises(DataError, match=message):
            look(FOLDERS["folder_mvtec"], members)
        return
    found = look(FOLDERS["folder_mvtec"], members)
    assert [record.group for record in found.records] == ["p0", "p1", "p2"]
    assert found.notes == []


def test_a_name_of_several_images_is_no_group_of_them() -> None:
    names = ["train/good/0.png", "test/good/0.png"]
    table = {"groups.csv": "file,group\n0.png,p\n"}
    with pytest.raises(
        DataError, match=r"names 0\.png, and 2 images are called so, .*their paths"
    ):
        look(FOLDERS["folder_mvtec"], dict.fromkeys(names, "") | table)
    rows = "train/good/0.png,p\ntest/good/0.png,p\ntrain/good/0.png,q\n"
    table = {"groups.csv": "file,group\n" + rows}
    with pytest.raises(DataError, match=r"gives train/good/0\.png two groups"):
        look(FOLDERS["folder_mvtec"], dict.fromkeys(names, "") | table)


def test_rows_that_name_no_image_are_told() -> None:
    table = {"groups.csv": "file,group\nnormal/a.png,1\nnormal/b.png,1\nc.png,2\n"}
    found = look(FOLDERS["folder_two"], {"normal/a.png": "", **table})
    assert found.notes == ["rows that name no image: 2, such as normal/b.png in groups.csv"]


# Card, files -> how many folders are one dataset.
ROOTS = [
    ("folder_mvtec", ["bottle/train/good/a.png", "cable/train/good/b.png"], "cable/ (1)"),
    ("folder_mvtec", ["train/good/a.png", "backup/train/good/a.png"], "the top (1)"),
    ("folder_two", ["day1/normal/a.png", "day2/normal/x/b.png"], "day2/ (1)"),
    ("folder_list", ["list.csv", "a.png", "old/list.csv", "old/a.png"], "old/ (1)"),
]


@pytest.mark.parametrize(("card", "names", "named"), ROOTS)
def test_several_folders_that_are_read_as_one_are_told(
    card: str, names: list[str], named: str
) -> None:
    members = {n: "path,label\na.png,normal" if n[-3:] == "csv" else "" for n in names}
    [note] = look(FOLDERS[card], members).notes
    assert note.startswith("images of 2 folders are taken as one dataset: ")
    assert named in note


@pytest.mark.parametrize("card", ["folder_mvtec", "folder_two"])
def test_files_whose_ending_is_not_read_are_told_where_they_lie(card: str) -> None:
    folder = {"folder_mvtec": "train/good", "folder_two": "normal/day 1"}[card]
    for ending in ("heic", "HEIF", "avif", "svg", "jxl", "NEF"):
        name = f"{folder}/IMG 1.{ending}"
        with pytest.raises(
            DataError, match=rf"IMG 1\.{ending} has an ending that the card does not"
        ):
            look(FOLDERS[card], {name: ""})
        assert look(FOLDERS[card], {name: "", f"{folder}/a.png": ""}).not_used == {name: UNREAD}
    found = look(FOLDERS["folder_mvtec"], {"train/good/a.heic": "", "test/good/a.png": ""})
    with pytest.raises(DataError, match=r"normal.* 1 files, such as train/good/a\.heic \(an e"):
        check_labels(FOLDERS["folder_mvtec"], found)


def test_files_that_are_not_used_are_named_where_no_normal_is_found() -> None:
    found = look(FOLDERS["folder_two"], {"good/a.png": "", "anomalous/a.png": "", "x.txt": ""})
    with pytest.raises(DataError, match=r"Not used are 1 files, such as good/a\.png \(not in a"):
        check_labels(FOLDERS["folder_two"], found)


def test_dicom_files_that_are_called_by_their_number_are_read() -> None:
    names = [f"{n}.{m}" for n in ("1.2.840.113619.2.55", "I") for m in (1, 2, 10)]
    found = find(FOLDERS["folder_mvtec"], [f"train/good/{name}" for name in names])
    assert [record.image_id for record in found] == sorted(f"train/good/{name}" for name in names)
    assert len(find(FOLDERS["folder_two"], [f"normal/{name}" for name in names])) == 6


def test_a_mask_that_is_of_no_use_is_told() -> None:
    rows = ["a.png,normal,train,m0.png", "b.png,dent,train,m1.png", "c.png,dent,test,m2.png"]
    members = dict.fromkeys([f"{n}.png" for n in ("a", "b", "c", "m0", "m1", "m2")], "")
    table = "\n".join(["path,label,split,mask", *rows])
    found = look(FOLDERS["folder_list"], members | {"list.csv": table})
    assert found.masks == {"m2.png"}
    assert found.not_used == dict.fromkeys(["m0.png", "m1.png"], SPARE_MASK)


LISTS = {
    "sep=;\r\npath;label\r\na.png;normal": "",
    "SEP=\t\npath\tlabel\na.png\tnormal": "",
    "path,label\n./sub/../a.png,normal": "",
    "path,label\nA.PNG,normal": r"names A\.PNG, .* archive: did you mean a\.png\?",
    "path,label\n/home/me/a.png,normal": "write paths from the folder of the table on",
    "path,label\nC:\\me\\a.png,normal": "write paths from the folder of the table on",
    "path,label,split\na.png,normal,Train": "is of the split 'Train'; .* knows train, validation",
}


@pytest.mark.parametrize("table", LISTS)
def test_a_list_as_people_write_it(table: str) -> None:
    members = {"a.png": "", "list.csv": table}
    if message := LISTS[table]:
        with pytest.raises(DataError, match=message):
            look(FOLDERS["folder_list"], members)
    else:
        [record] = look(FOLDERS["folder_list"], members).records
        assert (record.source, record.defect) == ("a.png", "normal")


def test_a_list_beside_the_folder_of_its_images_may_lead_there() -> None:
    members = {"images/a.png": "", "tables/list.csv": "path,label\n../images/a.png,normal"}
    [record] = look(FOLDERS["folder_list"], members).records
    assert record.source == "images/a.png"


def test_a_table_in_another_encoding_is_noted() -> None:
    members = {"ä.png": b"", "list.csv": "path,label\nä.png,normal".encode("latin-1")}
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
        found = find_records(archive, FOLDERS["folder_list"], "all")
    assert found.notes == [
        "list.csv is no UTF-8 text: read as Windows-1252, as spreadsheets write it"
    ]


def test_nothing_is_drawn_from_images_that_say_what_they_are_for() -> None:
    for split, stated in (("train", True), ("", False)):
        table = f"path,label,split\na.png,normal,{split}\n"
        assert look(FOLDERS["folder_list"], {"a.png": "", "list.csv": table}).stated is stated
