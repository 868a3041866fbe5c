from __future__ import annotations

from typing import Any

import pytest

from compose.spec.document import Texts, parse
from compose.spec.layers import Reader
from compose.spec.merge import merge, settle
from compose.spec.short import Unreadable, parse_port, parse_volume


def canonical(text: str) -> Any:
    from compose.spec.canonical import canonicalize

    tree, errors, _ = canonicalize(parse(f"services:\n  a: {text}\n", "f.yaml")[0], Texts())
    assert not errors
    return tree["services"]["a"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("80", [(None, None, 80, "tcp")]),
        ("8080:80/udp", [(None, "8080", 80, "udp")]),
        ("127.0.0.1:8080:80", [("127.0.0.1", "8080", 80, "tcp")]),
        ("127.0.0.1::80", [("127.0.0.1", None, 80, "tcp")]),
        ("[::1]:80:80", [("::1", "80", 80, "tcp")]),
        ("8000-8001:80-81", [(None, "8000", 80, "tcp"), (None, "8001", 81, "tcp")]),
        ("8000-8002:80", [(None, "8000-8002", 80, "tcp")]),
    ],
)
def test_short_ports(spec: str, expected: list[tuple[object, ...]]) -> None:
    keys = ("host_ip", "published", "target", "protocol")
    assert [tuple(port.get(key) for key in keys) for port in parse_port(spec)] == expected


@pytest.mark.parametrize(
    "spec", ["", "http", "80:http", "70000", "localhost:80:80", "80/icmp", "1-2:1-3", "2-1", "80:80:80:80"]
)
def test_ports_that_cannot_be_read(spec: str) -> None:
    with pytest.raises(Unreadable):
        parse_port(spec)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("data:/d", {"type": "volume", "source": "data", "target": "/d", "volume": {}}),
        ("./d:/d/:ro", {"type": "bind", "source": "./d", "target": "/d", "read_only": True}),
        ("/d", {"type": "volume", "target": "/d"}),
        ("data:/d:nocopy,ro", {"type": "volume", "source": "data", "read_only": True, "volume": {"nocopy": True}}),
        (
            "~/d:/d:rshared,z",
            {
                "type": "bind",
                "source": "~/d",
                "bind": {"create_host_path": True, "propagation": "rshared", "selinux": "z"},
            },
        ),
        ("C:\\d:/d", {"type": "bind", "source": "C:\\d", "target": "/d"}),
    ],
)
def test_short_volumes(spec: str, expected: dict[str, object]) -> None:
    assert expected.items() <= parse_volume(spec).items()


@pytest.mark.parametrize("spec", ["", "data:", ":/d", "/a::ro", "./d:/d:ro:z"])
def test_volumes_that_cannot_be_read(spec: str) -> None:
    with pytest.raises(Unreadable):
        parse_volume(spec)


def test_every_short_syntax_has_its_long_form() -> None:
    service = canonical(
        "{build: ., command: echo 'a b', environment: [A=1, B], labels: [x], depends_on: [db], networks: [n], env_file: e,"
        " healthcheck: {test: curl x}, extra_hosts: ['h:1.1.1.1', 'h=::1'], dns: 1.1.1.1, secrets: [s], ulimits: {nofile: 5}, gpus: all}"
    )
    assert service == {
        "build": {"context": "."},
        "command": ["echo", "a b"],
        "environment": {"A": "1", "B": None},
        "labels": {"x": ""},
        "depends_on": {"db": {"condition": "service_started", "required": True}},
        "networks": {"n": None},
        "env_file": [{"path": "e", "required": True}],
        "healthcheck": {"test": ["CMD-SHELL", "curl x"]},
        "extra_hosts": {"h": ["1.1.1.1", "::1"]},
        "dns": ["1.1.1.1"],
        "secrets": [{"source": "s"}],
        "ulimits": {"nofile": 5},
        "gpus": [{"count": -1}],
    }


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        ("{image: a, tty: true}", "{image: b}", {"image": "b", "tty": True}),
        ("{command: [a]}", "{command: [b]}", {"command": ["b"]}),
        ("{command: [a]}", "{command: }", {"command": None}),
        ("{image: a}", "{image: }", {"image": "a"}),
        ("{environment: {A: 1}}", "{environment: [A, B=2]}", {"environment": {"A": None, "B": "2"}}),
        ("{cap_add: [A]}", "{cap_add: [A, B]}", {"cap_add": ["A", "B"]}),
        ("{dns: 1.1.1.1}", "{dns: !override [2.2.2.2]}", {"dns": ["2.2.2.2"]}),
        ("{dns: 1.1.1.1}", "{dns: !reset }", {}),
        ("{logging: {driver: a, options: {x: 1}}}", "{logging: {driver: b}}", {"logging": {"driver": "b"}}),
        (
            "{logging: {driver: a, options: {x: 1}}}",
            "{logging: {options: {y: 2}}}",
            {"logging": {"driver": "a", "options": {"x": "1", "y": "2"}}},
        ),
        ("{ulimits: {n: {soft: 1, hard: 2}}}", "{ulimits: {n: 3}}", {"ulimits": {"n": 3}}),
        ("{x-a: {b: 1}}", "{x-a: {c: 2}}", {"x-a": {"b": 1, "c": 2}}),
    ],
)
def test_merging(base: str, over: str, expected: dict[str, object]) -> None:
    assert settle(merge(canonical(base), canonical(over), Texts(), ("services", "a"))) == expected


