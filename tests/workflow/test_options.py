"""Options of Snakemake that cannot be used are told in one sentence, before any rule is read."""

from pathlib import Path

import pytest

from tests.workflow import warm_snakemake
from tests.workflow.conftest import ROOT, Repository


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--configfile nope.yaml", "--configfile nope.yaml: there is no such file."),
        ("--configfile {tmp}/latin.yaml", "--configfile {tmp}/latin.yaml: this is no UTF-8 text"),
        ("--configfile config", "--configfile config: Is a directory."),
        ("--config seeds", "--config: Invalid config definition:"),
        ("--directory {tmp}/latin.yaml/below", "{tmp}/latin.yaml/below: Not a directory."),
    ],
)
def test_an_option_that_cannot_be_used_is_told_in_one_sentence(
    tmp_path: Path, options: str, said: str
) -> None:
    (tmp_path / "latin.yaml").write_bytes("study: grün".encode("latin-1"))
    arguments = ["--dry-run", *options.format(tmp=tmp_path).split()]
    done = warm_snakemake.run(arguments, ROOT, Repository(ROOT).environment())
    lines = (done.stdout + done.stderr).splitlines()
    told = [line for line in lines if line.startswith(said.format(tmp=tmp_path))]
    assert done.returncode == 1
    assert len(told) == 1
    assert len(lines) <= 3, "no traceback"
