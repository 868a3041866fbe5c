"""What `build --print` prints: the builds of services as a bake file, the JSON that `docker buildx bake -f -` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compose.plan import Build, BuildSecret
    from engine.types import Ulimit


def bake_file(builds: Sequence[Build]) -> str:
    """The bake file that has one target for each build, named as its service."""
    services = {build.reference: build.service for build in builds}
    targets = {build.service: _target(build, services) for build in sorted(builds, key=lambda one: one.service)}
    return json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets}, indent=2)


def _target(build: Build, services: Mapping[str, str]) -> dict[str, Any]:
    """One target; attributes that say nothing are left out, as Docker Compose leaves them out."""
    inline, options = build.dockerfile_inline, build.options
    named = build.dockerfile or "Dockerfile"
    target = {
        "context": build.context,
        "contexts": {name: _context(value, services) for name, value in build.contexts.items()},
        "dockerfile": "" if inline else os.path.join(build.context, named),
        "dockerfile-inline": inline or "",
        "args": {key: value for key, value in build.args.items() if value is not None},
        "labels": dict(sorted(build.labels.items())),
        "tags": [*build.tags, build.reference],
        "cache-from": list(build.cache_from),
        "cache-to": list(build.cache_to),
        "target": build.target or "",
        "secret": [_secret(name, secret) for name, secret in build.secrets.items()],
        "ssh": [f"{name}={path}" for name, path in build.ssh.items()],
        "platforms": list(build.platforms),
        "pull": build.pull,
        "no-cache": build.no_cache,
        "no-cache-filter": list(build.no_cache_filter),
        "network": options.network if options and options.network != "default" else "",
        "shm-size": str(options.shm_size_bytes) if options and options.shm_size_bytes else "",
        "ulimits": [_ulimit(limit) for limit in options.ulimits] if options else [],
        "entitlements": list(build.entitlements),
        "extra-hosts": dict(host.split(":", 1) for host in options.extra_hosts) if options else {},
        "output": ["type=docker"],
    }
    return {key: value for key, value in target.items() if value}


def _context(value: str, services: Mapping[str, str]) -> str:
    """A named context; the image of another service here is that service's target."""
    image = value.removeprefix("built-image://")
    return f"target:{services[image]}" if image != value and image in services else value


def _secret(name: str, secret: BuildSecret) -> str:
    return f"id={name},type=file,src={secret.file}" if secret.file else f"id={name},type=env"


def _ulimit(limit: Ulimit) -> str:
    return f"{limit.name}={limit.soft}" + (f":{limit.hard}" if limit.hard != limit.soft else "")
