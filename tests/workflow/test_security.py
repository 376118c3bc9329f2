"""What docs/security.md promises, as a user meets it: in a run, in its folder, in git."""

import json
import os
import re
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tests.unit.data.faulty_server import Server, serving
from tests.workflow.conftest import CELL, Repository, Shared, copy_repository
from tests.workflow.test_bad_inputs import CARD, OVERLAY, encoded, noise

# In two halves, as the copies hold this file too.
PASSWORD, TOKEN = "pa55" + "-of-nobody", "t0k3n" + "-of-nobody"
SECRETS = (PASSWORD, TOKEN, b64encode(f"user:{PASSWORD}".encode()).decode())


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture
def toy(tmp_path: Path, server: Server) -> Shared:
    """A copy with a dataset whose files a server has, for who knows the password."""
    folder = copy_repository(tmp_path / "copy")
    archive = tmp_path / "toy.zip"
    with ZipFile(archive, "w") as members:
        kinds = {"train/good": 20, "test/good": 2, "test/bad": 2}
        for kind, (place, count) in enumerate(kinds.items()):
            for number in range(count):
                image = encoded(noise(100 * kind + number), "PNG")
                members.writestr(f"toy/{place}/{number}.png", image)
    server.files["/toy.zip"] = archive.read_bytes()
    server.wanted = f"Basic {SECRETS[2]}"
    (folder / "config/datasets/toy.yaml").write_text(yaml.safe_dump(CARD))
    overlay = {**OVERLAY, "datasets": [{"name": "toy"}]}
    (folder / "toy.yaml").write_text(yaml.safe_dump(overlay))
    repository = Shared(folder)
    repository.overlay = "toy.yaml"
    return repository


def with_secret(folder: Path) -> list[str]:
    """Return the files of a folder, and the processes, that hold a secret."""
    secrets = [secret.encode() for secret in SECRETS]
    found = [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if any(secret in str(path).encode() for secret in secrets)
        or (path.is_file() and any(secret in path.read_bytes() for secret in secrets))
    ]
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = line.read_bytes()
        except OSError:
            continue  # it has ended
        found += [str(line) for secret in secrets if secret in command]
    return found


