"""A load is recalled while nothing that it saw has changed, and only then."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.desired import Desired, desired
from compose.recollection import SETTLED_S, Recollection, Recollections
from compose.spec import source
from compose.spec.discover import LoadOptions
from compose.spec.load import load

FILES = {
    "compose.yaml": (
        "name: app\n"
        "include: [more/compose.yaml]\n"
        "services:\n"
        "  web:\n"
        "    image: ${IMAGE:-web}\n"
        "    env_file: [{path: web.env}, {path: absent.env, required: false}]\n"
        "    depends_on: {db: {condition: service_healthy, restart: true}}\n"
        "    ports: ['80:80']\n"
        "    volumes: ['data:/data', './src:/src']\n"
        "    build: {context: ., args: {A: b}}\n"
        "    deploy: {replicas: 2, update_config: {order: start-first}}\n"
        "  db: {extends: {file: base.yaml, service: db}}\n"
        "volumes: {data: }\n"
    ),
    "more/compose.yaml": "services:\n  other: {image: other}\n",
    "base.yaml": "services:\n  db: {image: db, healthcheck: {test: [CMD, 'true'], interval: 1s}}\n",
    "web.env": "A=1\n",
    ".env": "IMAGE=from-dotenv\n",
}


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of many files, none of them new."""
    for name, text in FILES.items():
        write(tmp_path / name, text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("compose.recollection.SETTLED_S", -60.0)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def loaded() -> Recollection:
    """Load the project here, with a note of what was looked at."""
    with source.noting() as looks:
        made = desired(load(LoadOptions()), private_dir="/private")
    return Recollection(made, (), looks)


def test_what_is_recalled_is_what_was_loaded(stack: Path) -> None:
    memory = Recollections(str(stack / "run"))
    found = loaded()
    memory.keep(found, "view")
    assert memory.recall("view") == found
    assert memory.recall("another view") is None


CHANGES: dict[str, Callable[[Path], object]] = {
    "the file": lambda here: write(here / "compose.yaml", FILES["compose.yaml"] + "x-note: 1\n"),
    "an included file": lambda here: write(here / "more/compose.yaml", "services:\n  other: {image: elses}\n"),
    "an extended file": lambda here: write(here / "base.yaml", FILES["base.yaml"].replace("image: db", "image: bd")),
    "an env_file": lambda here: write(here / "web.env", "A=2\n"),
    "the .env file": lambda here: write(here / ".env", "IMAGE=from-elsewhere\n"),
    "an .env file that is gone": lambda here: (here / ".env").unlink(),
    "an override file that is new": lambda here: write(here / "compose.override.yaml", "services: {}\n"),
    "another name that wins": lambda here: write(here / "compose.yml", "services: {}\n"),
    "an env_file that was absent": lambda here: write(here / "absent.env", "B=1\n"),
    "a link that leads elsewhere": lambda here: (
        (here / "base.yaml").unlink(),
        (here / "base.yaml").symlink_to(".env"),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_of_what_was_seen_is_noticed(stack: Path, change: Callable[[Path], object]) -> None:
    memory = Recollections(str(stack / "run"))
    memory.keep(loaded(), "view")
    assert memory.recall("view") is not None
    change(stack)
    assert memory.recall("view") is None


def test_another_environment_or_directory_is_another_view(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Recollections(str(stack / "run"))
    memory.keep(loaded(), "view")
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(stack / "more")
        assert memory.recall("view") is None
    monkeypatch.setenv("IMAGE", "another")
    assert memory.recall("view") is None


def test_a_file_just_written_is_not_relied_on(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose.recollection.SETTLED_S", SETTLED_S)
    memory = Recollections(str(stack / "run"))
    late = time.time() + 60
    os.utime(stack / "web.env", (late, late))
    memory.keep(loaded(), "view")
    assert memory.recall("view") is None


def test_a_pipe_is_not_relied_on(stack: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"services: {}\n")
    os.close(writing)
    with source.noting() as looks:
        load(LoadOptions(files=(f"/dev/fd/{reading}",), project_name="piped"))
    os.close(reading)
    memory = Recollections(str(stack / "run"))
    memory.keep(Recollection(Desired("piped", {}, {}, {}), (), looks), "view")
    assert memory.recall("view") is None


def test_contents_of_secrets_are_not_kept(stack: Path) -> None:
    write(
        stack / "compose.yaml", "services: {web: {image: web, secrets: [key]}}\nsecrets: {key: {environment: HOME}}\n"
    )
    memory = Recollections(str(stack / "run"))
    memory.keep(loaded(), "view")
    assert memory.recall("view") is None
    assert not (stack / "run").exists()


def test_damage_others_files_and_foreign_objects_are_passed_over(stack: Path) -> None:
    memory = Recollections(str(stack / "run"))
    memory.keep(loaded(), "view")
    [kept] = (stack / "run/loaded").iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-20], pickle.dumps(os.getcwd), pickle.dumps(["not one"])):
        kept.write_bytes(damaged)
        assert memory.recall("view") is None
    kept.write_bytes(whole)
    assert memory.recall("view") is not None
    kept.chmod(0o666)
    assert memory.recall("view") is None


def test_only_so_many_are_kept(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose.recollection.LIMIT", 3)
    memory = Recollections(str(stack / "run"))
    found = loaded()
    for number in range(5):
        memory.keep(found, number)
    assert len(list((stack / "run/loaded").iterdir())) == 3
    assert memory.recall(4) == found


def test_recalling_needs_neither_pydantic_nor_yaml(stack: Path) -> None:
    Recollections(str(stack / "run")).keep(loaded(), "view")
    script = (
        "import sys; from compose.recollection import Recollections\n"
        "found = Recollections('run').recall('view'); print(found.desired.project)\n"
        "print([name for name in ('pydantic', 'yaml', 'networkx') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    # The environment is part of the view, so it is made the same before asking.
    same = f"import os; os.environ.clear(); os.environ.update({dict(os.environ)!r})\n"
    done = subprocess.run([sys.executable, "-c", same + script], env=environment, capture_output=True, text=True)
    assert done.stdout == "app\n[]\n", done.stderr
