"""Checks that need the whole project: references to things that are not there, attributes that contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from compose.errors import MANY, ComposeError, Warning, dotted
from compose.model.units import parse_bytes
from compose.spec.document import Map, Seq, Texts, find_place, format_scalar
from compose.spec.validate import closest

Path = tuple[str | int, ...]

_RESOURCES = (("networks", "network"), ("models", "model"))
_PAIRS: tuple[tuple[str, tuple[str, ...], Callable[[str], Any]], ...] = (
    ("scale", ("deploy", "replicas"), float),
    ("cpus", ("deploy", "resources", "limits", "cpus"), float),
    ("mem_limit", ("deploy", "resources", "limits", "memory"), parse_bytes),
    ("mem_reservation", ("deploy", "resources", "reservations", "memory"), parse_bytes),
    ("pids_limit", ("deploy", "resources", "limits", "pids"), float),
)


class Consistency:
    """Checks the enabled services of a project against each other and against its resources."""

    def __init__(self, tree: Map, enabled: Iterable[str], texts: Texts) -> None:
        self._tree = tree
        self._services: Map = tree.get("services") or Map()
        self._enabled = sorted(enabled)
        self._is_enabled = frozenset(self._enabled)
        self._texts = texts
        self.errors: list[ComposeError] = []
        self.warnings: list[Warning] = []

    def check(self) -> list[ComposeError]:
        """All contradictions found."""
        for name in self._enabled:
            service = self._services[name]
            self._check_source(name, service)
            self._check_references(name, service)
            self._check_dependencies(name, service)
            self._check_exclusions(name, service)
            self._check_pairs(name, service)
            self._check_mounts(name, service)
        self._check_container_names()
        self._check_published_ports()
        self._check_counts()
        if not self.errors:
            self._check_cycles()
        return self.errors

    def _check_published_ports(self) -> None:
        """Warn of a port of the host that is asked for twice, as an override does that means to replace a mapping."""
        owners: dict[tuple[str, ...], Path] = {}
        for name in self._enabled:
            for number, port in enumerate(self._services[name].get("ports") or ()):
                published = port.get("published") if isinstance(port, Map) else None
                if not published or published == "0" or "-" in published:
                    continue  # the engine chooses a free one
                path: Path = ("services", name, "ports", number)
                first = owners.setdefault((port.get("host_ip") or "", published, port["protocol"]), path)
                if first is not path:
                    message = f"{dotted(path)} publishes port {published} of the host, as {dotted(first)} does"
                    message += f" at {find_place(self._tree, first)}; `ports: !override` replaces a list"
                    self.warnings.append(Warning(find_place(self._tree, path), message))

    def _add(
        self,
        code: str,
        message: str,
        path: Path,
        hint: str | None = None,
        suggestion: str | None = None,
        word: str = "",
    ) -> None:
        at = find_place(self._tree, path)
        line = self._texts.line(at)
        width = len(word) if word and line and at and line.startswith(word, at.column - 1) else 1
        self.errors.append(
            ComposeError(
                code,
                message,
                at=at,
                path=dotted(path),
                line_text=line,
                width=width,
                suggestion=suggestion,
                hint=hint,
            )
        )

    def _closest(self, word: str, candidates: Any) -> str | None:
        return closest(word, candidates) if len(self.errors) < MANY else None

    def _check_source(self, name: str, service: Map) -> None:
        if not service.get("image") and service.get("build") is None and service.get("provider") is None:
            message = f'service "{name}" has neither an image nor a build context specified'
            self._add("E014", message, ("services", name), "add image: or build:", word=name)

    def _undefined(self, name: str, path: Path, kind: str, reference: Any, known: Any) -> None:
        suggestion = self._closest(str(reference), known)
        hint = f"declare it at the top level, under {kind.split()[-1]}s:"
        message = f'service "{name}" refers to undefined {kind} {reference}'
        self._add("E040", message, path, hint, suggestion, str(reference))

    def _check_references(self, name: str, service: Map) -> None:
        for section, kind in _RESOURCES:
            known = self._tree.get(section) or ()
            for reference in service.get(section) or ():
                if reference not in known:
                    self._undefined(name, ("services", name, section, reference), kind, reference, known)
        for section, kind in (("secrets", "secret"), ("configs", "config")):
            self._check_files(name, service.get(section), ("services", name, section), section, kind)
        build = service.get("build")
        if isinstance(build, Map):
            path: Path = ("services", name, "build", "secrets")
            self._check_files(name, build.get("secrets"), path, "secrets", "build secret")
            self._check_contexts(name, build)
        known = self._tree.get("volumes") or ()
        for index, mount in enumerate(service.get("volumes") or ()):
            source = mount.get("source") if isinstance(mount, Map) and mount.get("type") == "volume" else None
            if source and "$" not in source and source not in known:  # a template's variable may name any
                self._undefined(name, ("services", name, "volumes", index), "volume", source, known)

    def _check_files(self, name: str, references: Any, path: Path, section: str, kind: str) -> None:
        known = self._tree.get(section) or ()
        for index, reference in enumerate(references or ()):
            if reference.get("source") not in known:
                self._undefined(name, (*path, index), kind, reference.get("source"), known)

    def _check_contexts(self, name: str, build: Map) -> None:
        contexts = build.get("additional_contexts") or Map()
        for key, value in contexts.items():
            target = str(value).removeprefix("service:")
            if target != str(value) and target not in self._services:
                message = f'service "{name}" declares unknown service "{target}" as additional contexts {key}'
                path: Path = ("services", name, "build", "additional_contexts", key)
                self._add("E040", message, path, suggestion=self._closest(target, self._services))
            elif target != str(value) and self._services[target].get("build") is None:
                message = f'service "{name}" declares non-buildable service "{target}" as additional contexts {key}'
                path = ("services", name, "build", "additional_contexts", key)
                self._add("E040", message, path, f"give {target} a build section")

    def _check_dependencies(self, name: str, service: Map) -> None:
        for reference, dependency in (service.get("depends_on") or Map()).items():
            if reference in self._is_enabled:
                continue
            path: Path = ("services", name, "depends_on", reference)
            message = f'service "{name}" depends on undefined service "{reference}"'
            if reference not in self._services:
                suggestion = self._closest(reference, self._services)
                self._add("E040", message, path, suggestion=suggestion, word=reference)
            elif dependency.get("required", True) is not False:
                profiles = ", ".join(self._services[reference].get("profiles") or ())
                hint = f"it is disabled: enable it with --profile {profiles}" if profiles else "it is not selected"
                self._add("E040", message, path, f"{hint}, or set required: false", word=reference)

    def _check_exclusions(self, name: str, service: Map) -> None:
        path: Path = ("services", name)
        if service.get("network_mode") and service.get("networks"):
            message = f"service {name} declares mutually exclusive `network_mode` and `networks`"
            self._add("E041", message, (*path, "network_mode"), "remove one of the two")
        build = service.get("build")
        if isinstance(build, Map):
            if build.get("dockerfile") and build.get("dockerfile_inline"):
                message = f'service "{name}" declares mutually exclusive dockerfile and dockerfile_inline'
                self._add("E041", message, (*path, "build", "dockerfile_inline"), "remove one of the two")
            self._check_platform(name, service, build)
        for index, trigger in enumerate(_watch(service)):
            if trigger.get("action") not in ("rebuild", "restart") and not trigger.get("target"):
                message = f"services.{name}.develop.watch: target is required for non-rebuild actions"
                self._add("E014", message, (*path, "develop", "watch", index), "add target:")
        address = service.get("mac_address")
        networks = [n for n in (service.get("networks") or {}).values() if isinstance(n, Map)]
        primary = max(networks, key=lambda network: network.get("priority") or 0, default=None)
        if address and primary and primary.get("mac_address", address) != address:
            message = f'service "{name}" declares two different MAC addresses for its primary network'
            self._add("E041", message, (*path, "mac_address"), "remove one of the two")

    def _check_platform(self, name: str, service: Map, build: Map) -> None:
        platforms, platform = build.get("platforms"), service.get("platform")
        if platform and platforms and platform not in platforms:
            message = f'service "{name}": build.platforms does not contain the platform "{platform}"'
            self._add("E041", message, ("services", name, "platform"), f"add {platform} to build.platforms")

    def _check_pairs(self, name: str, service: Map) -> None:
        for key, other, read in _PAIRS:
            first, second = service.get(key), _dig(service, other)
            if first is None or not isinstance(_dig(service, other[:-1]), Map):
                continue
            try:
                wanted = read(format_scalar(first))
                differ = wanted != (
                    read(format_scalar(second)) if second is not None else wanted if key == "scale" else 0
                )
            except ValueError:
                continue  # the model says what is wrong with it
            if differ and (wanted or key == "scale"):
                message = f"services.{name}: can't set distinct values on '{key}' and '{'.'.join(other)}'"
                self._add("E041", message, ("services", name, key), "remove one of the two")

    def _check_mounts(self, name: str, service: Map) -> None:
        taken = {}
        for index, item in enumerate(service.get("tmpfs") or ()):
            taken[str(item).split(":")[0]] = index
        for index, mount in enumerate(service.get("volumes") or ()):
            if mount.get("target") in taken:
                at = f"services.{name}.tmpfs[{taken[mount['target']]}]"
                message = f"services.{name}.volumes[{index}]: target {mount['target']} already mounted as {at}"
                self._add("E041", message, ("services", name, "volumes", index), "remove one of the two")

    def _check_container_names(self) -> None:
        owners: dict[str, str] = {}
        for name in self._enabled:
            service = self._services[name]
            container = service.get("container_name")
            if not container:
                continue
            path: Path = ("services", name, "container_name")
            replicas = service.get("scale")
            replicas = _dig(service, ("deploy", "replicas")) if replicas is None else replicas
            if isinstance(replicas, int) and replicas > 1:
                message = f'service "{name}" cannot have {replicas} replicas: its container_name must be unique'
                self._add("E041", message, path, "remove container_name")
            if container in owners:
                message = f'services "{owners[container]}" and "{name}" have the same container_name "{container}"'
                self._add("E041", message, path, "container names are unique on the host")
            owners[container] = name

    def _check_counts(self) -> None:
        for name, service in self._services.items():
            for path in (("scale",), ("deploy", "replicas")):
                count = _dig(service, path)
                if isinstance(count, int) and count < 0:
                    message = f"services.{name}.{'.'.join(path)}: must be greater than or equal to 0"
                    self._add("E013", message, ("services", name, *path))

    def check_resources(self) -> list[ComposeError]:
        """What contradicts itself in volumes, secrets and configs, whoever uses them: wrong even where nothing is compared."""
        for name, secret in (self._tree.get("secrets") or Map()).items():
            self._check_file_object("secrets", name, secret, ("file", "environment"))
        for name, config in (self._tree.get("configs") or Map()).items():
            self._check_file_object("configs", name, config, ("file", "environment", "content"))
        for name, volume in (self._tree.get("volumes") or Map()).items():
            self._check_volume(name, volume)
        return self.errors

    def _check_file_object(self, section: str, name: str, node: Any, sources: tuple[str, ...]) -> None:
        resource = node if isinstance(node, Map) else Map()
        given = [key for key in sources if resource.get(key) is not None]
        path: Path = (section, name)
        if len(given) > 1:
            message = f"{section}.{name}: {'|'.join(sources)} attributes are mutually exclusive"
            self._add("E041", message, (*path, given[1]), "keep one of them")
        elif section == "secrets" and given == ["environment"] and not resource["environment"]:
            self._add("E014", f"{section}.{name}: the name of the variable is empty", (*path, "environment"))
        elif not given and not resource.get("external"):
            message = f"{section}.{name}: one of {'|'.join(sources)} must be set"
            self._add("E014", message, path, "or set external: true", word=name)

    def _check_volume(self, name: str, node: Any) -> None:
        volume = node if isinstance(node, Map) else Map()
        if not volume.get("external"):
            return
        for key in ("driver", "driver_opts", "labels"):
            if key in volume:
                message = f'volumes.{name}: conflicting parameters "external" and "{key}" specified'
                self._add(
                    "E041", message, ("volumes", name, key), "an external volume exists already; only name: applies"
                )

    def _check_cycles(self) -> None:
        done: set[str] = set()
        for start in self._enabled:
            chain = _cycle(start, self._services, self._is_enabled, done)
            if chain:
                message = f"dependency cycle detected: {' -> '.join(_shortened(chain))}"
                self._add(
                    "E042",
                    message,
                    ("services", chain[-2], "depends_on", chain[-1]),
                    "remove one of these dependencies",
                )
                return


def _cycle(start: str, services: Map, enabled: frozenset[str], done: set[str]) -> list[str]:
    """The enabled services of a cycle reachable from `start`, first one repeated at the end; those without are added to `done`."""
    chain: dict[str, None] = {}
    stack: list[Iterator[str]] = [iter([start])]
    while stack:
        name = next(stack[-1], None)
        if name is None:
            stack.pop()
            if chain:
                done.add(chain.popitem()[0])
        elif name in chain:
            names = list(chain)
            return [*names[names.index(name) :], name]
        elif name not in done and name in enabled:
            chain[name] = None
            stack.append(iter(services[name].get("depends_on") or ()))
    return []


def _shortened(chain: list[str]) -> list[str]:
    """A chain that a person can read."""
    return chain if len(chain) <= 20 else [*chain[:10], f"({len(chain) - 20} more)", *chain[-10:]]


def _dig(node: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        node = node.get(step) if isinstance(node, Map) else None
    return node


def _watch(service: Map) -> Any:
    watch = _dig(service, ("develop", "watch"))
    return watch if isinstance(watch, Seq) else ()
