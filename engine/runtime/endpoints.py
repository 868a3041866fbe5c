"""Attach a container's network namespace to its networks: one rtnetlink batch on the host, one inside."""

from __future__ import annotations

import errno
import os
import socket

from engine.kernel.netlink import NetlinkError, RouteNetlink
from engine.runtime.netns import Visit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

LOOPBACK_INDEX = 1


def attach(netns_fd: int, endpoints: Sequence[Mapping[str, Any]]) -> None:
    """Give the namespace its loopback and one veth per endpoint, with address and default route.

    `endpoints` is the list of that name in `monitor.json`. Raise OSError saying which step failed; the caller undoes
    a failed attach by dropping the namespace, which takes every veth with it.
    """
    with Visit(netns_fd):
        _quiet_ipv6()
    if endpoints:
        _add_links(netns_fd, endpoints)
    with Visit(netns_fd):
        _configure(endpoints)


def attached(netns_fd: int, endpoints: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the namespace has every endpoint already: plugged into its bridge, with its address, and up."""
    with RouteNetlink() as netlink:
        for endpoint in endpoints:
            link, bridge = netlink.link(endpoint["link"]), netlink.link(endpoint["bridge"])
            if link is None or bridge is None or link.master != bridge.index:
                return False
    with Visit(netns_fd), RouteNetlink() as netlink:
        links = {link.name: link for link in netlink.links()}
        for endpoint in endpoints:
            inner = links.get(endpoint["ifname"])
            address = (endpoint["ipv4_address"], endpoint["prefix_length"])
            if inner is None or not inner.is_up or address not in netlink.addresses(inner.index):
                return False
        return links["lo"].is_up


def _quiet_ipv6() -> None:
    # For the interfaces to come: no link-local address, no router advertisements. ::1 on lo stays, as many programs want it.
    for name, value in (("disable_ipv6", b"1"), ("accept_ra", b"0")):
        try:
            fd = os.open(f"/proc/sys/net/ipv6/conf/default/{name}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return  # A kernel without IPv6.
        try:
            os.write(fd, value)
        finally:
            os.close(fd)


def _add_links(netns_fd: int, endpoints: Sequence[Mapping[str, Any]]) -> None:
    with RouteNetlink() as netlink:
        bridges = {}
        for endpoint in endpoints:
            bridge = netlink.link(endpoint["bridge"])
            if bridge is None:
                raise OSError(errno.ENODEV, f"network {endpoint['network']} has no bridge {endpoint['bridge']}")
            bridges[endpoint["bridge"]] = bridge

        def queue() -> None:
            for endpoint in endpoints:
                bridge = bridges[endpoint["bridge"]]
                mac = bytes.fromhex(endpoint["mac_address"].replace(":", ""))
                netlink.add_veth(endpoint["link"], endpoint["ifname"], netns_fd, mac, bridge.index, bridge.mtu)

        queue()
        try:
            netlink.flush()
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            # A start that failed a moment ago (its namespace is dying, and its veths with it), or a bridge made anew.
            _drop_links(netlink, [endpoint["link"] for endpoint in endpoints])
            queue()
            netlink.flush()


def _drop_links(netlink: RouteNetlink, names: Sequence[str]) -> None:
    for name in names:
        netlink.delete_link(name)
        try:
            netlink.flush()
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise


def _configure(endpoints: Sequence[Mapping[str, Any]]) -> None:
    with RouteNetlink() as netlink:
        netlink.set_up(LOOPBACK_INDEX)
        for endpoint in endpoints:
            index = socket.if_nametoindex(endpoint["ifname"])
            netlink.add_address(index, endpoint["ipv4_address"], endpoint["prefix_length"])
            netlink.set_up(index)
            if endpoint["default_route"] and endpoint["gateway"]:
                netlink.add_default_route(endpoint["gateway"], index)
        netlink.flush()
