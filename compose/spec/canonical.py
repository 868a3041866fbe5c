"""Short syntaxes to long ones: after this phase each attribute has one form, whichever way the file wrote it.

`environment: [A=1]` becomes a mapping, `ports: ["80:80"]` a list of mappings, `command: echo hi` a list of words.
The tree stays a tree of text; the models read numbers, sizes and durations out of it later.
"""

# The functions of a table share one signature, whether or not they use all of it.
# ruff: noqa: ARG001

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from compose.errors import ComposeError, Place, Warning, dotted
from compose.spec import shellwords
from compose.spec.document import RESET, Map, RawMap, Seq, Texts, format_scalar
from compose.spec.grammar import DEVICE_FIELDS
from compose.spec.limits import MAX_NODES, Budget
from compose.spec.short import Unreadable, clean_path, ip_address, parse_port, parse_volume

Path = tuple[str | int, ...]
Transform = Callable[["Canonicalizer", Any, Path, "Place | None"], Any]


def canonicalize(
    tree: Map, texts: Texts, *, is_template: bool = False, budget: Budget | None = None
) -> tuple[Map, list[ComposeError], list[Warning]]:
    """A copy of a file's tree in canonical form, with what could not be read.

    A template's variables are not replaced yet, so what cannot be read stays as it is.
    """
    canonicalizer = Canonicalizer(texts, tree.get("volumes") or {}, is_template=is_template, budget=budget)
    return canonicalizer.apply(tree, _PROJECT), canonicalizer.errors, canonicalizer.warnings


def with_plain_ports(tree: Map, texts: Texts) -> Map:
    """A merged template whose lists of ports are long where no variable stands in them."""
    plain = Canonicalizer(texts, is_template=True)
    return plain.apply(tree, {"services": {"*": {"ports": _ports_of_template}}})  # type: ignore[no-any-return]


class Canonicalizer:
    """Applies the table of transforms to a tree and collects errors."""

    def __init__(
        self, texts: Texts, volumes: Any = (), *, is_template: bool = False, budget: Budget | None = None
    ) -> None:
        self._texts = texts
        self.is_template = is_template
        self.volumes = volumes
        self.budget = budget or Budget()
        self.errors: list[ComposeError] = []
        self.warnings: list[Warning] = []

    def apply(self, node: Any, rules: Any, path: Path = (), place: Place | None = None) -> Any:
        """The node with the rules applied: a transform, a mapping of rules by key (`*` any key), or None."""
        if rules is None or node is None or node is RESET:
            return node
        if callable(rules):
            if self.is_template and self._keeps(rules, node):
                return node
            try:
                return rules(self, node, path, place)
            except Unreadable as error:
                if self.is_template:
                    return node
                self.fail(str(error), path, error.at or place, node, error.hint)
                return RESET  # so that the rest can be understood
        if isinstance(node, Map):
            copy = node.like()
            for key, value in node.items():
                rule = rules.get(key) or rules.get("*")
                copy[key] = self.apply(value, rule, (*path, key), node.value_place(key)) if rule else value
            return copy
        return node

    @staticmethod
    def _keeps(rule: Transform, node: Any) -> bool:
        """Whether a template prints a value as it was written. Of a mount, the parts are known whatever its variables are."""
        return rule in _KEPT_IN_TEMPLATES or (rule is not _mount and isinstance(node, str) and "$" in node)

    def each(self, node: Any, rule: Transform, path: Path) -> Any:
        """A sequence with each item transformed; an item may become several."""
        if not isinstance(node, Seq):
            return node
        result = Seq(place=node.place)
        for index, (item, place) in enumerate(node.items_at()):
            value = self.apply(item, rule, (*path, index), place)
            for part in value if isinstance(value, _Several) else () if value is RESET else (value,):
                result.add(part, place)
        return result

    def fail(self, message: str, path: Path, place: Place | None, node: Any, hint: str | None = None) -> None:
        """Note that a node cannot be read."""
        width = len(format_scalar(node)) if not isinstance(node, (Map, Seq)) else 1
        text = f"{dotted(path)}: {message}"
        line = self._texts.line(place)
        error = ComposeError("E016", text, at=place, path=dotted(path), line_text=line, width=width or 1, hint=hint)
        self.errors.append(error)


