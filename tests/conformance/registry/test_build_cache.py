"""Caches that are carried from one store to another: in a directory, at a registry, in the image itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import NotFound, UmiakError
from engine.images.registry.push import push
from tests import workshop as workshops
from tests.conformance.registry.servers import docker_registry
from tests.workshop import Workshop

pytestmark = pytest.mark.needs("root", "mount", "overlay")

TEXT = """
FROM busybox AS tools
RUN echo tool > /tool
FROM busybox
COPY a /
COPY --from=tools /tool /tool
RUN cat /a /tool > /both
"""


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with workshops.opened(tmp_path) as made:
        yield made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Workshop]:
    """Another machine with the same context."""
    with workshops.opened(tmp_path / "other") as made:
        made.write("a", "A")
        yield made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as address:
        yield address


def build_at_both(workshop: Workshop, other: Workshop, cache_to: str, cache_from: str) -> None:
    """Build, carry the cache over, and see that the other one runs nothing and gets the same layers."""
    workshop.write("a", "A")
    first = workshop.build(TEXT, cache_to=[cache_to], tags=["app"])
    assert len(workshop.runner.commands) == 2
    second = other.build(TEXT, cache_from=[cache_from], tags=["app"])
    assert other.runner.commands == []
    assert second.layers == first.layers
    assert other.read(second, "/both") == "Atool\n"


def test_a_cache_in_a_directory(workshop: Workshop, other: Workshop, tmp_path: Path) -> None:
    build_at_both(workshop, other, f"type=local,dest={tmp_path}/cache,mode=max", f"type=local,src={tmp_path}/cache")


@pytest.mark.needs("docker-registry")
def test_a_cache_at_a_registry(workshop: Workshop, other: Workshop, registry: str) -> None:
    build_at_both(
        workshop, other, f"type=registry,ref={registry}/app:cache,mode=max", f"type=registry,ref={registry}/app:cache"
    )


@pytest.mark.needs("docker-registry")
def test_a_cache_of_the_target_alone_lacks_the_other_stages(workshop: Workshop, other: Workshop, registry: str) -> None:
    workshop.write("a", "A")
    workshop.build(TEXT, cache_to=[f"{registry}/app:cache"])
    other.build(TEXT, cache_from=[f"{registry}/app:cache"], target="tools")
    assert len(other.runner.commands) == 1


@pytest.mark.needs("docker-registry")
def test_an_image_can_be_the_cache_of_its_own_steps(workshop: Workshop, other: Workshop, registry: str) -> None:
    workshop.write("a", "A")
    name = f"{registry}/app:1"
    first = workshop.build(TEXT, cache_to=["type=inline"], tags=[name])
    push(workshop.store, name)
    second = other.build(TEXT, cache_from=[name])
    assert second.layers == first.layers
    assert other.runner.commands == []
    other.write("a", "B")
    assert other.read(other.build(TEXT, cache_from=[name]), "/both") == "Btool\n"


@pytest.mark.needs("docker-registry")
def test_a_cache_that_is_not_there_yet_is_empty_and_an_image_without_one_is_a_warning(
    workshop: Workshop, registry: str
) -> None:
    workshop.build("FROM busybox\nRUN true", cache_from=[f"{registry}/app:none"], tags=[f"{registry}/app:1"])
    assert "warning" not in workshop.kinds()
    push(workshop.store, f"{registry}/app:1")
    workshop.build("FROM busybox\nRUN true", cache_from=[f"{registry}/app:1"])
    (warning,) = (event.text for event in workshop.events if event.kind == "warning")
    assert warning == f"{registry}/app:1 is not a build cache of umiak's: it is not used"


def test_a_registry_that_does_not_answer_is_no_reason_not_to_build(workshop: Workshop) -> None:
    ignored = "type=registry,ref=127.0.0.1:1/app:cache,ignore-error=true"
    workshop.build("FROM busybox\nRUN true", cache_from=["127.0.0.1:1/app:cache"], cache_to=[ignored])
    assert workshop.kinds().count("warning") == 2
    found = workshop.fails("FROM busybox\nRUN true", cache_to=["127.0.0.1:1/app:cache"])
    assert isinstance(found, UmiakError)
    assert not isinstance(found, NotFound)
    assert found.message.startswith("cannot write 127.0.0.1:1/app:cache")


@pytest.mark.parametrize("text", ["type=gha", "type=local", "type=registry", "type=inline"])
def test_a_cache_to_read_that_cannot_be_is_a_warning(workshop: Workshop, text: str) -> None:
    workshop.build("FROM busybox", cache_from=[text])
    assert workshop.kinds() == ["warning"]
