"""Inputs that are wide, deep or grow: an answer or a ComposeError, in time and memory that grow with the text alone."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from compose.cli.errors import render as told
from compose.errors import MOST_TOLD, ComposeError, ComposeErrors
from compose.spec.limits import MAX_FILES
from compose.spec.load import LoadOptions, load
from compose.spec.render import render
from tests.patience import PATIENCE

WEB = "services:\n  web:\n    image: nginx\n"


def services(count: int, more: str) -> str:
    return "services:\n" + "".join(f"  s{i}: {{image: a, {more.format(i, i + 1)}}}\n" for i in range(count))


CASES = {
    "unknown keys": WEB + "".join(f"    imag{i}: 1\n" for i in range(6_000)),
    "one unknown key in each service": services(3_500, "imag: b"),
    "undefined networks": services(3_000, "networks: [n{0}]") + "networks: {n: {}}\n",
    "almost defined networks": services(2_000, "networks: [net{0}]")
    + "networks:\n"
    + "".join(f"  nat{i}:\n" for i in range(400)),
    "unset variables": WEB + "    command: " + " ".join(f"$A{i}" for i in range(60_000)) + "\n",
    "a chain of dependencies": services(3_000, "depends_on: [s{1}]") + "  s3000: {image: a}\n",
    "a circle of dependencies": services(3_000, "depends_on: [s{1}]") + "  s3000: {image: a, depends_on: [s0]}\n",
    "overrides": WEB + "    labels:\n" + "".join(f"      k{i}: !override a\n" for i in range(11_000)),
    "a command of many words": WEB + "    command: " + "x " * 500_000 + "\n",
    "nested defaults": WEB + "    command: '" + "${A:-" * 80_000 + "}" * 80_000 + "'\n",
    "many nested defaults": WEB + "    command: '" + "${A:-${B:-${C:-x}}}" * 40_000 + "'\n",
    "a long text, often": f"x: &x {'y' * 100_000}\n" + WEB + "    command: [" + "*x," * 9_000 + "]\n",
    "ranges of ports": services(20, "ports: ['1-19000']"),
    "a port of many digits": WEB + f"    ports: ['{'1' * 9_000}']\n",
    "a base for all": services(1_000, "extends: s1000")
    + "  s1000:\n    environment: {"
    + ",".join(f"A{i}: 1" for i in range(1_000))
    + "}\n",
    "one include, often": "include: [" + "other.yaml," * 9_000 + "]\n" + WEB,
    "includes that double": "include: [fan0.yaml, fan0.yaml]\n" + WEB,
    "one environment file for all": services(2_000, "env_file: big.env"),
    "one environment file, often": WEB + "    env_file: [" + "small.env," * 20_000 + "]\n",
    "an environment that doubles": WEB + "    env_file: doubling.env\n",
    "an environment of unset variables": WEB + "    env_file: unset.env\n",
}


@pytest.fixture
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text("services: {other: {image: a}}\n", encoding="utf-8")
    for number in range(20):
        name = f"fan{number + 1}.yaml"
        Path(f"fan{number}.yaml").write_text(f"include: [{name}, {name}]\n{WEB}", encoding="utf-8")
    Path("fan20.yaml").write_text(WEB, encoding="utf-8")
    Path("small.env").write_text("A=1\n", encoding="utf-8")
    Path("big.env").write_text("".join(f"A{i}=1\n" for i in range(1_000)), encoding="utf-8")
    Path("doubling.env").write_text("A=xxxxxxxxxx\n" + "A=$A$A\n" * 60, encoding="utf-8")
    Path("unset.env").write_text("A=$B\n" * 60_000, encoding="utf-8")


def answer() -> str:
    try:
        return render(load(LoadOptions(files=("compose.yaml",), environment={})))
    except ComposeError as error:
        return told(error)


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("name", CASES)
def test_what_is_wide_deep_or_grows_costs_little(name: str) -> None:
    Path("compose.yaml").write_text(CASES[name], encoding="utf-8")
    started, held_kb = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(answer()) < 16 << 20
    assert time.process_time() - started < 5 * PATIENCE  # a processor that others use, too, counts more
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held_kb < 200 << 10


@pytest.mark.usefixtures("_files")
def test_of_very_many_errors_the_first_are_told_and_the_rest_counted() -> None:
    Path("compose.yaml").write_text(CASES["unknown keys"], encoding="utf-8")
    with pytest.raises(ComposeErrors) as caught:
        load(LoadOptions(files=("compose.yaml",), environment={}))
    assert len(caught.value.errors) == MOST_TOLD
    assert caught.value.errors[0].suggestion == "image"
    assert told(caught.value).endswith(f"\n... and {6_000 - MOST_TOLD} more errors")


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a base for all", "with its bases the project has more than 12500 nodes"),
        ("includes that double", f"more than {MAX_FILES} files"),
        ("a command of many words", "more than 12500 words"),
        ("ranges of ports", "more than 20000 ports"),
        ("one environment file for all", "the environment files of all services hold more than 25000 variables"),
        ("an environment that doubles", "variables make the file longer than 524288 characters"),
        ("a long text, often", "aliases expand to more than 12500 nodes"),
    ],
)
def test_a_limit_says_what_is_too_large(name: str, message: str) -> None:
    Path("compose.yaml").write_text(CASES[name], encoding="utf-8")
    with pytest.raises(ComposeError, match=message):
        load(LoadOptions(files=("compose.yaml",), environment={}))
