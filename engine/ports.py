"""What the engine asks of others. Drivers implement these; `compose.wiring` hands them to `Engine`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from engine.types import (
    EndpointInfo,
    EndpointRequest,
    Mount,
    NetworkInfo,
    NetworkSpec,
    PortBinding,
    StepOptions,
    VolumeInfo,
    VolumeSpec,
)


class NetworkDriver(Protocol):
    """Makes networks and plans endpoints. The planned endpoint is attached by the container's monitor."""

    def prepare(self) -> None:
        """Get ready to make a network soon; returns at once."""

    def create(self, spec: NetworkSpec) -> NetworkInfo:
        """Make a bridge with its subnet, firewall elements and run directory; record it. Raise Conflict if the name exists."""

    def ensure(self, network: NetworkInfo) -> None:
        """Bring back what a reboot or a crash took from a recorded network (bridge, address, firewall). Cheap when nothing is missing."""

    def remove(self, network: NetworkInfo) -> None:
        """Remove a network. Raise Conflict while endpoints are leased on it. Finish what a killed removal left."""

    def all(self) -> list[NetworkInfo]:
        """All recorded networks."""

    def ensure_default(self) -> NetworkInfo:
        """The engine's own network, made on demand; it goes away with the last endpoint on it."""

    def lease(self, container_id: str, container_name: str, requests: Sequence[EndpointRequest]) -> list[EndpointInfo]:
        """Reserve address, MAC and link name for each request, eth0 first. Names include container name, short ID and aliases.

        Raise NotFound for an unknown network, Conflict for an address in use, Unavailable when a subnet is full.
        """

    def release(self, container_id: str) -> None:
        """Give back all leases and whatever is left of the endpoints in the kernel. Does nothing where there are none."""

    def withdraw(self, container_id: str) -> None:
        """Drop what a dead monitor left in force: names, firewall elements. Leases stay. Does nothing where there is nothing."""

    def leases(self, container_id: str) -> list[EndpointInfo]:
        """The endpoints leased to a container."""

    def services(
        self,
        container_id: str,
        endpoints: Sequence[EndpointInfo],
        ports: Sequence[PortBinding],
        *,
        dns: Sequence[str],
        dns_search: Sequence[str],
        dns_opt: Sequence[str],
    ) -> list[dict[str, Any]]:
        """The monitor services of a container (`{"module": …, "config": …}`): name server, published ports."""

    def resolv_conf(
        self,
        endpoints: Sequence[EndpointInfo],
        *,
        dns: Sequence[str],
        dns_search: Sequence[str],
        dns_opt: Sequence[str],
    ) -> str:
        """The text of /etc/resolv.conf for a container with these endpoints."""

    def close(self) -> None:
        """Let go of what the driver keeps open. Networks stay."""

    def repair(self, live: Mapping[str, bool]) -> None:
        """Drop what belongs to no known container; `live` maps each known container to whether it runs."""


class VolumeDriver(Protocol):
    """Keeps named volumes and turns a container's mounts into sources that can be bind-mounted."""

    def create(self, spec: VolumeSpec, *, anonymous: bool = False) -> VolumeInfo:
        """Make a volume, or return the one of that name with the same driver."""

    def remove(self, name: str) -> None:
        """Remove a volume and its content. Raise NotFound, or Conflict naming the containers that use it."""

    def all(self) -> list[VolumeInfo]:
        """All volumes."""

    def get(self, name: str) -> VolumeInfo:
        """One volume. Raise NotFound."""

    def prepare(self, mount: Mount, layer_dirs: Sequence[str], *, private_dir: str = "") -> dict[str, Any]:
        """Turn a mount into one entry of an OCI `mounts` list: make bind sources, populate an empty volume from the image.

        `layer_dirs` are the image's layers, lowest first; copies for mounts of type "file" go into `private_dir`.
        """


class BuildRunner(Protocol):
    """Runs one command in a root file system that is being made (a Dockerfile's RUN, a bootstrap's configure step)."""

    def __call__(
        self,
        *,
        layer_dirs: Sequence[str],
        upper: str,
        work: str,
        argv: Sequence[str],
        env: Sequence[str],
        cwd: str,
        user: str,
        output: Callable[[bytes], None],
        mounts: Sequence[Mount] = (),
        options: StepOptions | None = None,
    ) -> int:
        """Run `argv` (already with its shell) with `upper` over `layer_dirs` (lowest first); return its exit code.

        stdout and stderr go to `output` as they come. The command runs with the limits and the filter of any container, but
        for what `options` say.
        """
