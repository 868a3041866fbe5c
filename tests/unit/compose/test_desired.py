"""A Compose file's services as specifications for the engine."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from compose.desired import DesiredService, config_hash
from engine.errors import InvalidInput, Unsupported
from engine.types import (
    ContainerSpec,
    DeviceLimit,
    EndpointRequest,
    Healthcheck,
    LogOptions,
    Mount,
    PortBinding,
    Resources,
    RestartPolicy,
    Ulimit,
)
from tests.unit.compose.stack import FakeStack


def service(stack: FakeStack, text: str, rest: str = "") -> DesiredService:
    """The service `web` with that body."""
    body = "\n".join(f"    {line}" for line in text.strip().splitlines())
    (stack.directory / "compose.yaml").write_text(
        f"services:\n  web:\n    image: app\n{body}\n  db:\n    image: db\n{rest}"
    )
    return stack.desired().services["web"]


def template(stack: FakeStack, text: str, rest: str = "") -> ContainerSpec:
    return service(stack, text, rest).template


def test_names_and_labels_are_dockers(stack: FakeStack) -> None:
    spec = service(stack, "depends_on: {db: {condition: service_healthy}}\nlabels: {own: x}").container(
        "p", 2, "sha256:1"
    )
    assert spec.name == "p-web-2"
    labels = {key.removeprefix("com.docker.compose."): value for key, value in spec.labels.items()}
    assert len(labels.pop("config-hash")) == 64
    assert labels == {
        "own": "x",
        "project": "p",
        "service": "web",
        "container-number": "2",
        "oneoff": "False",
        "depends_on": "db:service_healthy:false",
        "image": "sha256:1",
        "version": "0.1.0",
        "project.working_dir": str(stack.directory),
        "project.config_files": str(stack.directory / "compose.yaml"),
    }


def test_networks_bear_the_projects_name_and_the_services_aliases(stack: FakeStack) -> None:
    spec = template(
        stack,
        "networks: {back: {aliases: [api]}, front: {priority: 10, ipv4_address: 10.1.0.5}}\nlinks: ['db:store']",
        "networks: {front: {ipam: {config: [{subnet: 10.1.0.0/24}]}}, back: {name: the-back}}",
    )
    assert spec.networks == (
        EndpointRequest("p_front", ("web",), "10.1.0.5", None, 10),
        EndpointRequest("the-back", ("web", "api")),
    )
    db = stack.desired().services["db"].template
    assert db.networks == (EndpointRequest("p_default", ("db", "store")),)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("host", "host"), ("none", "none"), ("service:db", "container:p-db-1"), ("container:x", "container:x")],
)
def test_network_modes_exclude_networks(stack: FakeStack, mode: str, wanted: str) -> None:
    spec = template(stack, f"network_mode: '{mode}'")
    assert (spec.network_mode, spec.networks) == (wanted, ())


def test_mounts_are_volumes_binds_and_tmpfs(stack: FakeStack) -> None:
    spec = template(
        stack,
        "volumes: ['data:/data:ro', './src:/src', '/anonymous', {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 511}}]\n"
        "tmpfs: ['/run:size=64m,mode=1770,uid=5,ro']",
        "volumes: {data: {}}",
    )
    assert spec.mounts == (
        Mount("volume", "/data", "p_data", True),
        Mount("bind", "/src", str(stack.directory / "src"), False, {"create_host_path": True}),
        Mount("volume", "/anonymous"),
        Mount("tmpfs", "/t", "", False, {"size": 1 << 20, "mode": 0o777}),
        Mount("tmpfs", "/run", "", True, {"size": 64 << 20, "mode": 0o1770, "uid": 5}),
    )


def test_volumes_from_takes_what_another_service_mounts(stack: FakeStack) -> None:
    spec = template(stack, "volumes_from: ['db:ro']", "    volumes: ['data:/data']\nvolumes: {data: {}}")
    assert spec.mounts == (Mount("volume", "/data", "p_data", True),)


def test_ports_and_their_ranges(stack: FakeStack) -> None:
    spec = template(stack, "ports: ['80', '127.0.0.1:8080:80', '9000-9002:90/udp']")
    assert spec.ports == (
        PortBinding(80),
        PortBinding(80, "tcp", "127.0.0.1", 8080),
        PortBinding(90, "udp", "", 9000, 9002),
    )
    with pytest.raises(Unsupported, match="sctp"):
        template(stack, "ports: ['80/sctp']")


def test_limits_come_from_deploy_or_the_short_attributes(stack: FakeStack) -> None:
    deploy = template(stack, "deploy: {resources: {limits: {memory: 64M, cpus: '0.5', pids: 20}}}")
    short = template(stack, "mem_limit: 64m\ncpus: 0.5\npids_limit: 20")
    assert deploy.resources == short.resources == Resources(memory_bytes=64 << 20, cpus=0.5, pids=20)


def test_a_runtime_is_asked_for_by_a_known_name(stack: FakeStack) -> None:
    assert (template(stack, "runtime: crun").runtime, template(stack, "tty: true").runtime) == ("crun", None)
    with pytest.raises(InvalidInput, match='unknown runtime "gvisor"') as caught:
        template(stack, "runtime: gvisor")
    assert caught.value.hint == "known: umiak, crun, runc"
    assert caught.value.place


def test_block_io_and_swappiness_reach_the_engine(stack: FakeStack) -> None:
    disk = "blkio_config: {weight: 300, device_read_bps: [{path: /dev/vda, rate: 1mb}]}"
    assert template(stack, f"{disk}\nmem_swappiness: 10").resources == Resources(
        memory_swappiness=10,
        block_io_weight=300,
        block_io_devices=(DeviceLimit("throttleReadBpsDevice", "/dev/vda", 1 << 20),),
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("restart: always", RestartPolicy("always")),
        ("restart: on-failure:3", RestartPolicy("on-failure", 3)),
        ("restart: 'no'", RestartPolicy("no")),
        ("deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}", RestartPolicy("on-failure", 2)),
        ("deploy: {restart_policy: {condition: any}}", RestartPolicy("always")),
    ],
)
def test_restart_policies(stack: FakeStack, text: str, wanted: RestartPolicy) -> None:
    assert template(stack, text).restart == wanted


def test_an_unknown_restart_policy_is_refused_at_its_place(stack: FakeStack) -> None:
    with pytest.raises(InvalidInput) as caught:
        template(stack, "restart: sometimes")
    assert str(caught.value.place).endswith("compose.yaml:4:5")


@pytest.mark.parametrize(
    ("subnet", "address", "line"), [("10.0.0.0/33", "10.0.0.3", 11), ("10.0.0.0/24", "10.0.1.3", 6)]
)
def test_an_address_that_cannot_be_had_is_refused_at_its_place(
    stack: FakeStack, subnet: str, address: str, line: int
) -> None:
    networks = f"networks:\n  n:\n    ipam: {{config: [{{subnet: {subnet}}}]}}\n"
    with pytest.raises(InvalidInput) as caught:
        template(stack, f"networks:\n  n:\n    ipv4_address: {address}", networks)
    assert f"compose.yaml:{line}:" in str(caught.value.place)


def test_the_rest_of_a_service(stack: FakeStack) -> None:
    spec = template(
        stack,
        "command: [serve]\nuser: '1000:1000'\nworking_dir: /srv\nstop_grace_period: 0s\nstop_signal: SIGINT\ninit: true\n"
        "tty: true\nulimits: {nofile: {soft: 10, hard: 20}}\nlogging: {options: {max-size: 10m, max-file: '3'}}\n"
        "healthcheck: {test: 'curl x', interval: 1m30s, retries: 5}\nextra_hosts: ['a:10.0.0.1']\nenvironment: [A=1, B]",
    )
    assert (spec.command, spec.user, spec.working_dir, spec.init, spec.tty) == (
        ("serve",),
        "1000:1000",
        "/srv",
        True,
        True,
    )
    assert (spec.stop_timeout_s, spec.stop_signal) == (0.0, "SIGINT")
    assert spec.ulimits == (Ulimit("nofile", 10, 20),)
    assert spec.log == LogOptions("raw", 10 << 20, 3)
    assert spec.healthcheck == Healthcheck(("CMD-SHELL", "curl x"), interval_s=90.0, retries=5)
    assert spec.extra_hosts == ("a:10.0.0.1",)
    assert spec.environment["A"] == "1"


def test_what_is_not_acted_on_is_said_once_with_its_place(stack: FakeStack) -> None:
    service(stack, "gpus: all\nstorage_opt: {size: 1g}")
    warnings = stack.desired().warnings
    assert [warning.split(": ")[1] for warning in warnings] == [
        "services.web.gpus is not acted on yet",
        "services.web.storage_opt is not acted on yet",
    ]
    assert "compose.yaml:4:5" in warnings[0]


def test_secrets_and_configs_are_read_only_files(stack: FakeStack) -> None:
    spec = template(
        stack,
        "secrets: [password]\nconfigs: [{source: settings, target: /etc/app.conf, uid: '5', mode: 0400}]",
        "secrets: {password: {file: ./password}}\nconfigs: {settings: {content: 'a=1'}}",
    )
    config, secret = spec.mounts
    assert secret == Mount(
        "bind", "/run/secrets/password", str(stack.directory / "password"), True, {"create_host_path": False}
    )
    (file,) = stack.desired().files
    assert config == Mount("file", "/etc/app.conf", file.path, True, {"uid": 5, "mode": 0o400})
    assert file.content == "a=1"


def test_a_file_with_an_owner_or_mode_is_copied(stack: FakeStack) -> None:
    (mount,) = template(
        stack, "secrets: [{source: s, gid: '7', mode: '0440'}]", "secrets: {s: {file: ./password}}"
    ).mounts
    source = str(stack.directory / "password")
    assert mount == Mount("file", "/run/secrets/s", source, True, {"gid": 7, "mode": 0o440})


def test_an_owner_by_name_is_refused_with_its_place(stack: FakeStack) -> None:
    with pytest.raises(InvalidInput, match='secret "s": uid "postgres" is not a number') as caught:
        template(stack, "secrets: [{source: s, uid: postgres}]", "secrets: {s: {file: ./password}}")
    assert "compose.yaml:" in (caught.value.place or "")


def test_another_content_is_another_definition(stack: FakeStack) -> None:
    first = service(stack, "configs: [c]", "configs: {c: {content: a}}").config_hash
    assert service(stack, "configs: [c]", "configs: {c: {content: b}}").config_hash != first


def test_a_private_file_is_whole_and_private(tmp_path: Path, stack: FakeStack) -> None:
    service(stack, "configs: [c]", "configs: {c: {content: text}}")
    (file,) = stack.desired().files
    here = replace(file, path=str(tmp_path / "private" / "x"))
    here.write()
    here.write()
    path = tmp_path / "private" / "x"
    assert path.read_text() == "text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["x"]


def test_an_external_secret_is_refused_with_a_hint(stack: FakeStack) -> None:
    with pytest.raises(Unsupported, match='secret "s" is external'):
        template(stack, "secrets: [s]", "secrets: {s: {external: true}}")


def test_the_hash_ignores_bookkeeping_and_defaults_but_nothing_else() -> None:
    spec = ContainerSpec("", "app", environment={"A": ""})
    assert config_hash(spec) == config_hash(replace(spec, labels={"com.docker.compose.image": "x"}, tty=False))
    assert config_hash(spec) != config_hash(replace(spec, environment={}))
    assert config_hash(spec) != config_hash(replace(spec, stop_timeout_s=0.0))
    assert config_hash(spec) != config_hash(replace(spec, labels={"own": "x"}))


def test_a_link_alias_of_two_services_is_given_to_neither(stack: FakeStack) -> None:
    service(stack, "links: ['db:store']", "  other: {image: app}\n  third: {image: app, links: ['other:store']}\n")
    assert stack.desired().services["db"].template.networks[0].aliases == ("db",)
    assert any("store" in warning for warning in stack.desired().warnings)


def test_compatibility_joins_names_with_underscores(stack: FakeStack) -> None:
    service(stack, "ipc: service:db")
    web = stack.desired(compatibility=True).services["web"]
    assert web.container("p", 2).name == "p_web_2"
    assert web.template.ipc_mode == "container:p_db_1"