def test_a_secret_is_in_no_file_no_log_no_record_no_command_line_and_not_in_git(
    toy: Shared, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole study whose mirror has a password and a query, handed over to git and DVC."""
    mirror = f"{server.url.replace('//', f'//user:{PASSWORD}@')}/?token={TOKEN}"
    monkeypatch.setenv("AEFLOW_MIRROR", mirror)
    monkeypatch.setenv("AEFLOW_AUTH", f"other.example.org Bearer {TOKEN}")
    server.gate.clear()
    running = subprocess.Popen(
        toy.command("--printshellcmds", "--verbose"),
        cwd=toy.folder,
        env=toy.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not server.asked and running.poll() is None:
        time.sleep(0.02)
    held = with_secret(toy.folder)  # while the job waits for the server
    server.gate.set()
    told, _ = running.communicate()
    assert running.returncode == 0, told
    assert server.got == [(server.wanted, f"token={TOKEN}")]
    toy.record()
    assert "report.html" in toy.call("git", "ls-files").stdout
    assert ".snakemake/metadata/" in toy.call("git", "ls-files").stdout
    index = toy.call("git", "grep", "--cached", "-e", PASSWORD, "-e", TOKEN, check=False)
    assert (index.returncode, index.stdout) == (1, "")
    every = ["git", "cat-file", "--batch-all-objects", "--batch"]
    objects = subprocess.check_output(every, cwd=toy.folder)
    assert b"study: toy" in objects
    assert not any(secret.encode() in objects for secret in SECRETS)
    assert held == with_secret(toy.folder) == []
    assert not any(secret in told for secret in SECRETS)


def test_a_secret_in_a_configuration_is_refused_and_kept_nowhere(
    toy: Shared, server: Server, tmp_path: Path
) -> None:
    source = f"{server.url.replace('//', f'//user:{PASSWORD}@')}/toy.zip?token={TOKEN}"
    overlay = tmp_path / "overlay.yaml"
    entry = {"name": "toy", "source": source}
    overlay.write_text(yaml.safe_dump({**OVERLAY, "datasets": [entry]}))
    refused = [
        toy.snakemake(overlay=str(overlay), check=False),
        toy.snakemake("--config", f"datasets={json.dumps([entry])}", check=False),
        toy.call("aeflow", "datasets", "check", "toy", "--source", source, check=False),
    ]
    for done in refused:
        assert done.returncode == 1
        sentence = done.stderr.splitlines()[-1]
        assert "put user and password into ~/.netrc" in sentence
        assert "the environment variable AEFLOW_AUTH=" in sentence
        told = done.stdout + done.stderr
        assert "Traceback" not in told
        assert not any(secret in told for secret in SECRETS)
    assert server.asked == []
    assert with_secret(toy.folder) == []


def test_netrc_and_the_environment_open_a_source_of_a_study(
    toy: Shared, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = {**OVERLAY, "datasets": [{"name": "toy", "source": f"{server.url}/toy.zip"}]}
    (toy.folder / "toy.yaml").write_text(yaml.safe_dump(overlay))
    fetched = "data/receipts/raw/toy.json"
    assert "status 401" in toy.snakemake(fetched, check=False).stderr
    monkeypatch.setenv("AEFLOW_AUTH", f"{server.url.removeprefix('http://')} {server.wanted}")
    toy.snakemake(fetched)
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {PASSWORD}\n")
    monkeypatch.delenv("AEFLOW_AUTH")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    toy.snakemake("--force", fetched)
    assert with_secret(toy.folder) == []


def test_a_job_that_outlives_a_killed_snakemake_tears_no_file(tiny: Repository) -> None:
    """Two trainings of one cell at once: the orphan's, and that of the next run."""
    path = tiny.folder / "tiny.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 3"))
    target = f"results/tiny/models/{CELL}.safetensors"
    log = tiny.results() / f"logs/train_model/{CELL}.log"
    log.unlink()
    first = subprocess.Popen(
        tiny.command(target),
        cwd=tiny.folder,
        env=tiny.environment(),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while not log.exists():
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    orphans = running_in(tiny.folder)
    assert orphans, "the training lives on"
    tiny.snakemake("--unlock")
    tiny.snakemake("--rerun-incomplete", target)
    while any(Path(f"/proc/{orphan}").exists() for orphan in orphans):
        time.sleep(0.05)
    tiny.snakemake(target)
    assert not [path for path in tiny.folder.rglob(".*.part*") if path.is_file()]
    model = tiny.results() / f"models/{CELL}.safetensors"
    receipt = json.loads((tiny.results() / f"train/{CELL}.json").read_text())
    digest = subprocess.check_output(["sha256sum", str(model)], text=True).split()[0]
    assert receipt["made"][str(model.relative_to(tiny.folder))] == digest


def running_in(folder: Path) -> list[int]:
    """Return the processes of trainings that run in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            script = b"train_model.py" in (place / "cmdline").read_bytes()
            if script and os.readlink(place / "cwd") == str(folder):  # noqa: PTH115
                found.append(int(place.name))
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("study: a\nseeds: [0]\nstudy: b\n", "overlay.yaml, line 3: the key 'study' stands there"),
        ("a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n", "overlay.yaml: more than 300,000 values"),
        ('{"study": "a",\n"study": "b"}', "overlay.json, line 2: the key 'study' stands there"),
        ("1: x\n", "configuration: keys should be strings, not 1 (put it in quotes)"),
        ('study: "a\\x1b[31m"\n', "configuration: study: a character that cannot be seen"),
    ],
)
def test_a_broken_overlay_is_one_sentence(
    clone: Repository, tmp_path: Path, content: str, said: str
) -> None:
    if content.startswith("a: &a"):
        for here, there in zip("abcdefgh", "bcdefghi", strict=True):
            content += f"{there}: &{there} [{', '.join([f'*{here}'] * 9)}]\n"
    overlay = tmp_path / ("overlay.json" if content.startswith("{") else "overlay.yaml")
    overlay.write_text(content)
    done = clone.snakemake("--dry-run", overlay=str(overlay), check=False)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "\x1b[31m" not in done.stderr


def test_a_broken_file_of_config_is_one_sentence_with_its_line(tmp_path: Path) -> None:
    copy = Repository(copy_repository(tmp_path))
    config = copy.folder / "config/config.yaml"
    config.write_bytes(config.read_bytes() + b"study: again\n")
    done = copy.snakemake("--dry-run", check=False)
    assert done.returncode == 1
    said = r", line \d+: the key 'study' stands there twice, first in line 4"
    assert re.search(said, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
