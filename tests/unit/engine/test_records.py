"""What is stored comes back as it was."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from engine import records
from engine.errors import InvalidInput
from engine.types import (
    ContainerSpec,
    DeviceLimit,
    EndpointRequest,
    Healthcheck,
    Mount,
    PortBinding,
    Resources,
    RestartPolicy,
    Ulimit,
)


def test_a_specification_survives_being_recorded() -> None:
    spec = ContainerSpec(
        name="p-web-1",
        image="i",
        command=("a", "b"),
        environment={"A": None, "B": "1"},
        restart=RestartPolicy("on-failure", 3),
        healthcheck=Healthcheck(test=("CMD", "x"), interval_s=1.5),
        mounts=(Mount("volume", "/data", "v", options={"nocopy": True}),),
        ulimits=(Ulimit("nofile", 10, 20),),
        resources=Resources(memory_bytes=5, block_io_devices=(DeviceLimit("weightDevice", "/dev/vda", 10),)),
        networks=(EndpointRequest("n", aliases=("web",)),),
        ports=(PortBinding(80, host_port=8080),),
    )
    assert records.container_spec(json.loads(json.dumps(asdict(spec)))) == spec


@pytest.mark.parametrize("name", ["", "a", "-a", "a b", "a/b", "ä1"])
def test_bad_container_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        records.check_container_name(name)
