"""Which services are enabled: by profile, by being named on the command line, by being depended on."""

from __future__ import annotations

from collections.abc import Iterable

from compose.errors import ComposeError
from compose.spec.document import Map
from compose.spec.validate import closest


def enabled(services: Map, profiles: Iterable[str], named: Iterable[str] = ()) -> set[str]:
    """The services to run: those whose profiles are active, or, if some are named, these and what they depend on."""
    active = {*profiles, ""}  # as Docker has it: an empty profile is always active
    named = tuple(named)
    for name in named:
        if name not in services:
            suggestion = closest(name, services)
            hint = None if suggestion else f"services: {', '.join(sorted(services))}"
            raise ComposeError("E061", f"no such service: {name}", suggestion=suggestion, hint=hint)
        active |= set(services[name].get("profiles") or ())
    chosen = {name for name, service in services.items() if is_active(service, active)}
    return _with_dependencies(services, named, chosen) if named else chosen


def is_active(service: Map, profiles: set[str]) -> bool:
    """Whether a service without profiles, or with one of these."""
    own = service.get("profiles") or ()
    return not own or "*" in profiles or bool(profiles.intersection(own))


def _with_dependencies(services: Map, named: Iterable[str], chosen: set[str]) -> set[str]:
    needed: set[str] = set()
    pending = list(named)
    while pending:
        name = pending.pop()
        if name in needed or name not in chosen:
            continue
        needed.add(name)
        pending += services[name].get("depends_on") or ()
    return needed


def used_resources(services: Iterable[Map]) -> dict[str, set[str]]:
    """The keys of the top-level resources that services use, by section."""
    used: dict[str, set[str]] = {key: set() for key in ("networks", "volumes", "secrets", "configs", "models")}
    for service in services:
        used["networks"] |= set(service.get("networks") or ())
        used["models"] |= set(service.get("models") or ())
        for mount in service.get("volumes") or ():
            if isinstance(mount, Map) and mount.get("type") == "volume" and mount.get("source"):
                used["volumes"].add(mount["source"])
        build = service.get("build") or {}
        used["secrets"] |= {s.get("source") for s in [*(service.get("secrets") or ()), *(build.get("secrets") or ())]}
        used["configs"] |= {c.get("source") for c in service.get("configs") or ()}
    return used
