"""Projects as a few lines of text in the present directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compose.errors import ComposeError, ComposeErrors
from compose.model.project import Project
from compose.spec.load import LoadOptions, load


def write(**files: str) -> None:
    for name, text in files.items():
        path = Path(name.replace("__", "/").replace("_", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def loaded(text: str | None = None, **given: Any) -> Project:
    if text is not None:
        Path("compose.yaml").write_text(text)
    given.setdefault("environment", {})
    return load(LoadOptions(**given))


def problems(text: str, **given: Any) -> list[ComposeError]:
    with pytest.raises(ComposeError) as caught:
        loaded(text, **given)
    error = caught.value
    return list(error.errors) if isinstance(error, ComposeErrors) else [error]
