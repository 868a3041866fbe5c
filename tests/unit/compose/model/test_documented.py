from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[4] / "compose" / "model"
FILES = sorted(MODEL.glob("*.py"))
UNITS = {
    "Bytes": r"bytes|percent",
    "Duration": r"duration|\b\d+m?s\b",
    "Float": r"number of|percent|share",
    "FileMode": r"bits",
    **dict.fromkeys(
        ("Int", "AnyInt", "WholeInt", "Count"),
        r"number|how many|how often|at most so many|in a row|microseconds|weight|score|tokens|bits",
    ),
}
"""What the docstring of a quantity says it counts, by its type."""


def attributes(path: Path) -> Iterator[tuple[str, ast.AnnAssign, str]]:
    """The name of each attribute, its declaration and its docstring, empty where there is none."""
    for part in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(part, ast.ClassDef):
            continue
        assert ast.get_docstring(part), part.name
        for statement, following in zip(part.body, [*part.body[1:], None], strict=True):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            says = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if not statement.target.id.startswith("_"):
                text = following.value.value if says else ""  # type: ignore[union-attr]
                yield f"{part.name}.{statement.target.id}", statement, str(text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_attribute_of_a_model_says_what_it_means_and_its_default(path: Path) -> None:
    told = re.compile(r"\b(default|required|unset)\b", re.IGNORECASE)
    silent = [name for name, _, text in attributes(path) if not told.search(text)]
    assert silent == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_quantity_says_its_unit(path: Path) -> None:
    silent = []
    for name, declaration, text in attributes(path):
        kind = ast.unparse(declaration.annotation).partition(" ")[0]
        if kind in UNITS and not re.search(UNITS[kind], text, re.IGNORECASE):
            silent.append(name)
    assert silent == []