def test_a_volume_over_the_same_target_replaces_and_a_port_is_added() -> None:
    merged = merge(
        canonical("{volumes: ['data:/d'], ports: ['80:80']}"),
        canonical("{volumes: ['./b:/d'], ports: ['8080:80', '80:80']}"),
        Texts(),
        ("services", "a"),
    )
    assert [mount["source"] for mount in merged["volumes"]] == ["./b"]
    assert [port["published"] for port in merged["ports"]] == ["80", "8080"]


def test_the_reader_makes_paths_absolute(tmp_path: Any) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(
        "services: {a: {build: {context: ., ssh: [k=./key], additional_contexts: {x: ./x, y: 'docker-image://y'}}, volumes: ['./d:/d']}}\n"
        "configs: {c: {file: ./c}}\n"
        "volumes: {v: {driver: local, driver_opts: {o: bind, device: ./v}}}\n"
    )
    tree = Reader().load((str(file),), str(tmp_path), {})
    build = tree["services"]["a"]["build"]
    assert build["context"] == str(tmp_path)
    assert build["ssh"] == {"k": f"{tmp_path}/key"}
    assert build["additional_contexts"] == {"x": f"{tmp_path}/x", "y": "docker-image://y"}
    assert tree["configs"]["c"]["file"] == f"{tmp_path}/c"
    assert tree["volumes"]["v"]["driver_opts"]["device"] == f"{tmp_path}/v"


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ('["a=1.1.1.1,1.1.1.2"]', {"a": ["1.1.1.1", "1.1.1.2"]}),
        ('["a:[::1]", "a=::2"]', {"a": ["::1", "::2"]}),
        ("{a: [x, x]}", {"a": ["x", "x"]}),
        ("{a: }", {"a": [""]}),
        ("{a: []}", {"a": []}),
    ],
)
def test_extra_hosts_keep_every_address(hosts: str, expected: Any) -> None:
    assert canonical(f"{{extra_hosts: {hosts}}}")["extra_hosts"] == expected


@pytest.mark.parametrize(
    "service",
    [
        "{extra_hosts: ['=b']}",
        "{extra_hosts: {'a:b': c}}",
        "{ports: [{target: 80, host_ip: '[::1]'}]}",
        "{ports: ['80:80/tcp/udp']}",
        "{ports: ['[fe80::1%eth0]:80:80']}",
        "{storage_opt: {size: 1.5}}",
        "{build: {additional_contexts: {a: 1}}}",
        "{build: {additional_contexts: {a: }}}",
    ],
)
def test_what_docker_cannot_read_either(service: str) -> None:
    from compose.spec.canonical import canonicalize

    _, errors, _ = canonicalize(parse(f"services:\n  a: {service}\n", "f.yaml")[0], Texts())
    assert errors


def test_names_on_networks_and_servers_are_listed_once() -> None:
    service = canonical("{dns: [a, b, a], networks: {n: {aliases: [x, y, x]}}}")
    assert service["dns"] == ["a", "b"]
    assert service["networks"]["n"]["aliases"] == ["x", "y"]
