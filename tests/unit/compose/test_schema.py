"""The models are documented, and their schema describes what they say."""

from __future__ import annotations

import importlib
import json

from compose.model.base import Model
from compose.schema import MODULES, docstrings, schema


def models() -> dict[str, type[Model]]:
    found = {}
    for name in MODULES:
        for value in vars(importlib.import_module(f"compose.model.{name}")).values():
            if isinstance(value, type) and issubclass(value, Model):
                found[value.__name__] = value
    return found


def test_every_attribute_of_the_models_has_a_docstring() -> None:
    documented = docstrings()
    missing = {
        f"{name}.{field}"
        for name, model in models().items()
        for field in model.model_fields
        if field not in documented[name]
    }
    assert not missing


def test_all_models_are_frozen_and_know_nothing_but_their_fields() -> None:
    assert all(
        model.model_config.get("frozen") and model.model_config.get("extra") == "forbid" for model in models().values()
    )


def test_the_schema_describes_services() -> None:
    data = json.loads(schema())
    service = data["$defs"]["Service"]
    assert service["properties"]["stop_grace_period"]["description"].endswith("default 10s.")
    assert service["patternProperties"] == {"^x-": {}}
    assert "working_dir" not in data["properties"]
