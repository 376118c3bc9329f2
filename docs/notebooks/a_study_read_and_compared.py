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
# # A study read and compared
#
# Of the demo, which `make demo` runs in two minutes. Any other study is read alike.
# `jupytext --to notebook` makes a notebook of this file; Jupyter Lab with jupytext opens it as it
# is.

# %%
# %matplotlib inline
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import aeflow

# A study's files are named from its repository's folder.
here = Path.cwd()
os.chdir(next(place for place in (here, *here.parents) if (place / "Snakefile").exists()))
demo = aeflow.load("results/demo")
demo.tables

# %% [markdown]
# ## Tables
#
# Each table of the report is a data frame. Shares lie between 0 and 1.

# %%
main = demo.table("main").set_index("variant")
main.loc[demo.study.named, ["image_auroc_mean", "f1_mean", "pixel_auroc_mean", "aupro_mean"]]

# %% [markdown]
# Is a difference more than chance? `comparison` tests each variant against the study's reference.

# %%
comparison = demo.table("comparison")
comparison.head()

# %% [markdown]
# ## Figures

# %%
demo.plot("roc")

# %%
demo.plot("panels", "demo_textures", "brick", "recommended")

# %% [markdown]
# ## Scores
#
# A row per validation and test image, a column per score component, and the score made of them.

# %%
brick = {name: demo.scores("demo_textures", name, "brick") for name in ("aeflow", "recommended")}
brick["recommended"].head()

# %% [markdown]
# On which images do two variants disagree? Ranks compare scores of different scales.

# %%
test = brick["aeflow"]["split"] == "test"
ranks = {name: scores.loc[test, "pred_score"].rank(pct=True) for name, scores in brick.items()}
apart = (ranks["aeflow"] - ranks["recommended"]).abs().sort_values(ascending=False)
brick["aeflow"].loc[apart.index[:5], ["image_id", "defect"]].assign(apart=apart)

# %%
figure, axes = plt.subplots(figsize=(4, 4))
labels = brick["aeflow"].loc[test, "gt_label"]
for label, name in enumerate(("normal", "anomalous")):
    chosen = labels == label
    axes.scatter(ranks["aeflow"][chosen], ranks["recommended"][chosen], label=name, s=12)
axes.set(xlabel="rank by aeflow", ylabel="rank by recommended")
axes.legend()
plt.show()

# %% [markdown]
# ## What a number rests on
#
# The AUROC of a table is that of these scores: nothing else is behind it.

# %%
results = demo.table("results").set_index(["variant", "category"])
scores = brick["recommended"][test]
normal, anomalous = (scores.loc[scores["gt_label"] == label, "pred_score"] for label in (0, 1))
wins = (anomalous.to_numpy()[:, None] > normal.to_numpy()).mean()
assert np.isclose(wins, results.loc[("recommended", "brick"), "image_auroc"].item(), atol=1e-6)
float(wins)
