"""The JSON Schema of the canonical project, made from the models: what `umiak config --schema` prints."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from typing import Any

MODULES = ("base", "build", "deploy", "files", "project", "resources", "service")
# The project's own bookkeeping is no part of a file.
_INTERNAL = frozenset(
    ("working_dir", "compose_files", "env_files", "environment", "disabled_services", "separator", "warnings")
)


def schema() -> str:
    """The schema as text; docstrings of attributes are their descriptions."""
    from compose.model.project import Project

    data = Project.model_json_schema()
    documented = docstrings()
    for name, model in {**data["$defs"], "Project": data}.items():
        _describe(model, documented.get(name, {}))
    data["properties"] = {name: value for name, value in data["properties"].items() if name not in _INTERNAL}
    for name in ("Warning", "Place"):
        data["$defs"].pop(name, None)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | data, indent=2) + "\n"


def _describe(model: dict[str, Any], texts: dict[str, str]) -> None:
    properties = model.get("properties", {})
    if properties.pop("extensions", None):
        model["patternProperties"] = {"^x-": {}}
    for name, value in properties.items():
        value.pop("title", None)
        if name in texts:
            value["description"] = texts[name]


def docstrings() -> dict[str, dict[str, str]]:
    """The docstrings of attributes by class and attribute, inherited ones too; Python itself does not keep them."""
    found: dict[str, dict[str, str]] = {}
    for name in MODULES:
        tree = ast.parse(inspect.getsource(importlib.import_module(f"compose.model.{name}")))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                bases = [found.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
                found[node.name] = {key: text for base in bases for key, text in base.items()} | _of_class(node)
    return found


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for attribute, text in zip(node.body, node.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name) and is_text:
            texts[attribute.target.id] = inspect.cleandoc(str(ast.literal_eval(text.value)))  # type: ignore[attr-defined]
    return texts
