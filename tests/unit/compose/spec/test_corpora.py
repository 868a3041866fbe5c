"""Compose files with the answers of the real binary (`tests/corpora`), loaded in-process and compared."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose.errors import ComposeError
from compose.spec.load import LoadOptions, load
from compose.spec.render import render

CORPORA = Path(__file__).parents[3] / "corpora"
GROUPS = sorted(str(path.relative_to(CORPORA)) for path in CORPORA.rglob("*.json"))

VERDICT_DIFFERS = {
    "attrs/a143.yaml": "pre_start is of v5",
    "build/b15.yaml": "ssh keys print as JSON",
    "build/b16.yaml": "ssh keys print as JSON",
    "build/b33.yaml": "no_cache_filter is of v5",
    "interpolation/v41.case": "defaults are evaluated only when needed, as in v5",
}
CONFIG_DIFFERS = {
    "bytes/b24.yaml": "1e6 is a size",
    "bytes/s24.yaml": "1e6 is a size",
    "bytes/w24.yaml": "1e6 is a size",
    "networks/n15.yaml": "ipam.options are kept, as in v5",
    "volumes/l01.yaml": "create_host_path: false is printed",
}
"""What docs/compatibility.md explains. A case that starts to pass must leave these tables."""

UNLOADABLE = {
    "l37/compose.yaml": "an env file may name a variable '', a Compose file may not",
    "casts/c40.case": "an environment may name a variable '' as a list, not as a mapping",
    "attrs/a161.yaml": "Docker's JSON capitalises the keys of blkio_config",
    "build/b34.yaml": "an empty build context is not printed",
    "stacks/s048": "Docker's JSON writes a single ulimit as no file may",
    "stacks/s068": "Docker's JSON capitalises the keys of blkio_config",
    "casts/c31.case": "`$` is doubled in keys, too, which are never interpolated",
    **{
        f"bytes/{kind}{n}.yaml": "a negative size is printed as text and read as a number"
        for kind in "bsw"
        for n in (19, 27)
    },
}
"""What Docker prints and would not read, or not as it was."""


def options(case: dict[str, Any], root: Path) -> LoadOptions:
    given: dict[str, Any] = {"profiles": ()}
    arguments = iter(case.get("args", ()))
    for argument in arguments:
        match argument:
            case "--profile":
                given["profiles"] += (next(arguments),)
            case "-p" | "--project-name":
                given["project_name"] = next(arguments)
            case "--all-resources":
                given["all_resources"] = True
            case "--compatibility":
                given["normalize"] = False
            case _:
                raise AssertionError(f"the test does not know {argument}")
    environment = {"PATH": "/bin", "HOME": "/root", "B": "vb"} | case.get("env", {})
    files = tuple(str(root / path) for path in case["compose"])
    return LoadOptions(files=files, environment=environment, **given)


def verdict(case: dict[str, Any], root: Path) -> str:
    """`equal`, or how the answer differs from the binary's."""
    os.chdir((root / case["compose"][0]).parent)
    try:
        text = render(load(options(case, root)), "json")
    except ComposeError:
        return "equal" if "error" in case else "rejected"
    if "error" in case:
        return "accepted"
    config = json.loads(text.replace(json.dumps(str(root))[1:-1], "${ROOT}"))
    return "equal" if config == case["config"] else "config differs"


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    group = json.loads((CORPORA / request.param).read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/root")
    for path, text in group["files"].items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    return group, tmp_path


@pytest.mark.parametrize("unpacked", GROUPS, indirect=True)
def test_answers_are_those_of_the_binary_but_for_the_listed_deviations(unpacked: Any) -> None:
    group, root = unpacked
    found = {case["id"]: verdict(case, root) for case in group["cases"]}
    different = {name for name, answer in found.items() if answer in ("accepted", "rejected")}
    assert different == VERDICT_DIFFERS.keys() & found.keys()
    assert {
        name for name, answer in found.items() if answer == "config differs"
    } == CONFIG_DIFFERS.keys() & found.keys()


@pytest.mark.parametrize("unpacked", GROUPS, indirect=True)
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_loading_what_config_prints_changes_nothing(unpacked: Any, form: str) -> None:
    group, root = unpacked
    again = root / "again" / f"compose.{form}"
    again.parent.mkdir()
    for case in group["cases"]:
        if "error" in case or case["id"] in VERDICT_DIFFERS | UNLOADABLE:
            continue
        given = options(case, root)
        os.chdir((root / case["compose"][0]).parent)
        printed = render(load(given), form)
        if form == "json" and '"models"' in printed:
            continue  # Docker's JSON leaves out the models that services name
        again.write_text(printed, encoding="utf-8")
        reloaded = load(replace(given, files=(str(again),)))
        assert render(reloaded, form) == printed, case["id"]
