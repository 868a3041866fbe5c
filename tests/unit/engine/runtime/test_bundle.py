"""The OCI bundle says what was asked of the container."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidInput, NotFound
from engine.kernel import capabilities
from engine.paths import Paths
from engine.runtime import bundle
from engine.types import ContainerSpec, DeviceLimit, EndpointInfo, Healthcheck, ImageConfig, Resources

ENDPOINT = EndpointInfo(
    "p_default", "n" * 64, "172.20.0.2", 24, "172.20.0.1", "02:42:ac:14:00:02", ("web",), "eth0", "umv1"
)


IMAGE = ImageConfig(cmd=("true",))


def inputs(spec: ContainerSpec, image: ImageConfig = IMAGE, **changes: Any) -> bundle.Inputs:
    values: dict[str, Any] = {
        "id": "ab" * 32,
        "name": spec.name,
        "spec": spec,
        "image": image,
        "argv": bundle.effective_argv(spec, image),
        "layer_dirs": [],
        "rootfs": {},
        "mounts": [],
        "endpoints": [ENDPOINT],
        "netns": {"mode": "private", "pin": "/run/x"},
        "services": [],
        "resolv_conf": "",
        "passwd": b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\n",
        "group": b"web:x:34:\nextra:x:50:web\n",
    }
    return bundle.Inputs(**{**values, **changes})


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec(name="p-web-1", image="i", **fields)


def test_an_entrypoint_in_the_request_clears_the_images_command() -> None:
    image = ImageConfig(entrypoint=("/entry",), cmd=("serve",))
    assert bundle.effective_argv(spec(), image) == ("/entry", "serve")
    assert bundle.effective_argv(spec(command=("other",)), image) == ("/entry", "other")
    assert bundle.effective_argv(spec(entrypoint=("/mine",)), image) == ("/mine",)
    assert bundle.effective_argv(spec(entrypoint=(), command=("sh",)), image) == ("sh",)


def test_a_container_without_any_command_is_refused() -> None:
    with pytest.raises(InvalidInput, match="names a command"):
        bundle.effective_argv(spec(), ImageConfig())


def test_the_environment_prefers_the_request_and_null_removes_the_images_value() -> None:
    image = ImageConfig(cmd=("x",), env=("PATH=/bin", "A=image", "B=image", "C=x=y"))
    made = dict(
        item.split("=", 1)
        for item in bundle.environment(inputs(spec(environment={"A": "mine", "B": None}), image), "/root")
    )
    assert made == {"PATH": "/bin", "HOSTNAME": "abababababab", "HOME": "/root", "A": "mine", "C": "x=y"}


def test_the_user_is_resolved_with_its_groups_and_home() -> None:
    process = bundle.config("/run/c", inputs(spec(user="web", group_add=("extra", "7"))))["process"]
    assert process["user"] == {"uid": 33, "gid": 34, "additionalGids": [34, 50, 7]}
    assert "HOME=/var/www" in process["env"]


def test_an_unknown_user_is_a_clear_error() -> None:
    with pytest.raises(InvalidInput, match="bob"):
        bundle.config("/run/c", inputs(spec(user="bob")))


def test_capabilities_are_dockers_plus_and_minus_what_is_asked() -> None:
    held = set(capabilities.to_names(capabilities.bounding_set()))
    assert set(bundle.capability_names(spec())) <= {f"CAP_{name}" for name in bundle.DEFAULT_CAPABILITIES}
    assert set(bundle.capability_names(spec(cap_drop=("ALL",)))) == set()
    only = set(bundle.capability_names(spec(cap_drop=("ALL",), cap_add=("net_bind_service",))))
    assert only == {"CAP_NET_BIND_SERVICE"} & held
    assert "CAP_KILL" not in bundle.capability_names(spec(cap_drop=("KILL",)))
    assert set(bundle.capability_names(spec(privileged=True))) == held & set(capabilities.NUMBERS)
    assert set(bundle.capability_names(spec(cap_add=("ALL",), cap_drop=("CAP_CHOWN",)))) == (held - {"CAP_CHOWN"})
    with pytest.raises(InvalidInput, match="FLY"):
        bundle.capability_names(spec(cap_add=("FLY",)))


def test_privileged_lifts_masks_filter_and_device_rules() -> None:
    linux = bundle.config("/run/c", inputs(spec(privileged=True)))["linux"]
    assert (linux["maskedPaths"], linux["readonlyPaths"], linux["seccomp"]) == ([], [], None)
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_limits_appear_only_where_they_were_asked_for() -> None:
    assert bundle.resources(Resources()) == {}
    assert bundle.resources(Resources(memory_bytes=1 << 26, cpus=0.5, pids=50)) == {
        "memory": {"limit": 1 << 26},
        "cpu": {"quota": 50_000, "period": 100_000},
        "pids": {"limit": 50},
    }


def test_block_io_is_limited_by_device_number(tmp_path: Path) -> None:
    disk = next((path for path in Path("/dev").iterdir() if path.is_block_device()), None)
    if disk is None:
        pytest.skip("this host shows no block device")
    limits = (DeviceLimit("throttleReadBpsDevice", str(disk), 1000), DeviceLimit("weightDevice", str(disk), 20))
    number = {"major": os.major(disk.stat().st_rdev), "minor": os.minor(disk.stat().st_rdev)}
    assert bundle.resources(Resources(block_io_weight=30, block_io_devices=limits, memory_swappiness=5)) == {
        "memory": {"swappiness": 5},
        "blockIO": {
            "weight": 30,
            "throttleReadBpsDevice": [{**number, "rate": 1000}],
            "weightDevice": [{**number, "weight": 20}],
        },
    }


@pytest.mark.parametrize(("path", "error"), [("/dev/null", InvalidInput), ("/dev/absent", NotFound)])
def test_block_io_of_what_is_no_disk_cannot_be_limited(path: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=path):
        bundle.resources(Resources(block_io_devices=(DeviceLimit("throttleReadBpsDevice", path, 1),)))


def test_health_falls_back_field_by_field_to_the_image_and_to_dockers_defaults() -> None:
    image = Healthcheck(test=("CMD", "probe"), interval_s=5.0, retries=7)
    merged = bundle.health(Healthcheck(interval_s=2.0), image, None, strict=False)
    assert merged == {
        "test": ["CMD", "probe"],
        "interval_s": 2.0,
        "timeout_s": 30.0,
        "retries": 7,
        "start_period_s": 0.0,
        "start_interval_s": None,
        "strict": False,
    }
    assert bundle.health(Healthcheck(test=("NONE",)), image, None, strict=False) is None
    shell = bundle.health(Healthcheck(test=("CMD-SHELL", "exit 0")), None, None, strict=False)
    assert shell is not None
    assert shell["test"] == ["CMD", "/bin/sh", "-c", "exit 0"]


def test_hosts_names_the_container_and_the_extra_hosts() -> None:
    text = bundle.hosts(inputs(spec(hostname="web", domainname="lan", extra_hosts=("db:10.0.0.9", "gw:host-gateway"))))
    assert "172.20.0.2\tweb.lan web\n" in text
    assert "10.0.0.9\tdb\n" in text
    assert "172.20.0.1\tgw\n" in text


def test_both_files_are_written_for_root_alone(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path / "root"), str(tmp_path / "run"))
    path = bundle.write(paths, inputs(spec()))
    written = Path(path)
    assert json.loads(written.read_text())["endpoints"][0]["names"] == ["p-web-1", "abababababab", "web"]
    assert written.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "run/containers" / ("ab" * 32) / "hosts").exists()


@pytest.mark.parametrize(("name", "number"), [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37)])
def test_signals_are_read_by_name_and_number(name: str, number: int) -> None:
    assert bundle.signal_number(name) == number


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(InvalidInput):
        bundle.signal_number("SIGNOPE")
