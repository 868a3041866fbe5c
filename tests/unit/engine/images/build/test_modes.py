from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.images.build.modes import read_mode

CLAUSES = st.from_regex(r"[ugoa]{0,2}([-+=]([rwxX]{0,3}|[ugo])){1,2}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "mode", "is_directory", "expected"),
    [
        ("755", 0o644, False, 0o755),
        ("4711", 0o644, False, 0o4711),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("+x", 0o644, False, 0o755),
        ("+w", 0o444, False, 0o644),
        ("a+w", 0o444, False, 0o666),
        ("go-rwx", 0o777, False, 0o700),
        ("g=u", 0o640, False, 0o660),
        ("u+s,o+t", 0o755, False, 0o4755),
    ],
)
def test_a_mode_changes_permissions_as_chmod_does(text: str, mode: int, is_directory: bool, expected: int) -> None:
    assert read_mode(text).apply(mode, is_directory=is_directory) == expected


@pytest.mark.parametrize("text", ["", "8", "77", "u", "u=q", "u+r,", "x+r", "u=rg"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_mode(text)


@settings(max_examples=60, deadline=None)
@given(clauses=st.lists(CLAUSES, min_size=1, max_size=2), mode=st.integers(0, 0o777), is_directory=st.booleans())
def test_symbolic_modes_mean_what_they_mean_to_chmod(
    tmp_path_factory: pytest.TempPathFactory, clauses: list[str], mode: int, is_directory: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / ("mode-directory" if is_directory else "mode-file")
    _make(path, is_directory)
    os.chmod(path, mode)
    text = ",".join(clauses)
    done = subprocess.run(["chmod", "--", text, path], umask=0o022, capture_output=True)
    # chmod complains where the umask kept it from doing all that was asked; what it did counts.
    assert b"invalid" not in done.stderr
    assert oct(read_mode(text).apply(mode, is_directory=is_directory)) == oct(stat.S_IMODE(path.stat().st_mode))


def _make(path: Path, is_directory: bool) -> None:
    if is_directory:
        path.mkdir(exist_ok=True)
    else:
        path.touch()
