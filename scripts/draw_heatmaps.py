"""Draw the README's picture: of each category of a study one test image, below it under its map.

The image is the anomalous one whose score is in the middle, so no picture was picked.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import aeflow
from aeflow.core.files import atomic_path
from aeflow.data.prepared import open_prepared
from aeflow.detector.pack import pack
from aeflow.display.heat import outline, under_map
from aeflow.study import cells
from aeflow.study.cells import Cell

GAP = 4  # pixels


def draw_heatmaps(folder: Path, variant: str, out: Path) -> None:
    """Write the picture as JPEG, and print which images it shows."""
    results = aeflow.load(folder)
    study = results.study
    columns = []
    for dataset in (entry.name for entry in study.datasets):
        for category in study.categories(dataset):
            scores = results.scores(dataset, variant, category)
            found = scores[(scores["split"] == "test") & (scores["gt_label"] == 1)]
            if found.empty:
                continue
            middle = found.sort_values("pred_score")["image_id"].iloc[len(found) // 2]
            print(dataset, category, middle)
            cell = Cell(dataset, category, variant, study.seeds[0])
            names = ["images", "index"] + ["masks"] * study.card(dataset).layout.tells_masks
            prepared = open_prepared(*(cells.path(study, name, cell) for name in names))
            row = int(np.flatnonzero(prepared.index["image_id"] == middle)[0])
            pixels = np.array(prepared.images[row])
            with TemporaryDirectory() as held:  # packing measures the scale of normal maps
                detector = pack(study, cell, Path(held, "packed.safetensors")).detector
            scale, maps = detector.facts.map_scale, detector.examine(pixels[None]).maps
            assert scale is not None
            assert maps is not None
            heat = Image.fromarray(under_map(pixels, maps[0], *scale))
            mask = prepared.mask(row)
            if mask is not None:
                pixels[outline(mask)] = 255
            columns.append((Image.fromarray(pixels), heat))
    side = columns[0][0].width
    page = Image.new("RGB", (len(columns) * (side + GAP) - GAP, 2 * side + GAP), "white")
    for place, pair in enumerate(columns):
        for below, each in enumerate(pair):
            page.paste(each, (place * (side + GAP), below * (side + GAP)))
    with atomic_path(out) as part:
        page.save(part, "JPEG", quality=88)


if __name__ == "__main__":
    draw_heatmaps(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
