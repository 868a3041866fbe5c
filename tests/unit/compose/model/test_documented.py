from __future__ import annotations

import ast
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[4] / "compose" / "model"


@pytest.mark.parametrize("path", sorted(MODEL.glob("*.py")), ids=lambda path: path.name)
def test_every_attribute_of_a_model_says_what_it_means(path: Path) -> None:
    silent = []
    for part in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(part, ast.ClassDef):
            continue
        assert ast.get_docstring(part), part.name
        for statement, following in zip(part.body, [*part.body[1:], None], strict=True):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            says = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if not says and not statement.target.id.startswith("_"):
                silent.append(f"{part.name}.{statement.target.id}")
    assert silent == []
