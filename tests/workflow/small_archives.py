"""Small archives with the official layout, file names and quirks of every dataset card."""

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zipfile import ZipFile

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Members = dict[str, bytes]
SIDE = 48


@dataclass
class Small:
    """What a server would have of a dataset.

    Attributes:
        files: By the names on the card.
        counts: Of the card's categories, as the card would state them.
        categories: Those that the archive holds; None: all of the card.
    """

    files: Members
    counts: dict[str, Any] = field(default_factory=dict)
    categories: list[str] | None = None


_drawn = 0


def picture(anomalous: bool = False, side: int = SIDE, channels: int = 3) -> NDArray[np.uint8]:
    """Return a picture that is like no other; an anomalous one has a bright spot."""
    global _drawn
    _drawn += 1
    draw = np.random.default_rng(_drawn)
    pixels = draw.integers(0, 120, (side, side, channels), dtype=np.uint8)
    if anomalous:
        pixels[spot(side)] = 250
    return pixels if channels == 3 else pixels[:, :, 0]


def spot(side: int) -> tuple[slice, slice]:
    return slice(side // 4, side // 2), slice(side // 2, 3 * side // 4)


def encode(pixels: NDArray[np.uint8], kind: str = "JPEG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def image(anomalous: bool = False, kind: str = "JPEG", channels: int = 3) -> bytes:
    return encode(picture(anomalous, channels=channels), kind)


def mask(kind: str = "PNG") -> bytes:
    pixels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    pixels[spot(SIDE)] = 255
    return encode(pixels, kind)


def zipped(members: Members) -> bytes:
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(members: Members, mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for folder in sorted({name.rpartition("/")[0] for name in members} - {""}):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def counted(*numbers: int) -> dict[str, int]:
    keys = ("train_normal", "train_anomalous", "test_normal", "test_anomalous")
    return dict(zip(keys, numbers, strict=True))


def oct2017() -> Small:
    """Patients 3 to 5 are in train and test; macOS left its own files behind."""
    members: Members = {"OCT2017/.DS_Store": b"x"}
    for patient in range(1000003, 1000016):
        for number in (1, 2):
            members[f"OCT2017/train/NORMAL/NORMAL-{patient}-{number}.jpeg"] = image(channels=1)
    members["OCT2017/train/NORMAL/._NORMAL-1000003-1.jpeg"] = b"Mac OS X"
    for defect in ("CNV", "DME", "DRUSEN"):
        for patient in (5000001, 5000002):
            members[f"OCT2017/train/{defect}/{defect}-{patient}-7.jpeg"] = image(True)
        members[f"OCT2017/test/{defect}/{defect}-5000001-{len(defect)}.jpeg"] = image(True)
    for patient in (1000003, 1000004, 1000005):
        members[f"OCT2017/test/NORMAL/NORMAL-{patient}-3.jpeg"] = image(channels=1)
    return Small({"OCT2017.tar.gz": tarred(members, "w:gz")}, {"all": counted(26, 6, 3, 3)})


def chest_xray() -> Small:
    """Two ways to name a healthy child; person1 is in train and test."""
    members: Members = {"chest_xray/.DS_Store": b"x", "__MACOSX/chest_xray/._train": b"x"}
    for number in range(8):
        members[f"chest_xray/train/NORMAL/IM-{number:04}-0001.jpeg"] = image(channels=1)
        name = f"NORMAL2-IM-{number:04}-0001-0002.jpeg"
        members[f"chest_xray/train/NORMAL/{name}"] = image()
        members[f"chest_xray/train/PNEUMONIA/person{number}_bacteria_{number}.jpeg"] = image(True)
    for number in range(3):
        members[f"chest_xray/test/NORMAL/IM-{number + 90:04}-0001.jpeg"] = image(channels=1)
        members[f"chest_xray/test/PNEUMONIA/person1_virus_{number}.jpeg"] = image(True)
    return Small({"ChestXRay2017.zip": zipped(members)}, {"all": counted(16, 8, 3, 3)})


def isic2018() -> Small:
    """Four zips, each with a folder of its own name; one-hot CSV files in floats."""
    files: Members = {}
    classes = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    number = 24306
    for part, normal in (("Training", 16), ("Validation", 3)):
        stem = f"ISIC2018_Task3_{part}"
        images: Members = {
            f"{stem}_Input/LICENSE.txt": b"CC",
            f"{stem}_Input/ATTRIBUTION.txt": b"",
        }
        rows = ["image," + ",".join(classes)]
        for label in ["NV"] * normal + [name for name in classes if name != "NV"]:
            number += 1
            images[f"{stem}_Input/ISIC_{number:07}.jpg"] = image(label != "NV")
            rows.append(
                f"ISIC_{number:07}," + ",".join(f"{name == label:.1f}" for name in classes)
            )
        table = {f"{stem}_GroundTruth/{stem}_GroundTruth.csv": "\r\n".join(rows).encode()}
        files[f"{stem}_Input.zip"] = zipped(images)
        files[f"{stem}_GroundTruth.zip"] = zipped(table)
    return Small(files, {"all": counted(16, 6, 3, 6)})


def brats2021() -> Small:
    """Ten cases of five volumes; the tumour grows from slice to slice."""
    members: Members = {}
    for case in range(10):
        draw = np.random.default_rng(case)
        flair = np.zeros((SIDE, SIDE, 31), dtype=np.int16)
        flair[8:40, 4:44, 3:28] = draw.integers(100, 900, (32, 40, 25))
        seg = np.zeros(flair.shape, dtype=np.uint8)
        for z in range(15, 28):
            seg[12 : 12 + z - 14, 20:30, z] = (1, 2, 4)[z % 3]
        for kind in ("flair", "t1", "t1ce", "t2", "seg"):
            volume = nib.Nifti1Image(seg if kind == "seg" else flair, np.diag([-1, -1, 1, 1]))
            name = f"BraTS2021_{case:05}"
            members[f"{name}/{name}_{kind}.nii.gz"] = gzip.compress(volume.to_bytes(), 1)
    return Small({"BraTS2021_Training_Data.tar": tarred(members, "w")}, {"all": None})


def miic() -> Small:
    """Masks and padded images lie beside the images of the set."""
    members: Members = {"readme.txt": b"x", "Inpainting_test/a_normal_00001.jpg": image()}
    for number in range(16):
        members[f"Anomaly_train/train_normal_{number:05}.jpg"] = image(channels=1)
    for number in range(3):
        members[f"Anomaly_test/test_normal_{number:05}.jpg"] = image(channels=1)
        members[f"Anomaly_test/test_abnormal_{number:05}.jpg"] = image(True, channels=1)
        members[f"Anomaly_test/test_abnormal_mask_{number:05}.jpg"] = mask("JPEG")
        members[f"Anomaly_test/mask_abnormal_{number:05}.jpg"] = mask("JPEG")
        members[f"Anomaly_test/test_abnormal_{number:05}_padded.jpg"] = image(True)
    return Small({"miic.zip": zipped(members)}, {"all": counted(16, 0, 3, 3)})


def btad() -> Small:
    """Product 01: BMP images with PNG masks; 03: both BMP."""
    members: Members = {"BTech_Dataset_transformed/readme.txt": b"CC-BY-SA"}
    for product, ending in (("01", "png"), ("03", "bmp")):
        folder = f"BTech_Dataset_transformed/{product}"
        for number in range(16):
            members[f"{folder}/train/ok/{number:04}.bmp"] = image(kind="BMP")
        for number in range(3):
            members[f"{folder}/test/ok/{number:04}.bmp"] = image(kind="BMP")
            members[f"{folder}/test/ko/{number:04}.bmp"] = image(True, kind="BMP")
            kind = ending.upper()
            members[f"{folder}/ground_truth/ko/{number:04}.{ending}"] = mask(kind)
        members[f"{folder}/test/Thumbs.db"] = b"x"
    counts = {product: counted(16, 0, 3, 3) for product in ("01", "02", "03")}
    return Small({"btad.zip": zipped(members)}, counts, ["03"])


def mvtec_ad() -> Small:
    """The name of an image is in every folder again; the category grid is gray."""
    members: Members = {"license.txt": b"CC", "readme.txt": b"x"}
    defects = {
        "bottle": ["broken_large", "contamination"],
        "grid": ["bent", "metal_contamination"],
    }
    for category, kinds in defects.items():
        channels = 1 if category == "grid" else 3
        members[f"{category}/license.txt"] = b"CC"
        for number in range(16):
            members[f"{category}/train/good/{number:03}.png"] = image(False, "PNG", channels)
        for number in range(3):
            members[f"{category}/test/good/{number:03}.png"] = image(False, "PNG", channels)
            for kind in kinds:
                name = f"{kind}/{number:03}"
                members[f"{category}/test/{name}.png"] = image(True, "PNG", channels)
                members[f"{category}/ground_truth/{name}_mask.png"] = mask()
    counts = {category: counted(16, 0, 3, 6) for category in defects}
    files = {"mvtec_anomaly_detection.tar.xz": tarred(members, "w:xz")}
    return Small(files, counts, ["grid"])


def medmnist(name: str, classes: int, normal: int, channels: int, side: int) -> Small:
    """Labels are a column; MedMNIST calls its validation split val."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    for split, normals in (("train", 16), ("val", 4), ("test", 3)):
        labels = [normal] * normals + [n for n in range(classes) if n != normal] * 2
        pictures = [picture(label != normal, side, channels) for label in labels]
        arrays[f"{split}_images"] = np.stack(pictures)
        arrays[f"{split}_labels"] = np.array(labels, dtype=np.uint8)[:, None]
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    others = 2 * (classes - 1)
    counts = {"train": 16 + others, "validation": 4 + others, "test": 3 + others}
    if name.startswith("pneumonia"):
        counts |= {"test_normal": 3, "test_anomalous": others}
    return Small({f"{name}.npz": content.getvalue()}, {"all": counts})


def magnetic_tile(file: str = "magnetic_tile.zip", root: str = "magnetic_tile/") -> Small:
    """Sizes vary; one mask is empty; groups.csv tells which tile an image shows."""
    members: Members = {}
    rows = ["file,class,group"]
    for number in range(22):
        name = f"exp{number % 6}_num_{number}"
        split, defect = ("train", "good") if number < 16 else ("test", "good")
        if number >= 19:
            defect = "uneven" if number == 21 else "blowhole"
            empty = np.zeros((SIDE, SIDE), dtype=np.uint8)
            content = encode(empty, "PNG") if number == 21 else mask()
            members[f"{root}ground_truth/{defect}/{name}_mask.png"] = content
        members[f"{root}{split}/{defect}/{name}.jpg"] = image(number >= 19, channels=1)
        rows.append(f"{name}.jpg,MT_{defect.title()},{number // 2}")
    members[f"{root}groups.csv"] = "\n".join(rows).encode()
    return Small({file: zipped(members)}, {"all": counted(16, 0, 3, 3)})


def folder_two() -> Small:
    """Without a test; spaces and letters that are not ASCII in the names."""
    members: Members = {}
    for number in range(16):
        members[f"images/normal/Teil {number}.png"] = image(kind="PNG")
        members[f"images/anomalous/Kratzer/Stück {number}.PNG"] = image(True, "PNG")
    return Small({"parts.zip": zipped(members)}, {"all": None})


def folder_list() -> Small:
    """Every column; a TIFF of 16 bits; an image that the list does not name."""
    members: Members = {"b/unlisted.png": image(kind="PNG")}
    rows = ["path,label,split,group,mask"]
    for number in range(20):
        split = "train" if number < 12 else "validation" if number < 15 else "test"
        deep = picture(channels=1).astype(np.uint16) * 200
        content = io.BytesIO()
        Image.fromarray(deep).save(content, "TIFF")
        members[f"a/{number}.tif"] = content.getvalue()
        rows.append(f"a/{number}.tif,normal,{split},,")
    for number in range(4):
        members[f"b/{number}.jpg"] = image(True)
        members[f"masks/{number}.png"] = mask()
        rows.append(
            f"./b/{number}.jpg,dent,{'test' if number else 'train'},d{number},masks/{number}.png"
        )
    members["list.csv"] = ("\ufeff" + "\r\n".join(rows)).encode()
    return Small({"list.tar": tarred(members, "w")}, {"all": None})


SMALL: dict[str, Callable[[], Small]] = {
    "oct2017": oct2017,
    "chest_xray": chest_xray,
    "isic2018": isic2018,
    "brats2021": brats2021,
    "miic": miic,
    "btad": btad,
    "mvtec_ad": mvtec_ad,
    "pneumoniamnist": lambda: medmnist("pneumoniamnist_64", 2, 0, 1, 64),
    "octmnist": lambda: medmnist("octmnist", 4, 3, 1, 28),
    "dermamnist": lambda: medmnist("dermamnist", 7, 5, 3, 28),
    "magnetic_tile": magnetic_tile,
    "folder_mvtec": lambda: magnetic_tile("tiles.zip", root=""),
    "folder_two": folder_two,
    "folder_list": folder_list,
}
