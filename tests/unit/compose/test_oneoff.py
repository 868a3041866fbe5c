"""What `run` makes of a service, and of its options."""

from __future__ import annotations

import pytest

from compose import labels
from compose.oneoff import RunOptions, read_mount, read_port, specification, surroundings
from engine.errors import InvalidInput
from engine.types import ContainerSpec, Mount, PortBinding
from tests.unit.compose.stack import FakeStack

FILE = """
services:
  web:
    image: app
    command: [serve]
    restart: always
    ports: ["80:80"]
    environment: {A: file, B: file}
    volumes: ["data:/data"]
    networks: {default: {aliases: [site]}}
volumes: {data: }
"""


def spec(stack: FakeStack, options: RunOptions) -> ContainerSpec:
    desired = stack.write(FILE).desired()
    return specification("p", desired.services["web"], options, None)


def test_it_has_no_ports_no_restarts_and_no_names_of_the_service(stack: FakeStack) -> None:
    made = spec(stack, RunOptions())
    assert (made.ports, made.restart.name, made.command) == ((), "no", ("serve",))
    assert [request.aliases for request in made.networks] == [()]
    assert made.labels[labels.ONEOFF] == "True"
    assert made.name == f"p-web-run-{made.labels[labels.SLUG]}"


def test_options_stand_in_for_what_the_service_says(stack: FakeStack) -> None:
    made = spec(
        stack,
        RunOptions(
            command=("sh",),
            environment={"A": "option"},
            mounts=(Mount("volume", "/data", "other"),),
            service_ports=True,
            use_aliases=True,
            name="mine",
        ),
    )
    assert (made.command, made.name) == (("sh",), "mine")
    assert dict(made.environment) == {"A": "option", "B": "file"}
    assert [(mount.target, mount.source) for mount in made.mounts] == [("/data", "other")]
    assert [port.container_port for port in made.ports] == [80]
    assert "site" in made.networks[0].aliases


def test_another_entrypoint_drops_the_services_command(stack: FakeStack) -> None:
    assert spec(stack, RunOptions(entrypoint=("cat",))).command == ()


def test_networks_and_volumes_that_are_missing_are_made(stack: FakeStack) -> None:
    made = spec(stack, RunOptions())
    plan = surroundings(stack.desired(), made, networks=[], volumes=[])
    assert [str(operation) for operation in plan] == [
        "[] -> #1 network:default, CreateNetwork, not found",
        "[] -> #2 volume:data, CreateVolume, not found",
    ]
    assert not surroundings(stack.desired(), made, networks=["p_default"], volumes=["p_data"])


def test_mounts_are_read_as_docker_writes_them() -> None:
    assert read_mount("/scratch") == Mount("volume", "/scratch")
    assert read_mount("cache:/cache:ro") == Mount("volume", "/cache", "cache", True)
    bind = read_mount("/host:/inside")
    assert (bind.type, bind.source, bind.target, bind.read_only) == ("bind", "/host", "/inside", False)
    for wrong in ("a:b:c:d", ":/x", "a:"):
        with pytest.raises(InvalidInput, match="as a volume"):
            read_mount(wrong)


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", PortBinding(80, "tcp", "", None)),
        ("8080:80", PortBinding(80, "tcp", "", 8080)),
        ("127.0.0.1:5353:53/udp", PortBinding(53, "udp", "127.0.0.1", 5353)),
        ("127.0.0.1::80", PortBinding(80, "tcp", "127.0.0.1", None)),
        ("[::1]:8080:80", PortBinding(80, "tcp", "::1", 8080)),
    ],
)
def test_ports_are_read_as_docker_writes_them(text: str, port: PortBinding) -> None:
    assert read_port(text) == port


@pytest.mark.parametrize("text", ["http", "80/icmp", "x:80", "", "1:2:x"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="as a port"):
        read_port(text)
