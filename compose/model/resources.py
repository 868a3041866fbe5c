"""The top-level networks, volumes and models."""

from __future__ import annotations

from compose.model.base import Bool, Extensible, Int


class IpamPool(Extensible):
    """One address range of a network."""

    subnet: str | None = None
    """Subnet in CIDR notation; default a free one."""
    gateway: str | None = None
    """Address of the gateway; default the first of the subnet."""
    ip_range: str | None = None
    """Part of the subnet from which containers get addresses; default all of it."""
    aux_addresses: dict[str, str] = {}
    """Addresses that the driver must not hand out, by host name; default none."""


class Ipam(Extensible):
    """How a network's addresses are managed."""

    driver: str | None = None
    """Driver that hands out addresses; default the engine's."""
    config: tuple[IpamPool, ...] = ()
    """Address ranges; default none."""
    options: dict[str, str] = {}
    """Options of the driver; default none."""


class Network(Extensible):
    """A top-level network."""

    name: str | None = None
    """Name of the network in the engine; default `<project>_<key>`."""
    driver: str | None = None
    """Network driver; default `bridge`."""
    driver_opts: dict[str, str] = {}
    """Options of the driver; default none."""
    ipam: Ipam = Ipam.model_construct()
    """Address management; default the driver's."""
    external: Bool = False
    """The network exists outside the project and is neither made nor removed by it; default false."""
    internal: Bool = False
    """No way out of the network; default false."""
    attachable: Bool = False
    """Containers outside the project may join; default false."""
    labels: dict[str, str] = {}
    """Labels of the network; default none."""
    enable_ipv4: Bool | None = None
    """Give IPv4 addresses; default true."""
    enable_ipv6: Bool | None = None
    """Give IPv6 addresses; default false."""


class Volume(Extensible):
    """A top-level volume."""

    name: str | None = None
    """Name of the volume in the engine; default `<project>_<key>`."""
    driver: str | None = None
    """Volume driver; default `local`."""
    driver_opts: dict[str, str] = {}
    """Options of the driver, such as `type`, `o` and `device` of a mount; default none."""
    external: Bool = False
    """The volume exists outside the project and is neither made nor removed by it; default false."""
    labels: dict[str, str] = {}
    """Labels of the volume; default none."""


class LanguageModel(Extensible):
    """A top-level model: a language model that services use."""

    name: str | None = None
    """Name of the model; default its key."""
    model: str | None = None
    """Reference of the model to run; required."""
    context_size: Int = 0
    """Tokens of context; 0 is the model's default."""
    runtime_flags: tuple[str, ...] = ()
    """Flags passed to the inference engine; default none."""
