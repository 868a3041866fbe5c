from __future__ import annotations

import pkgutil
from pathlib import Path

import pydantic
import pytest

import compose.model
from compose.model.base import Model
from compose.model.project import Project, split_path
from compose.model.service import Service
from compose.model.units import Duration


def every_model() -> list[type[Model]]:
    for module in pkgutil.iter_modules(compose.model.__path__):
        __import__(f"compose.model.{module.name}")
    found: list[type[Model]] = []
    pending: list[type[Model]] = [Model]
    while pending:
        model = pending.pop()
        found.append(model)
        pending += model.__subclasses__()
    return found


@pytest.mark.parametrize("model", every_model(), ids=lambda model: model.__name__)
def test_every_attribute_is_documented(model: type[Model]) -> None:
    source = Path(str(__import__(model.__module__, fromlist=["x"]).__file__)).read_text()
    body = source.split(f"class {model.__name__}(")[1].split("\nclass ")[0]
    lines = body.splitlines()
    for name in model.__annotations__:
        if name.startswith("_") or name == "model_config":
            continue
        number = next(i for i, line in enumerate(lines) if line.startswith(f"    {name}: "))
        while not lines[number].startswith('    """'):
            number += 1
            assert number < len(lines), f"{model.__name__}.{name}"
            assert not lines[number].startswith("    def "), f"{model.__name__}.{name}"


def test_models_are_frozen() -> None:
    service = Service(name="web")
    with pytest.raises(pydantic.ValidationError):
        service.image = "x"  # type: ignore[misc]


def test_replicas_come_from_scale_then_deploy_then_are_one() -> None:
    read = Service.model_validate
    assert read({"name": "a"}).replicas == 1
    assert read({"name": "a", "deploy": {"replicas": 3}}).replicas == 3
    assert read({"name": "a", "scale": 0}).replicas == 0


def test_text_becomes_numbers_sizes_and_durations() -> None:
    service = Service.model_validate(
        {
            "name": "a",
            "mem_limit": "64m",
            "stop_grace_period": "1m30s",
            "attach": "no",
            "secrets": [{"source": "s", "mode": "0440"}],
            "ulimits": {"nofile": 5},
        }
    )
    assert service.mem_limit == 64 << 20
    assert service.stop_grace_period == Duration(90 * 10**9)
    assert service.stop_grace_period.seconds == 90.0
    assert service.attach is False
    assert service.secrets[0].mode == 0o440
    assert service.ulimits["nofile"].limits == (5, 5)


def test_own_keys_are_kept_aside() -> None:
    assert Service.model_validate({"name": "a", "x-schedule": "daily"}).extensions == {"x-schedule": "daily"}


def test_a_path_splits_into_keys_and_indices() -> None:
    assert split_path("services.web.ports[0].target") == ("services", "web", "ports", 0, "target")


def test_a_project_without_places_has_none() -> None:
    assert Project(name="x").place("services.web") is None
