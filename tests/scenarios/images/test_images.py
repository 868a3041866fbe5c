"""Images through the installed command: to and from registries, through pipes and files, named, listed, removed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.registry.servers import PASSWORD, USER, docker_registry, with_passwords
from tests.stack import UMIAK, Stack, json_values

needs_registry = pytest.mark.needs("docker-registry")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path) as address:
        yield address


@pytest.fixture
def locked_registry(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path, with_passwords(tmp_path)) as address:
        yield address


@pytest.fixture
def stack(stack: Stack) -> Iterator[Stack]:
    """The stack with a login file of its own; the images that its test makes are gone afterwards."""
    stack.env = {"DOCKER_CONFIG": str(stack.directory / "docker"), "REGISTRY": "127.0.0.1:1"}
    before = names(stack)
    yield stack
    stack.down()
    for name in names(stack) - before:
        stack.umiak("image", "rm", "-f", name)
    stack.umiak("image", "prune", "-f")


def names(stack: Stack) -> set[str]:
    return {f"{row['Repository']}:{row['Tag']}" for row in listed(stack) if row["Tag"] != "<none>"}


def listed(stack: Stack, *words: str) -> list[dict[str, Any]]:
    return json_values(stack.umiak("image", "ls", "--format", "json", *words).stdout)


def told(stack: Stack, name: str, template: str) -> str:
    return stack.umiak("image", "inspect", "--format", template, name).stdout.strip()


@needs_registry
def test_what_one_machine_builds_and_pushes_another_pulls_and_runs(stack: Stack, registry: str) -> None:
    stack.env["REGISTRY"] = registry
    stack.umiak("build", "--push")
    name = f"{registry}/images/app:1"
    identifier = told(stack, name, "{{.Id}}")
    remote = json.loads(stack.umiak("image", "inspect", "--remote", name).stdout)[0]
    assert remote["Id"] == identifier
    stack.umiak("image", "rm", name)
    assert name not in names(stack)

    printed = stack.up().stderr
    assert "Pulled" in printed
    assert "Building" not in printed
    assert told(stack, name, "{{.Id}}") == identifier
    assert stack.sh("app", "cat /made") == "made"
    assert told(stack, name, "{{index .RepoDigests 0}}") == f"{registry}/images/app@{remote['Digest']}"
    refused = stack.umiak("image", "rm", f"{registry}/images/app@{remote['Digest']}", exit_code=1)
    assert "images-app-1" in refused.stderr


@needs_registry
def test_a_build_pushes_what_it_made_and_writes_down_its_digest(stack: Stack, registry: str) -> None:
    name, other = f"{registry}/images/c:1", f"{registry}/images/d:1"
    metadata = stack.directory / "metadata.json"
    words = ["--push", "--metadata-file", str(metadata), "-o", f'type=registry,"name={other}"']
    stack.umiak("image", "build", "-t", name, *words, "-", stdin="FROM busybox\nENV A=b")
    written = json.loads(metadata.read_text())
    for pushed in (name, other):
        remote = json.loads(stack.umiak("image", "inspect", "--remote", pushed).stdout)[0]
        assert remote["Digest"] == told(stack, pushed, "{{index .RepoDigests 0}}").rpartition("@")[2]
        assert remote["Id"] == written["containerimage.config.digest"]
    assert written["image.name"] == f"{name},{other}"
    assert "give it one" in stack.umiak("image", "build", "--push", "-", stdin="FROM busybox", exit_code=1).stderr


@needs_registry
def test_what_no_registry_has_is_built(stack: Stack, registry: str) -> None:
    stack.env["REGISTRY"] = registry
    printed = stack.up().stderr
    assert "has no such image" in printed
    assert "error" not in printed.lower()
    assert stack.sh("app", "cat /made") == "made"


@needs_registry
def test_a_login_opens_a_registry_and_a_logout_closes_it(stack: Stack, locked_registry: str) -> None:
    name = f"{locked_registry}/images/b:1"
    stack.umiak("image", "tag", "busybox", name)
    refused = stack.umiak("image", "push", name, exit_code=1)
    assert f"umiak login {locked_registry}" in refused.stderr
    wrong = stack.umiak("login", locked_registry, "-u", USER, "--password-stdin", stdin="wrong", exit_code=1)
    assert "check the name and the password" in wrong.stderr
    stack.umiak("login", locked_registry, "-u", USER, "--password-stdin", stdin=PASSWORD)
    stack.umiak("image", "push", name)
    stack.umiak("image", "rm", name)
    stack.umiak("image", "pull", name)
    stack.umiak("logout", locked_registry)
    assert "wants a login" in stack.umiak("image", "pull", name, exit_code=1).stderr

    (stack.directory / "docker/config.json").write_text('{"credsStore": "missing"}')
    anonymous = stack.umiak("image", "pull", name, exit_code=1).stderr
    assert "docker-credential-missing is not installed; going on without a login" in anonymous
    assert "wants a login" in anonymous


def piped(stack: Stack, *commands: list[str], data: bytes = b"") -> str:
    """What the last of some commands prints, each reading what the one before it writes, the first one `data`."""
    for command in commands:
        environment = stack.host.environment(stack.env)
        done = subprocess.run([UMIAK, "image", *command], input=data, env=environment, capture_output=True, check=True)
        data = done.stdout
    return data.decode()


def test_images_go_through_pipes_and_keep_what_they_are(stack: Stack) -> None:
    stack.umiak("image", "tag", "busybox", "images/one:1")
    identifier = told(stack, "images/one:1", "{{.Id}}")
    for format in ("docker", "oci"):
        assert "images/one:1" in piped(stack, ["save", "--format", format, "images/one:1"], ["load", "-q"])
    assert told(stack, "images/one:1", "{{.Id}}") == identifier

    build, take = ["build", "-q", "-o", "-", "-"], ["import", "-m", "from a pipe", "-c", "CMD a b", "-", "images/two:1"]
    made = piped(stack, build, take, data=b"FROM busybox")
    assert told(stack, "images/two:1", "{{.Id}} {{json .Config.Cmd}}") == f'{made.strip()} ["/bin/sh","-c","a b"]'
    (entry,) = json_values(stack.umiak("image", "history", "--format", "json", "images/two:1").stdout)
    assert entry["Comment"] == "from a pipe"


def test_filters_say_what_is_listed_and_what_is_pruned(stack: Stack) -> None:
    for name, label in (("a", "keep=1"), ("b", "keep=0"), ("c", "other=1")):
        stack.umiak(
            "image", "build", "-t", f"images/{name}:1", "--label", label, "-", stdin=f"FROM busybox\nENV N={name}"
        )
    assert {row["Repository"] for row in listed(stack, "--filter", "label=keep")} == {"images/a", "images/b"}
    assert {row["Repository"] for row in listed(stack, "--filter", "reference=images/[bc]")} == {"images/b", "images/c"}
    stack.umiak("image", "prune", "-af", "--filter", "label=keep", "--filter", "label!=keep=1")
    assert names(stack) >= {"images/a:1", "images/c:1"}
    assert "images/b:1" not in names(stack)
    stack.umiak("image", "prune", "-af", "--filter", "until=24h", "--filter", "label=keep")
    assert "images/a:1" in names(stack)
    stack.umiak("image", "tag", "images/c:1", "images/a:1")
    assert len(listed(stack, "--filter", "dangling=true", "--filter", "label=keep=1")) == 1
    stack.umiak("image", "prune", "-f")
    assert listed(stack, "--filter", "dangling=true", "--filter", "label=keep=1") == []
