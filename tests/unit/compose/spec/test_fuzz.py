"""The loader on real files with a few mistakes made in them: an answer or a ComposeError, in little time and memory."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose.errors import ComposeError
from compose.spec.load import LoadOptions, load
from compose.spec.render import render
from tests.patience import PATIENCE

GROUPS = sorted((Path(__file__).parents[3] / "corpora").rglob("*.json"))
TEXTS = sorted(
    {text for path in GROUPS for text in json.loads(path.read_text("utf-8"))["files"].values() if "services:" in text}
)
TOKENS = (
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        "- ",
        "-",
        ",",
        "&a ",
        "*a",
        "<<: *a",
        "? ",
        "|",
        ">",
        "%",
        "@",
        "#",
        "'",
        '"',
        "\\",
    ),
    *(
        "!reset ",
        "!override ",
        "!!binary a",
        "!!set {a}",
        "!!int x",
        "$",
        "$$",
        "${",
        "${A:-",
        "${A:?",
        "~",
        "null",
        "true",
    ),
    *(
        "0",
        "-1",
        "1e400",
        "1" * 5000,
        "0x",
        ".inf",
        ".nan",
        "2020-01-01",
        "1h",
        "1e308s",
        "1-65535",
        "99999999999999999999",
    ),
    *(
        "",
        " ",
        "\t",
        "\n",
        "\x00",
        "\u2028",
        "\x85",
        "\ufeff",
        "x" * 3000,
        "/",
        "..",
        "::",
        "::1",
        "80:80",
        "[::1]:80:80",
    ),
    *(
        "extends: web",
        "include: [compose.yaml]",
        "extends: {file: compose.yaml, service: web}",
        "env_file: compose.yaml",
    ),
)
EDITS = st.tuples(
    st.sampled_from(("drop", "repeat", "indent", "insert", "value", "append", "swap")),
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.sampled_from(TOKENS),
)


def edited(text: str, edits: list[tuple[str, int, int, str]]) -> str:
    lines = text.split("\n")
    for verb, first, second, token in edits:
        number = first % len(lines)
        line = lines[number]
        match verb:
            case "drop" if len(lines) > 1:
                del lines[number]
            case "repeat":
                lines.insert(second % len(lines), line)
            case "indent":
                lines[number] = " " * (second % 9) + line.lstrip()
            case "insert":
                lines[number] = line[: second % (len(line) + 1)] + token + line[second % (len(line) + 1) :]
            case "value":
                lines[number] = f"{line.partition(':')[0]}: {token}"
            case "append":
                lines[number] = f"{line} {token}"
            case "swap":
                other = second % len(lines)
                lines[number], lines[other] = lines[other], line
    return "\n".join(lines)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=st.lists(st.tuples(st.sampled_from(TEXTS), st.lists(EDITS, max_size=4)), min_size=1, max_size=2))
def test_a_file_with_mistakes_gives_an_answer_or_a_compose_error_soon_and_in_little_memory(
    made: list[tuple[str, list[tuple[str, int, int, str]]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("compose.yaml", "override.yaml")[: len(made)]
    for file, (text, edits) in zip(files, made, strict=True):
        Path(file).write_text(edited(text, edits), encoding="utf-8")
    started, held_kb = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(ComposeError):
        project = load(LoadOptions(files=files, environment={"A": "1"}))
        assert render(project, "yaml")
        assert render(project, "json")
    assert time.process_time() - started < PATIENCE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held_kb < 200 << 10
