"""What services' `build` sections ask for, as the plan's `Build`s and their order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from compose import labels
from compose.plan import Build, BuildImage, BuildSecret, PlanBuilder
from compose.version import VERSION
from engine.errors import Unsupported
from engine.types import StepOptions, Ulimit

if TYPE_CHECKING:
    from compose.desired import DesiredService
    from compose.model.build import Build as BuildSection
    from compose.model.project import Project
    from compose.model.service import Service
    from engine.images.build.events import BuildEvent

NOT_ACTED_ON = ("isolation", "provenance", "sbom")
_SERVICE_SCHEME = "service:"
_BUILT_SCHEME = "built-image://"
_NO = ("", "false", "0", "disabled")

Warn = Callable[..., None]


def build_of(project: Project, service: Service, warn: Warn) -> Build | None:
    """Translate a service's build section; None where it has none. Raise Unsupported for a secret without a value here."""
    section = service.build
    if section is None:
        return None
    for attribute in NOT_ACTED_ON:
        if (getattr(section, attribute) or "") not in _NO:
            warn(f"build.{attribute} is not acted on", "services", service.name, "build", attribute)
    own = {labels.PROJECT: project.name, labels.SERVICE: service.name, labels.VERSION: VERSION}
    environment = project.environment
    contexts, needs = _contexts(project, section)
    return Build(
        service=service.name,
        reference=service.image_name(project.name, project.separator),
        context=section.context or project.working_dir,
        dockerfile=section.dockerfile,
        dockerfile_inline=section.dockerfile_inline,
        args={key: environment.get(key) if value is None else value for key, value in section.args.items()},
        labels={**section.labels, **own},
        tags=section.tags,
        target=section.target,
        no_cache=section.no_cache,
        no_cache_filter=section.no_cache_filter,
        pull=section.pull,
        platforms=tuple(dict.fromkeys([*section.platforms, *([service.platform] if service.platform else [])])),
        contexts=contexts,
        needs=needs,
        secrets=dict(_secrets(project, service, section, warn)),
        ssh=section.ssh,
        entitlements=_entitlements(section),
        options=_options(project, section),
        cache_from=section.cache_from,
        cache_to=section.cache_to,
        place=str(project.place(("services", service.name, "build", "context")) or "") or None,
    )


def told(event: BuildEvent) -> tuple[str, dict[str, Any]]:
    """A builder's news as the state and the data of an event."""
    text = f"{event.place}: {event.text}" if event.kind == "warning" and event.place else event.text
    data: dict[str, Any] = {"stage": event.stage, "step": event.step, "steps": event.steps, "text": text}
    data["seconds"] = event.seconds
    if event.output:
        data["output"] = event.output.decode(errors="replace")
    return f"step {event.kind}", data


def _contexts(project: Project, section: BuildSection) -> tuple[dict[str, str], tuple[str, ...]]:
    """The named contexts, and the services whose images are among them."""
    contexts: dict[str, str] = {}
    needs: list[str] = []
    for name, value in section.additional_contexts.items():
        if value.startswith(_SERVICE_SCHEME):
            other = value.removeprefix(_SERVICE_SCHEME)
            needs.append(other)
            value = _BUILT_SCHEME + project.services[other].image_name(project.name, project.separator)
        contexts[name] = value
    return contexts, tuple(dict.fromkeys(needs))


def _secrets(
    project: Project, service: Service, section: BuildSection, warn: Warn
) -> Iterator[tuple[str, BuildSecret]]:
    for reference in section.secrets:
        path = ("services", service.name, "build", "secrets")
        source = project.secrets[reference.source or ""]
        if source.file is None and source.content is None:
            place = project.place(path)
            raise Unsupported(
                f'build secret "{reference.source}" has no value here',
                hint="give it a file or an environment variable at the top level",
                place=str(place) if place else None,
            )
        if reference.uid or reference.gid or reference.mode is not None:
            warn("uid, gid and mode of a build secret are set by RUN --mount=type=secret", *path)
        yield reference.target or reference.source or "", BuildSecret(source.file, source.content)


def _entitlements(section: BuildSection) -> tuple[str, ...]:
    privileged = ("security.insecure",) if section.privileged else ()
    host = ("network.host",) if section.network == "host" else ()
    return tuple(dict.fromkeys([*section.entitlements, *privileged, *host]))


def _options(project: Project, section: BuildSection) -> StepOptions:
    network = section.network or "default"
    known = project.networks.get(network)
    return StepOptions(
        network=known.name or network if known is not None and network != "default" else network,
        extra_hosts=tuple(f"{name}:{address}" for name, found in section.extra_hosts.items() for address in found),
        shm_size_bytes=section.shm_size or None,
        ulimits=_ulimits({name: limit.limits for name, limit in section.ulimits.items()}),
    )


def _ulimits(limits: Mapping[str, tuple[int, int]]) -> tuple[Ulimit, ...]:
    return tuple(Ulimit(name, soft, hard) for name, (soft, hard) in limits.items())


def add_builds(
    builder: PlanBuilder,
    services: Mapping[str, DesiredService],
    causes: Mapping[str, str],
    present: Collection[str] = (),
) -> dict[str, int]:
    """Add the builds of services, after those of the images they need; return the operations by image.

    `causes` says why, by service. What they need is built along unless its image is among `present`. Raise InvalidInput where
    services need each other's images.
    """
    from compose.graph import order

    needs = {name: service.build.needs for name, service in services.items() if service.build}
    wanted = dict(causes)
    pending = list(causes)
    while pending:
        name = pending.pop()
        for needed in needs[name]:
            if needed in needs and needed not in wanted and services[needed].image not in present:
                wanted[needed] = f"needed by {name}"
                pending.append(needed)
    places = {name: service.place for name, service in services.items() if service.place}
    added: dict[str, int] = {}
    for name in order(needs, places):
        service = services[name]
        if name in wanted and service.build and service.image not in added:
            after = [added.get(services[needed].image) for needed in needs[name]]
            added[service.image] = builder.add(f"image:{name}", BuildImage(service.build), wanted[name], after=after)
    return added
