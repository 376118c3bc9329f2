# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A detector used
#
# What was trained, on images of one's own: from a packed file, wherever it is, or from a study.
# Here from the demo (`make demo`), whose detector of brick `aeflow pack` writes as one file.

# %%
# %matplotlib inline
import os
from pathlib import Path
from zipfile import ZipFile

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import aeflow
from aeflow.detector.pack import pack
from aeflow.study.cells import Cell
from aeflow.study.settings import ThresholdSettings

here = Path.cwd()
os.chdir(next(place for place in (here, *here.parents) if (place / "Snakefile").exists()))
packed = Path("results/demo/detectors/brick.safetensors")
demo = aeflow.load("results/demo")
pack(demo.study, Cell("demo_textures", "brick", "recommended", 0), packed).detector.told()

# %% [markdown]
# From here on the file is enough.

# %%
detector = aeflow.Detector.load(packed)
print(detector.told())

# %% [markdown]
# ## Images
#
# Paths, arrays or images of PIL. These are the demo's own test photographs, out of its archive.

# %%
with ZipFile("data/raw/demo_textures.zip") as archive:
    names = [n for n in archive.namelist() if n.startswith("demo_textures/brick/test/")]
    chosen = sorted(names)[:: max(1, len(names) // 8)]
    photographs = {}
    for name in chosen:
        with archive.open(name) as file:
            photographs[name.partition("test/")[2]] = Image.open(file).convert("RGB")
table = detector.predictions(photographs.values())
table.index = list(photographs)
table[["pred_score", "p_value", "pred_label"]]

# %% [markdown]
# `p_value` is the share of the validation normals that score as high or higher: small is strange.
#
# ## Where

# %%
worst = table["pred_score"].idxmax()
heat = detector.map(photographs[worst])
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.5))
left.imshow(photographs[worst])
right.imshow(photographs[worst].resize(heat.shape))
right.imshow(heat, alpha=0.5, cmap="inferno")
for axes in (left, right):
    axes.axis("off")
left.set_title(worst)
plt.show()

# %% [markdown]
# ## At another operating point
#
# The threshold is fitted on the validation images. Here: nine of ten normal images are to pass.

# %%
detector.operate(ThresholdSettings(rule="specificity", specificity=0.9))
print(detector.told())
detector.predictions(photographs.values())["pred_label"].tolist()

# %% [markdown]
# ## As scikit-learn's outlier detectors have it
#
# `predict` says -1 for anomalous and 1 for normal; `decision_function` is threshold minus score.

# %%
gray = np.full((200, 300), 128, np.uint8)
assert detector.predict([gray]).tolist() == [-1], "no brick at all"
detector.decision_function([gray, *photographs.values()]).round(2)
