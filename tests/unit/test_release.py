"""What is installed, released and told of both agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aeflow.commands.demo import CODE, write_project
from aeflow.core.errors import DataError

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
PIP_LOCKS = sorted(ROOT.glob("requirements*.lock"))
# Of other systems or Pythons, and this package.
OTHERS = {
    *("aeflow", "appnope", "backports-tarfile", "colorama", "httpx2-jsfetch"),
    *("importlib-resources", "pyreadline3", "pywin32", "tzdata"),
}
ENTRY = re.compile(r"^(\S+?)==(\S+)(?: ; .*?)? \\\n((?: +--hash=\S+(?: \\)?\n)+)", re.MULTILINE)


def test_the_version_is_the_same_everywhere() -> None:
    """Where there is no tag, as in an archive; a release's workflow compares the tag."""
    version = PYPROJECT["tool"]["hatch"]["version"]["raw-options"]["fallback_version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert re.search(rf"^## \[({re.escape(version)}|Unreleased)\]", changelog(), re.MULTILINE)


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text()


def test_uv_locks_what_pyproject_asks_for() -> None:
    [own] = [package for package in LOCK["package"] if package["name"] == "aeflow"]
    project = PYPROJECT["project"]
    asked = {
        (canonicalize_name(found.name), str(found.specifier), extra)
        for extra, texts in (
            {"": project["dependencies"]} | project["optional-dependencies"]
        ).items()
        for found in map(Requirement, texts)
    }
    locked = {
        (
            of["name"],
            str(Requirement(f"x{of.get('specifier', '')}").specifier),
            re.sub(r"extra == '(.*)'", r"\1", of.get("marker", "")),
        )
        for of in own["metadata"]["requires-dist"]
    }
    assert locked == asked, "python scripts/write_generated.py --what locks"


def test_pip_installs_what_uv_locked_byte_for_byte() -> None:
    hashes = {
        (package["name"], package.get("version")): {
            file["hash"] for file in [*package.get("wheels", []), package.get("sdist")] if file
        }
        for package in LOCK["package"]
    }
    for lock in PIP_LOCKS:
        text = lock.read_text()
        entries = ENTRY.findall(text)
        assert len(entries) == text.count("==") - text.count("'==") - text.count("== '"), lock
        for name, version, listed in entries:
            wanted = set(re.findall(r"--hash=(\S+)", listed))
            assert wanted, (lock, name)
            assert wanted == hashes[name, version], (lock, name)


def test_the_locks_name_no_index_but_the_public_one() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}
    assert not any("://" in lock.read_text() for lock in PIP_LOCKS)


def test_the_list_of_licences_is_of_what_is_locked() -> None:
    listed = {
        (canonicalize_name(cells[1].strip()), cells[2].strip())
        for line in (ROOT / "docs/licences.md").read_text().splitlines()
        if len(cells := line.split("|")) > 3
    } - {("name", "Version"), ("---", "---"), ("-", "---")}
    locked = {(package["name"], package.get("version")) for package in LOCK["package"]}
    assert listed - locked == set(), "make licences"
    assert {name for name, _ in locked} - {name for name, _ in listed} <= OTHERS


def test_every_workflow_runs_what_a_change_must_pass() -> None:
    for file in (ROOT / ".github/workflows").iterdir():
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            assert ".ci/run" in [step.get("run") for step in job["steps"]], (file, name)


def test_every_issue_form_asks_for_something() -> None:
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for file in forms:
        form = yaml.safe_load(file.read_text())
        if file.stem != "config":
            assert {"name", "description", "body"} <= form.keys()
            assert any(part.get("validations", {}).get("required") for part in form["body"])
            ids = [part["id"] for part in form["body"]]
            assert len(ids) == len(set(ids))


def test_a_wheel_runs_a_study_where_there_is_no_clone(tmp_path: Path) -> None:
    """As after `pip install`: from the wheel alone, in an empty folder, a plan of the demo."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(tmp_path)], cwd=ROOT, check=True)
    [wheel] = tmp_path.glob("*.whl")
    installed, away = tmp_path / "installed", tmp_path / "away"
    with ZipFile(wheel) as archive:
        archive.extractall(installed)
    away.mkdir()
    write = "from aeflow.commands.demo import Path, write_project; write_project(Path())"
    run(away, installed, "-c", write)
    for name in (*CODE, "aeflow"):
        assert (away / name).resolve().is_relative_to(installed)
    plan = run(away, installed, "-m", "snakemake", "-n", "--configfile", "config/demo.yaml")
    assert "jobs. Nothing was run" in plan
    # Its files are the repository's.
    for name in ("Snakefile", "config/demo.yaml", "scripts/train_model.py", "aeflow/cli.py"):
        assert (away / name).read_bytes() == (ROOT / name).read_bytes()


def run(folder: Path, path: Path, *arguments: str) -> str:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment | {"HOME": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_project_is_made_in_no_folder_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds other files and is no project of aeflow"):
        write_project(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_project_keeps_what_was_edited_and_finds_the_package_again(tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project(project)
    (project / "config/demo.yaml").write_text("study: mine\n")
    (project / "aeflow").unlink()
    (project / "aeflow").symlink_to(tmp_path / "gone")
    write_project(project)
    assert (project / "config/demo.yaml").read_text() == "study: mine\n"
    assert (project / "aeflow/cli.py").is_file()
