"""Plans of `pull` and `push`: which services' images go to or come from a registry. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from compose.plan import Plan, PlanBuilder, PullImage, PushImage

if TYPE_CHECKING:
    from compose.desired import Desired, DesiredService


def pulls(
    desired: Desired,
    services: Iterable[str],
    *,
    here: Collection[str] = (),
    ignore_failures: bool = False,
    ignore_buildable: bool = False,
) -> Plan:
    """Fetch each service's image once, all at once; leave out the references that are `here`.

    An image that can be built need not be found.
    """
    builder = PlanBuilder(desired.project)
    for service in _each_image(desired, services):
        if service.image in here or (service.build and ignore_buildable):
            continue
        place = desired.places.get(f"services.{service.name}.image", service.place)
        required = not (ignore_failures or service.build)
        action = PullImage(service.image, service.platform, required=required, place=place)
        builder.add(f"image:{service.name}", action, "asked for")
    return builder.plan()


def pushes(desired: Desired, services: Iterable[str], *, ignore_failures: bool = False) -> Plan:
    """Send each image that a service builds to its registry, all at once."""
    builder = PlanBuilder(desired.project)
    for service in _each_image(desired, services):
        if service.build:
            builder.add(f"image:{service.name}", PushImage(service.image, required=not ignore_failures), "asked for")
    return builder.plan()


def _each_image(desired: Desired, services: Iterable[str]) -> Iterator[DesiredService]:
    """The services, but of those with the same image only one, one that builds it where there is one."""
    by_image: dict[str, DesiredService] = {}
    for name in services:
        service = desired.services[name]
        if service.image not in by_image or service.build:
            by_image[service.image] = service
    yield from by_image.values()
