"""No command grows with the study, and a shell finds nothing in one but names and paths."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aeflow.study.cells import STEPS
from tests.workflow.conftest import Repository, copy_repository

CATEGORIES, VARIANTS, ALPHAS = 30, 60, 5
LONGEST = 1000  # characters
# What is no more to a shell than itself.
PLAIN = re.compile(r"[A-Za-z0-9_./+ -]+")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy of the repository with a card of many categories and a study of many variants."""
    folder = copy_repository(tmp_path_factory.mktemp("many"))
    card = yaml.safe_load((folder / "config/datasets/folder_mvtec.yaml").read_text())
    categories = [f"part_{'of_a_part_' * 3}{number:03d}" for number in range(CATEGORIES)]
    card |= {"name": "many", "counts": dict.fromkeys(categories)}
    (folder / "config/datasets/many.yaml").write_text(yaml.safe_dump(card))
    variants = [
        {"name": "aeflow"},
        {"name": "gradient", "method": "gradient"},
        {"name": "both", "method": "fusion", "members": ["aeflow", "gradient"]},
    ]
    rest = VARIANTS - len(variants)
    own = {"of": "aeflow", "key": "loss.alpha"}
    alphas = [round(number / 100, 2) for number in range(1, ALPHAS + 1)]
    betas = [round(number / 100, 2) for number in range(rest - len(alphas))]
    ablations = [
        {"name": "weight_of_the_losses", **own, "values": alphas},
        {"name": "weight_of_the_scores", **own, "key": "score.beta", "values": betas},
    ]
    study = {
        **{"study": "a_study_of_many_parts", "variants": variants, "ablations": ablations},
        **{"datasets": [{"name": "many", "source": "http://localhost/many.zip"}], "seeds": [0]},
        "encoder": {"name": "efficientnet_lite0"},
    }
    (folder / "many.json").write_text(json.dumps(study))
    return Repository(folder)


def test_a_study_of_many_categories_and_variants_has_short_plain_commands(
    many: Repository,
) -> None:
    said = many.snakemake("--dry-run", "--printshellcmds", overlay="many.json").stdout
    commands = re.findall(r"^Shell command: (python .*)$", said, re.MULTILINE)
    rules = {Path(command.split()[1]).stem for command in commands}
    assert rules == {*STEPS, "make_table", "plot_figure", "build_browse", "build_report"}
    (total,) = set(re.findall(r"^total +(\d+)$", said, re.MULTILINE))
    assert len(commands) == int(total) - 1, "of every job but `all`"
    trained = sum("train_model" in command for command in commands)
    assert trained == CATEGORIES * (1 + ALPHAS), "another beta is no other training"
    assert max(map(len, commands)) <= LONGEST
    assert [command for command in commands if not PLAIN.fullmatch(command)] == []


def test_a_card_with_a_command_for_a_category_is_refused(many: Repository) -> None:
    """Whatever a shell would read, in whatever place: tests/unit/study/test_names.py."""
    name = "$(touch ran)"
    card = yaml.safe_load((many.folder / "config/datasets/many.yaml").read_text())
    card |= {"name": "wrong", "counts": {name: None}}
    (many.folder / "config/datasets/wrong.yaml").write_text(yaml.safe_dump(card))
    entry = [{"name": "wrong", "source": "/nowhere"}]
    done = many.snakemake("--config", f"datasets={json.dumps(entry)}", check=False)
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith(f"config/datasets/wrong.yaml: counts.{name}: a name is ")
    assert not list(many.folder.rglob("ran"))


def test_a_command_that_is_printed_does_what_it_is_printed_for(tmp_path: Path) -> None:
    repository = Repository(copy_repository(tmp_path))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        where = {"cwd": repository.folder, "env": repository.environment()}
        return subprocess.run(command, **where, capture_output=True, text=True, check=False)

    check = [sys.executable, "-m", "aeflow", "datasets", "check", "demo_textures"]
    asked = run(*check)
    assert asked.returncode == 1
    [command] = re.findall("`(snakemake [^`]+)`", asked.stderr)
    fetched = run("sh", "-c", command)
    assert fetched.returncode == 0, fetched.stderr
    assert run(*check).returncode == 0