class _Several(list[Any]):
    """Items that one short item stands for."""


def _strings(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    """A string or a list of them, as a list."""
    return node if isinstance(node, Seq) else Seq([node], place)


def _texts(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    """A list of scalars as a list of strings."""
    if not isinstance(node, Seq):
        return Seq([format_scalar(node)], place)
    return Seq([format_scalar(item) for item in node], node.place, node.at)


def _groups(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    for item in node:
        if isinstance(item, float):
            raise Unreadable(f"{format_scalar(item)} is not a group")
    return _texts(context, node, path, place)


def _text(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return format_scalar(node) if not isinstance(node, (Map, Seq)) else node


def _non_empty(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    listed = _strings(context, node, path, place)
    kept = [(item, at) for item, at in listed.items_at() if item not in (None, "")]
    return unique(Seq([item for item, _ in kept], listed.place, [at for _, at in kept]), name_key)


def _key_values(empty: str | None) -> Transform:
    """`[A=1, B]` or `{A: 1, B: }` as a mapping to strings; a key without a value gets `empty`."""

    def transform(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
        if context.is_template:
            return _raw(node)
        if isinstance(node, Seq):
            result = Map(place=node.place)
            for item, at in node.items_at():
                key, separator, value = str(item).partition("=")
                if empty is None and key != key.rstrip():
                    right = key.rstrip() + separator + value
                    raise Unreadable(f'variable "{key}" is declared with a trailing space', f'write "{right}"', at)
                result.pop(key, None)
                result.put(key, value if separator else empty, (at, at))
            return result
        if not isinstance(node, Map):
            return node
        result = node.like()
        for key, value in node.items():
            result[key] = empty if value is None else RESET if value is RESET else format_scalar(value)
        return result

    return transform


def _raw(node: Any) -> Any:
    if not isinstance(node, Map):
        return unique(node, name_key)
    copy = RawMap(node, node.place)
    copy.at, copy.overrides = node.at, node.overrides
    return copy


def _storage_options(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    for key, value in node.items():
        if isinstance(value, (bool, float)):
            raise Unreadable(f"{key} must be a string", f'quote it: "{format_scalar(value)}"')
    return _key_values("")(context, node, path, place)


def _contexts(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    for item in node if isinstance(node, Seq) else ():
        if "=" not in item:
            raise Unreadable(f'"{item}" has no value', "write NAME=PATH")
    for name, value in node.items() if isinstance(node, Map) else ():
        if not isinstance(value, str) and value is not RESET:
            given = format_scalar(value) or "nothing"
            raise Unreadable(f'the context "{name}" is a path or a URL, not {given}', "write NAME: PATH")
    return _key_values("")(context, node, path, place)


def _names(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    """`[a, b]` as `{a: , b: }`."""
    if not isinstance(node, Seq):
        return node
    result = Map(place=node.place)
    for item, at in node.items_at():
        result.put(str(item), None, (at, at))
    return result


def _service_networks(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    rule = {"*": {"driver_opts": _key_values(""), "aliases": _unique_texts, "link_local_ips": _unique_texts}}
    return context.apply(_names(context, node, path, place), rule, path, place)


def _command(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if not isinstance(node, str):
        return node
    try:
        words = shellwords.split(node)
    except ValueError as error:
        raise Unreadable(str(error), "close the quote, or write the command as a list") from None
    if len(words) > MAX_NODES:
        raise Unreadable(f"more than {MAX_NODES} words", "mount a long script as a file and run that")
    if any(character in node for character in "|;&<>") and len(" ".join(words)) + 2 < len(node):
        message = f"{dotted(path)}: what follows an unquoted ; | & < > is dropped; wrap the command in sh -c"
        context.warnings.append(Warning(place, message))
    return Seq(words, place)


def _health_test(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if isinstance(node, str):
        return Seq(["CMD-SHELL", node], place)
    if node and node[0] not in ("CMD", "CMD-SHELL", "NONE"):
        raise Unreadable(
            f'a list must start with "CMD", "CMD-SHELL" or "NONE", not "{node[0]}"',
            f'["CMD", "{node[0]}", ...] runs a program, "{node[0]} ..." a shell line',
        )
    return node


def _depends_on(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    result = Map(place=getattr(node, "place", place))
    if isinstance(node, Seq):
        for item, at in node.items_at():
            result.put(str(item), Map({"condition": "service_started", "required": True}, at), (at, at))
        return result
    for key, value in node.items():
        if isinstance(value, Map):
            dependency = value.clone()
            dependency.setdefault("required", True)
            result.take(key, node, dependency)
        else:
            result.take(key, node)
    result.overrides = node.overrides
    return result


def _env_file(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    result = Seq(place=getattr(node, "place", place))
    for item, at in _strings(context, node, path, place).items_at():
        entry = item.clone() if isinstance(item, Map) else Map({"path": item}, at)
        entry.setdefault("required", True)
        result.add(entry, at)
    return result


def _extra_hosts(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    result = Map(place=getattr(node, "place", place))

    def add(host: str, addresses: Iterable[Any], at: Place | None) -> None:
        if not host or ":" in host or "=" in host:
            raise Unreadable(f'"{host}" is not a host name', 'write "name=192.0.2.1"')
        known = result.setdefault(host, Seq(place=at))
        for address in map(format_scalar, addresses):
            bracketed = len(address) > 2 and address.startswith("[") and address.endswith("]")
            known.add(address[1:-1] if bracketed else address, at)
        result.at.setdefault(host, (at, at))

    if isinstance(node, Map):
        for host, value in node.items():
            add(host, value if isinstance(value, Seq) else [value], node.value_place(host))
        return result
    for index, (item, at) in enumerate(node.items_at()):
        host, found, addresses = item.partition("=" if "=" in item else ":")
        if not found:
            context.fail(f'no address for the host "{host}"', (*path, index), at, item, f'write "{host}=192.0.2.1"')
        else:
            add(host, addresses.split(","), at)
    return result


def _ports(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if context.is_template:
        return unique(node, port_key)
    return unique(context.each(node, _port, path), port_key)


def _ports_of_template(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    has_variable = any("$" in str(port) for port in node)
    return node if has_variable else unique(context.each(node, _port, path), port_key)


def _port(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if isinstance(node, float) or node is None or isinstance(node, bool):
        raise Unreadable(f"{format_scalar(node)} is not a port")
    if not isinstance(node, Map):
        several = _Several(Map(port, place) for port in parse_port(str(node), context.budget.ports_left))
        context.budget.ports_left -= len(several)
        if any(port["target"] == 0 for port in several):
            raise Unreadable(f'"{node}" has no target port')
        return several
    port = node.clone()
    port.setdefault("mode", "ingress")
    port.setdefault("protocol", "tcp")
    if "published" in port:
        if isinstance(port["published"], float):
            raise Unreadable(f"published: {format_scalar(port['published'])} is not a port")
        if not context.is_template:
            port["published"] = format_scalar(port["published"])
    if not port.get("target"):
        raise Unreadable("a port needs a target", "target: is the port in the container")
    if "host_ip" in port and not ip_address(port["host_ip"]):
        raise Unreadable("host_ip is empty", "leave it out to bind to all addresses")
    return port


def port_key(port: Any) -> Any:
    """What makes two published ports the same."""
    if not isinstance(port, Map):
        return repr(port)
    return (port.get("host_ip") or "0.0.0.0", port.get("published"), port.get("target"), port.get("protocol"))


def _mount(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if not isinstance(node, Map):
        mount = Map({key: _placed(value, place) for key, value in parse_volume(str(node)).items()}, place)
        if str(node)[1:2] == ":" and str(node)[:1] in context.volumes:
            message = (
                f'"{node}" is read as a Windows path, as Docker does; give the volume {str(node)[0]!r} a longer name'
            )
            context.warnings.append(Warning(place, f"{dotted(path)}: {message}"))
        return mount
    if not node.get("target"):
        raise Unreadable("a mount needs a target", "target: is the path in the container")
    if node.get("type") == "bind" and not node.get("source"):
        raise Unreadable("a mount of type bind needs a source", "source: is the path on the host")
    mount = node.clone()
    mount["target"] = clean_path(str(mount["target"]))
    if isinstance(mount.get("volume"), Map):
        mount["volume"] = context.apply(mount["volume"], {"labels": _key_values("")}, (*path, "volume"))
    return mount


def _placed(value: Any, place: Place | None) -> Any:
    return Map(value, place) if isinstance(value, dict) else value


def _volumes(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return unique(context.each(node, _mount, path), target_key)


def name_key(text: Any) -> Any:
    """What makes two texts the same: the name before `=`, where there is one."""
    return str(text).partition("=")[0]


def target_key(mount: Any) -> Any:
    """What makes two mounts or devices the same: where they are in the container."""
    return mount.get("target") if isinstance(mount, Map) else repr(mount)


def _device(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if isinstance(node, Map):
        if not node.get("target"):
            raise Unreadable("a device needs a target", "target: is the path in the container")
        return node
    parts = str(node).split(":")
    if len(parts) > 3:
        raise Unreadable(f'cannot read "{node}" as a device', "use source:, target: and permissions:")
    permissions = parts[2] if len(parts) == 3 else "rwm"
    target = parts[1] if len(parts) > 1 and parts[1] else parts[0]
    return Map({"source": parts[0], "target": target, "permissions": permissions}, place)


def _devices(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return unique(context.each(node, _device, path), target_key)


def _device_request(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if not isinstance(node, Map):
        return node
    if "count" in node and "device_ids" in node:
        raise Unreadable('"count" and "device_ids" exclude each other')
    request = node.like()  # what is unknown is ignored in gpus, and was an error elsewhere
    request.update({key: value for key, value in node.items() if key in DEVICE_FIELDS or key.startswith("x-")})
    if context.is_template:
        return request
    if request.get("count") == "all":
        request["count"] = -1
    elif isinstance(request.get("count"), str) and request["count"].lstrip("-").isdigit():
        request["count"] = int(request["count"])
    return context.apply(request, {"options": _key_values("")}, path)


def _device_requests(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return context.each(node, _device_request, path)


def _gpus(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if isinstance(node, str):
        return Seq([Map({"count": "all" if context.is_template else -1}, place)], place)
    return _device_requests(context, node, path, place)


def _file_reference(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return node if isinstance(node, Map) else Map({"source": str(node)}, place)


def _file_references(default_directory: str) -> Transform:
    def key(reference: Any) -> Any:
        return reference.get("target") or f"{default_directory}/{reference.get('source')}"

    def transform(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
        return unique(context.each(node, _file_reference, path), key)

    return transform


def _build_secrets(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return context.each(node, _file_reference, path)


def _expose(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    def port(_context: Canonicalizer, item: Any, _path: Path, _place: Place | None) -> Any:
        if isinstance(item, float):
            raise Unreadable(f"{format_scalar(item)} is not a port")
        return item if context.is_template else format_scalar(item)

    return unique(context.each(node, port, path), str)


def _unique_texts(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return unique(node if context.is_template else _texts(context, node, path, place), name_key)


def _hook(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return context.apply(node, _HOOK, path)


def _hooks(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return context.each(node, _hook, path)


def _watch(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return context.each(node, _trigger, path)


def _trigger(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    if isinstance(node, Map) and node.get("path") == "":
        raise Unreadable("path is empty")
    return context.apply(node, {"exec": _HOOK, "ignore": _strings, "include": _strings}, path)


def _build(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    build = node if isinstance(node, Map) else Map({"context": node}, place)
    return context.apply(build, _BUILD, path)


def _extends(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    return node if isinstance(node, Map) else Map({"service": node}, place)


def _external(context: Canonicalizer, node: Any, path: Path, place: Place | None) -> Any:
    """`external: {name: x}`, which is deprecated, as `external: true` and `name: x`."""
    if not isinstance(node, Map):
        return node
    resource = node.clone()
    external = resource.get("external")
    if isinstance(external, Map):
        resource["external"] = True
        if "name" in external:
            if resource.get("name", external["name"]) != external["name"]:
                raise Unreadable("name and external.name differ", "use name only")
            resource.take("name", external)
            message = f"{dotted(path)}: external.name is deprecated. Please set name and external: true"
            context.warnings.append(Warning(node.value_place("external"), message))
    return context.apply(resource, _RESOURCE, path)


def unique(sequence: Any, key: Callable[[Any], Any]) -> Any:
    """The sequence without earlier items of equal key; the later one takes the place of the earlier."""
    if not isinstance(sequence, Seq):
        return sequence
    positions: dict[Any, int] = {}
    result = Seq(place=sequence.place)
    for item, at in sequence.items_at():
        name = key(item)
        if name in positions:
            result[positions[name]], result.at[positions[name]] = item, at
        else:
            positions[name] = len(result)
            result.add(item, at)
    return result


_HOOK: dict[str, Any] = {"command": _command, "environment": _key_values(None)}

_BUILD: dict[str, Any] = {
    "args": _key_values(None),
    "labels": _key_values(""),
    "ssh": _key_values(""),
    "additional_contexts": _contexts,
    "extra_hosts": _extra_hosts,
    "secrets": _build_secrets,
    "tags": _unique_texts,
    "no_cache_filter": _strings,
    "provenance": _text,
    "sbom": _text,
}

_RESOURCE: dict[str, Any] = {
    "labels": _key_values(""),
    "driver_opts": _key_values(""),
    "ipam": {"options": _key_values("")},
}

_SERVICE: dict[str, Any] = {
    "annotations": _key_values(""),
    "build": _build,
    "cap_add": _unique_texts,
    "cap_drop": _unique_texts,
    "command": _command,
    "configs": _file_references(""),
    "depends_on": _depends_on,
    "deploy": {
        "labels": _key_values(""),
        "resources": {"reservations": {"devices": _device_requests}},
    },
    "develop": {"watch": _watch},
    "devices": _devices,
    "dns": _non_empty,
    "dns_opt": _unique_texts,
    "dns_search": _unique_texts,
    "entrypoint": _command,
    "env_file": _env_file,
    "environment": _key_values(None),
    "expose": _expose,
    "extends": _extends,
    "extra_hosts": _extra_hosts,
    "gpus": _gpus,
    "group_add": _groups,
    "healthcheck": {"test": _health_test},
    "label_file": _strings,
    "labels": _key_values(""),
    "links": _unique_texts,
    "logging": {"options": _key_values("")},
    "models": _names,
    "networks": _service_networks,
    "ports": _ports,
    "post_start": _hooks,
    "pre_start": _hooks,
    "pre_stop": _hooks,
    "profiles": _unique_texts,
    "secrets": _file_references("/run/secrets"),
    "storage_opt": _storage_options,
    "sysctls": _key_values(""),
    "tmpfs": _unique_texts,
    "volumes": _volumes,
}

_PROJECT: dict[str, Any] = {
    "services": {"*": _SERVICE},
    "networks": {"*": _external},
    "volumes": {"*": _external},
    "secrets": {"*": _external},
    "configs": {"*": _external},
}

_KEPT_IN_TEMPLATES = frozenset((_command, _health_test, _extra_hosts, _text, _groups, _storage_options))
"""What `config --no-interpolate` prints as it was written, as Docker does."""
