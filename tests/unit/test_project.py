"""The project's own promises: imports go one way, the container side stays light, the documents are not stale."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_USE = {
    "engine": {"engine"},
    "networking": {"networking", "engine"},
    "volumes": {"volumes", "engine"},
    "compose": {"compose", "networking", "volumes", "engine"},
}
CONTAINER_SIDE = [
    *(f"engine.runtime.{name}" for name in ("zygote", "monitor", "init", "steps", "control", "health", "exec")),
    "networking.dns",
    "networking.publish",
]
HEAVY = {
    *("dataclasses", "typing", "pathlib", "logging", "subprocess", "asyncio", "shutil"),
    *("pydantic", "yaml", "typer", "rich", "networkx", "pyroute2"),
}
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "HACKING.md")


def imports_of(path: Path) -> Iterator[str]:
    """The names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def loaded_by(code: str, *options: str) -> set[str]:
    """The top-level modules in memory after some code has run in a Python of its own."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("package", MAY_USE)
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = {name.partition(".")[0] for name in imports_of(path)} & MAY_USE.keys()
        assert ours <= MAY_USE[package], path


@pytest.mark.parametrize("module", CONTAINER_SIDE)
def test_the_container_side_imports_only_light_modules(module: str) -> None:
    assert not loaded_by(f"import {module}", "-I", "-S") & HEAVY


@pytest.mark.parametrize("verb", ["ps", "logs", "exec", "down"])
def test_commands_that_need_no_model_load_none(verb: str) -> None:
    loaded = loaded_by(f"from compose.cli.commands import command_module; command_module({verb!r})")
    assert not loaded & {"pydantic", "networkx", "pyroute2", "typer", "rich"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:compose|engine|networking|volumes|tests|samples|benchmarks)/[\w./-]*)`", text)
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    for name in [*named, *links]:
        assert (ROOT / name).exists(), f"{document} names {name}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_a_document_names_exists(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^    |`)make ([\w-]+)", (ROOT / document).read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{document} names make {target}"


def test_every_command_that_the_readme_names_exists() -> None:
    from compose.cli.commands import COMMANDS

    text = (ROOT / "README.md").read_text()
    listed = text.partition("**Commands**:")[2].partition("\n- ")[0]
    names = {
        name
        for name in re.findall(r"`(\w+)`", listed)
        if name not in {"bootstrap", "load", "import", "ls", "inspect", "rm"}
    }
    assert names
    assert names <= COMMANDS.keys()


def test_every_dependency_has_its_sentence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    hacking = (ROOT / "HACKING.md").read_text().lower()
    for requirement in wanted:
        name = re.match(r"[\w-]+", requirement)
        assert name
        bare = name.group().lower().removeprefix("types-")
        assert re.search(rf"^\| .*\b{re.escape(bare)}\b.* \|.*\|.*\|$", hacking, re.MULTILINE), requirement


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_sample_is_plain_docker() -> None:
    for path in (ROOT / "samples" / "guestbook").rglob("*"):
        if path.is_file() and path.name != "README.md" and path.suffix != ".pyc":
            lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
            assert "umiak" not in "\n".join(lines).lower(), path
