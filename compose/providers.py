"""Services that an external program stands in for (`provider`): a tool that makes a database in a cloud, a tunnel, a model.

The program is called as Docker Compose calls it, `<type> compose --project-name=P up|down --option=value… SERVICE`, and answers
with lines of JSON: `{"type": "info|error|debug|setenv|rawsetenv", "message": …}`. What it sets is for the services that depend on
it. This is the pure part; `provider_calls` calls them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from compose.plan import Provider

if TYPE_CHECKING:
    from compose.desired import Desired
    from compose.model.project import Project


def providers_of(project: Project) -> tuple[Provider, ...]:
    """The providers of a project's services, each with the services that depend on it."""
    return tuple(
        Provider(
            service=name,
            type=service.provider.type,
            options=service.provider.options,
            directory=project.working_dir,
            environment=project.environment,
            needed_by=tuple(other.name for other in project.services.values() if name in other.depends_on),
            after=tuple(service.depends_on),
            place=str(project.place(("services", name, "provider")) or "") or None,
        )
        for name, service in project.services.items()
        if service.provider is not None
    )


def selected(providers: Iterable[Provider], named: Sequence[str], services: Collection[str]) -> list[Provider]:
    """Those that a command is about: all of them, or those named or needed by the services that it is about."""
    return [p for p in providers if not named or p.service in named or set(p.needed_by) & set(services)]


def provided(desired: Desired, answers: Mapping[str, Mapping[str, str]]) -> Desired:
    """The project with what its providers have set, and none left to call."""
    services = dict(desired.services)
    for provider in desired.providers:
        for name in provider.needed_by:
            if name in services:
                services[name] = services[name].with_environment(answers.get(provider.service, {}))
    return replace(desired, services=services, providers=())


def assumed(desired: Desired, known: Collection[Provider]) -> Desired:
    """The project as it is if providers that were called before say the same again, for a plan that calls none."""
    before = {provider.definition: provider for provider in known}
    answers = {p.service: before[p.definition].answers for p in desired.providers if p.definition in before}
    left = tuple(provider for provider in desired.providers if provider.definition not in before)
    return replace(provided(desired, answers), providers=left)
