"""Stub."""

from pathlib import Path


def tables(study):
    return ["results"]


def figures(study):
    return []


def inputs(study, name, of=None):
    from aeflow.study.cells import score_tables, path

    return [path(study, "metrics", c) for c in score_tables(study)]


def page_inputs(study):
    return []


def code_of(name):
    return [Path("aeflow/questions/results.py")]
