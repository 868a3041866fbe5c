"""Lays one canonical tree over another: several files, several documents, `extends` and `include`.

Mappings merge, lists append, scalars are replaced, null changes nothing. The exceptions are a table. `!reset` deletes
what came before, `!override` replaces it whole.
"""

# The functions of a table share one signature, whether or not they use all of it.
# ruff: noqa: ARG001

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compose.errors import ComposeError, dotted
from compose.spec.canonical import name_key, port_key, target_key, unique
from compose.spec.document import RESET, Map, RawMap, Seq, Texts, format_scalar

Path = tuple[str, ...]
Merger = Callable[[Any, Any, Path, Texts], Any]


def merge(base: Any, over: Any, texts: Texts, path: Path = ()) -> Any:
    """`over` laid over `base`; neither is changed."""
    if over is None:
        return base
    if base is None or base is RESET:
        return over
    special = _special(path)
    if special:
        return special(base, over, path, texts)
    if isinstance(base, Map) and isinstance(over, Map):
        return _merge_maps(base, over, texts, path)
    if isinstance(base, Seq) and isinstance(over, Seq):
        return _append(base, over, path, texts)
    if isinstance(base, (Map, Seq)):
        at = getattr(over, "place", None)
        message = f"cannot override {dotted(path)}: {_kind(base)} before, {_kind(over)} here"
        raise ComposeError("E050", message, at=at, path=dotted(path), line_text=texts.line(at))
    return over


def _merge_maps(base: Map, over: Map, texts: Texts, path: Path) -> Map:
    result = base.clone()
    for key, value in over.items():
        if value is RESET or key not in result or key in over.overrides:
            result.take(key, over)  # `!reset` stays until `settle`, for it deletes from earlier files, too
        elif value is not None:
            result.take(key, over, merge(result[key], value, texts, (*path, key)))
        elif _special((*path, key)) is _replace:
            result.take(key, over)  # `command: null` goes back to the image's own
    return result


def _append(base: Seq, over: Seq, path: Path, texts: Texts) -> Seq:
    return Seq([*base, *over], base.place, [*base.at, *over.at])


def _replace(base: Any, over: Any, path: Path, texts: Texts) -> Any:
    return over


def _unique_by(key: Callable[[Any], Any]) -> Merger:
    def merger(base: Any, over: Any, path: Path, texts: Texts) -> Any:
        return unique(_append(base, over, path, texts), key)

    return merger


def _merge_values(base: Any, over: Any, path: Path, texts: Texts) -> Any:
    """Mappings of text, in which null is a value: `environment: {A: }` takes A from the environment."""
    if isinstance(base, (Seq, RawMap)) or isinstance(over, (Seq, RawMap)):  # with --no-interpolate
        return unique(_append(_as_list(base), _as_list(over), path, texts), name_key)
    result = base.clone()
    for key in over:
        result.take(key, over)
    return result


def _as_list(values: Any) -> Seq:
    if isinstance(values, Seq):
        return values
    keys = sorted(values)
    items = [key if values[key] is None else f"{key}={format_scalar(values[key])}" for key in keys]
    return Seq(items, values.place, [values.key_place(key) for key in keys])


def _merge_hosts(base: Any, over: Any, path: Path, texts: Texts) -> Any:
    if isinstance(base, Seq) or isinstance(over, Seq):
        return unique(_append(_as_list(base), _as_list(over), path, texts), str)
    result = base.clone()
    for host, addresses in over.items():
        known = result.get(host) or Seq(place=over.place)
        result.take(host, over, unique(_append(known, addresses, path, texts), str))
    return result


def _merge_logging(base: Map, over: Map, path: Path, texts: Texts) -> Map:
    """Options belong to their driver: they merge only when it stays the same."""
    drivers = base.get("driver"), over.get("driver")
    if drivers[0] == drivers[1] or None in drivers:
        return _merge_maps(base, over, texts, path)
    return over


def _merge_pools(base: Seq, over: Seq, path: Path, texts: Texts) -> Seq:
    """Address pools replace those before; one of the same subnet keeps what it does not say.

    So does, as in compose-go (override/merge.go), one that has replaced an earlier pool already.
    """
    result: dict[Any, tuple[Map, Any]] = {}
    for before in base:
        for pool, at in over.items_at():
            subnet = pool.get("subnet")
            if subnet != before.get("subnet") and subnet not in result:
                result[subnet] = (pool, at)
                continue
            merged = _merge_maps(before, pool, texts, path)
            result[merged.get("subnet")] = (merged, at)
    return Seq([pool for pool, _ in result.values()], over.place, [at for _, at in result.values()])


def _secret_key(reference: Any) -> Any:
    return reference.get("target") or f"/run/secrets/{reference.get('source')}"


def _config_key(reference: Any) -> Any:
    return reference.get("target") or f"/{reference.get('source')}"


def _env_file_key(entry: Any) -> Any:
    return entry.get("path")


def _kind(node: Any) -> str:
    return "a mapping" if isinstance(node, Map) else "a list" if isinstance(node, Seq) else "a scalar"


_SERVICE: dict[str, Any] = {
    "annotations": _merge_values,
    "build": {
        "args": _merge_values,
        "labels": _merge_values,
        "additional_contexts": _merge_values,
        "ssh": _merge_values,
        "extra_hosts": _merge_hosts,
        "tags": _unique_by(name_key),
        "ulimits": {"*": _replace},
    },
    "cap_add": _unique_by(name_key),
    "cap_drop": _unique_by(name_key),
    "command": _replace,
    "configs": _unique_by(_config_key),
    "deploy": {"labels": _merge_values},
    "devices": _unique_by(target_key),
    "dns": _unique_by(name_key),
    "dns_opt": _unique_by(name_key),
    "dns_search": _unique_by(name_key),
    "entrypoint": _replace,
    "env_file": _unique_by(_env_file_key),
    "environment": _merge_values,
    "expose": _unique_by(str),
    "extra_hosts": _merge_hosts,
    "healthcheck": {"test": _replace},
    "labels": _merge_values,
    "links": _unique_by(name_key),
    "logging": _merge_logging,
    "networks": {"*": {"aliases": _unique_by(str), "link_local_ips": _unique_by(str)}},
    "ports": _unique_by(port_key),
    "profiles": _unique_by(name_key),
    "secrets": _unique_by(_secret_key),
    "storage_opt": _merge_values,
    "sysctls": _merge_values,
    "tmpfs": _unique_by(name_key),
    "ulimits": {"*": _replace},
    "volumes": _unique_by(target_key),
}
_RULES: dict[str, Any] = {
    "services": {"*": _SERVICE},
    "networks": {"*": {"labels": _merge_values, "ipam": {"config": _merge_pools}}},
    "volumes": {"*": {"labels": _merge_values}},
}


def _special(path: Path) -> Merger | None:
    rules: Any = _RULES
    for step in path:
        if not isinstance(rules, dict):
            return None
        rules = rules.get(step) or rules.get("*")
    return rules if callable(rules) else None


def settle(node: Any) -> Any:
    """A tree with nothing left to merge into: what was tagged `!reset` is gone."""
    if isinstance(node, Map):
        result = node.like()
        for key, value in node.items():
            if value is not RESET:
                result[key] = settle(value)
        result.overrides = frozenset()
        return result
    if isinstance(node, Seq):
        return Seq([settle(item) for item in node], node.place, node.at)
    return node
