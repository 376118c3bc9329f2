"""Parts of a dataset's card: what its files are, how they tell what an image is, how many."""

import re
from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from aeflow.core.schema import Strict, label_fault
from aeflow.core.types import Split

MAX_COUNT = 10**9


class Layout(Strict):
    """How an archive tells what its images are: by their paths, or in a list."""

    image: str | None = Field(
        None,
        description="Regular expression that an image's path inside the archive matches whole. "
        "Named groups: defect (unless there is `one_hot`), split (unless there is "
        "`test_fraction`), category, group (patient, tile), and any other for `mask`.",
    )
    image_list: str | None = Field(
        None,
        description="Instead of `image`: regular expression of the path of a CSV file with the "
        "columns path (relative to the CSV's folder) and label, and if wanted split, group, mask "
        "and category.",
    )
    normal: str = Field(description="Value of defect, or label, that means normal.")
    splits: dict[str, Split] = Field(
        {split.value: split for split in Split},
        description="What the values of split mean: train, validation or test.",
    )
    test_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Where no image says what it is for: share of the normal and of the "
        "anomalous images that is drawn for the test, by group where known.",
    )
    mask: str | None = Field(
        None,
        description="Path of an anomalous image's mask; {name} is a group of `image`, `.*` at "
        "the end any extension.",
    )
    groups: str | None = Field(
        None,
        description="Regular expression of the path of a CSV file: column `file` (path of an "
        "image, from the CSV's folder or the top on, or its name where no other is called so) and "
        "column `group`; other columns are ignored.",
    )
    one_hot: str | None = Field(
        None,
        description="Regular expression of the paths of CSV files that tell the defect: column "
        "`image` (file name without extension) and a column per class, 1 in one of them.",
    )

    @property
    def tells_masks(self) -> bool:
        """Whether there may be masks."""
        return self.mask is not None or self.image_list is not None

    @field_validator("image", "image_list", "groups", "one_hot")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from error
        return pattern

    @field_validator("normal")
    @classmethod
    def _label(cls, label: str) -> str:
        if fault := label_fault(label):
            raise ValueError(f"the label {fault}")
        return label

    @field_validator("mask")
    @classmethod
    def _plain_fields(cls, mask: str | None) -> str | None:
        """Refuse what `str.format` would make of a field: a width of a billion, an attribute."""
        for _, name, form, conversion in Formatter().parse(mask or ""):
            if name is not None and (form or conversion or not name.isidentifier()):
                raise ValueError("a field is the name of a group in braces, such as {stem}")
        return mask

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.image is None) == (self.image_list is None):
            raise ValueError("a layout has either image or image_list")
        if self.image_list is not None:
            if self.test_fraction is None:
                raise ValueError("test_fraction is missing: a list may have no column split")
            return self
        names = re.compile(self.image or "").groupindex
        needed = {"split"} if self.test_fraction is None else set()
        needed |= {"defect"} if self.one_hot is None else set()
        missing = needed - names.keys()
        if missing:
            raise ValueError(f"image has no group named {' and '.join(sorted(missing))}")
        used = {name for _, name, _, _ in Formatter().parse(self.mask or "") if name is not None}
        unknown = used - names.keys() - {"defect"}
        if unknown:
            raise ValueError(f"mask uses {', '.join(sorted(unknown))}, no group of image")
        return self


class Counts(Strict):
    """Images that a category of the untouched dataset holds; null: not known to us, not checked.

    `train`, `validation` and `test` are totals.
    """

    train: int | None = Field(None, ge=1, le=MAX_COUNT)
    train_normal: int | None = Field(None, ge=1, le=MAX_COUNT)
    train_anomalous: int | None = Field(None, ge=0, le=MAX_COUNT)
    validation: int | None = Field(None, ge=0, le=MAX_COUNT)
    validation_normal: int | None = Field(None, ge=0, le=MAX_COUNT)
    validation_anomalous: int | None = Field(None, ge=0, le=MAX_COUNT)
    test: int | None = Field(None, ge=0, le=MAX_COUNT)
    test_normal: int | None = Field(None, ge=0, le=MAX_COUNT)
    test_anomalous: int | None = Field(None, ge=0, le=MAX_COUNT)


class MedmnistConversion(Strict):
    """MedMNIST's .npz files become a PNG per image: <name>/<split>/<class>/<number>.png."""

    kind: Literal["medmnist"]
    classes: list[str] = Field(
        min_length=2, max_length=256, description="Names of the labels 0, 1, ..."
    )

    @property
    def folders(self) -> list[str]:
        """The folder of each label's images."""
        return [re.sub("[^a-z0-9]+", "_", name.lower()) for name in self.classes]

    @field_validator("classes")
    @classmethod
    def _labels(cls, classes: list[str]) -> list[str]:
        for fault in filter(None, map(label_fault, classes)):
            raise ValueError(f"a label {fault}")
        return classes

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.folders)) < len(self.folders):
            raise ValueError("two classes have the same letters and digits")
        return self


class BratsConversion(Strict):
    """BraTS' NIfTI volumes become a PNG per axial slice and, beside tumour slices, a mask.

    slices/<normal or tumour>/<case>_<slice>.png and masks/<case>_<slice>.png; the brain is
    where the volume is not zero.
    """

    kind: Literal["brats"]
    modality: Literal["flair", "t1", "t1ce", "t2"]
    step: int = Field(ge=1, le=1000, description="Every how many slices one is used.")
    min_brain: float = Field(gt=0, lt=1, description="Least share of a slice that is brain.")
    min_tumour: float = Field(
        gt=0,
        lt=1,
        description="Least share of a slice's brain that is tumour for it to be anomalous; "
        "slices with less, but some, are left out.",
    )
    percentiles: tuple[float, float] = Field(
        description="Of the brain's intensities in the volume: become black and white."
    )

    @field_validator("percentiles")
    @classmethod
    def _ascending(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        low, high = percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("two percentiles are 0 <= low < high <= 100")
        return percentiles


Conversion = Annotated[MedmnistConversion | BratsConversion, Field(discriminator="kind")]
