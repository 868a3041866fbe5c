"""What the file leaves unsaid: the default network, names, implicit dependencies, the Dockerfile, values of variables."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from compose.errors import ComposeError, Warning
from compose.model.units import to_bool
from compose.spec import dotenv, source
from compose.spec.document import Map, Seq, format_scalar
from compose.spec.limits import Budget

_NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


def add_contexts(tree: Map) -> Map:
    """A project whose builds have a context: the directory of the project, or of the included one."""

    def add(service: Map) -> Map:
        build = service.get("build")
        if not isinstance(build, Map) or "context" in build:
            return service
        result = service.clone()
        result["build"] = build.clone()
        result["build"]["context"] = "."
        return result

    return _each_service(tree, add)


def add_values(tree: Map) -> Map:
    """A project with the values of attributes that are not set; these are no part of normalization."""
    return _each_service(tree, _values)


def list_provider_options(tree: Map) -> Map:
    """A project whose providers' options are lists of text, which a template leaves as they are written."""
    return _each_service(tree, lambda service: _with(service, "provider", _provider))


def agree_on_replicas(service: Map) -> Map:
    """A service whose `deploy`, where there is one without `replicas`, says what its `scale` says."""
    scale = service.get("scale")
    if scale is None:
        return service
    return _with(service, "deploy", lambda deploy: deploy if "replicas" in deploy else _put(deploy, "replicas", scale))


def _with(service: Map, key: str, change: Callable[[Map], Map]) -> Map:
    return _put(service, key, change(service[key])) if isinstance(service.get(key), Map) else service


def _put(node: Map, key: str, value: Any) -> Map:
    copy = node.clone()
    copy[key] = value
    return copy


def _each_service(tree: Map, change: Callable[[Map], Map]) -> Map:
    result = tree.clone()
    services = (result.get("services") or Map()).clone()
    for name, service in services.items():
        if isinstance(service, Map):
            services[name] = change(service)
    if "services" in result:
        result["services"] = services
    return result


def _values(service: Map) -> Map:
    result = service.clone()
    secrets = result.get("secrets")
    if isinstance(secrets, Seq):
        result["secrets"] = Seq([_secret(item) for item in secrets], secrets.place, secrets.at)
    gpus = result.get("gpus")
    if isinstance(gpus, Seq):
        result["gpus"] = Seq([_device(item) for item in gpus], gpus.place, gpus.at)
    _default_devices(result)
    return result


def add_defaults(tree: Map, project: str, environment: Mapping[str, str]) -> Map:
    """A project with everything explicit."""
    result = tree.clone()
    services = (result.get("services") or Map()).clone()
    for name, service in services.items():
        services[name] = _service(service if isinstance(service, Map) else Map(), environment)
    result["services"] = services
    networks = (result.get("networks") or Map()).clone()
    if any("default" in (service.get("networks") or ()) for service in services.values()):
        networks.setdefault("default", None)
    if networks:
        result["networks"] = networks
    for section in ("networks", "volumes", "secrets", "configs"):
        if isinstance(result.get(section), Map):
            result[section] = _named(result[section], project)
    return result


def _named(resources: Map, project: str) -> Map:
    """Resources with the names they have in the engine: external ones their key, others with the project before it."""
    copy = resources.clone()
    for key, value in copy.items():
        resource = value.clone() if isinstance(value, Map) else Map(place=resources.key_place(key))
        if not resource.get("name"):
            resource["name"] = key if resource.get("external") else f"{project}_{key}"
        copy[key] = resource
    return copy


def _service(service: Map, environment: Mapping[str, str]) -> Map:
    result = service.clone()
    if not result.get("networks") and "network_mode" not in result and "provider" not in result:
        result["networks"] = Map({"default": None}, result.place)
    if result.get("pull_policy") == "if_not_present":
        result["pull_policy"] = "missing"
    if isinstance(result.get("build"), Map):
        result["build"] = _build(result["build"], environment)
    _implicit_dependencies(result)
    return result


def _build(build: Map, environment: Mapping[str, str]) -> Map:
    copy = build.clone()
    if "dockerfile" not in copy and "dockerfile_inline" not in copy:
        copy["dockerfile"] = "Dockerfile"
    if isinstance(copy.get("args"), Map):
        resolved = resolve_values(copy["args"], environment)
        copy["args"] = resolved.like()
        copy["args"].update({key: value for key, value in resolved.items() if value is not None})
    return copy


def _provider(provider: Map) -> Map:
    """A provider whose options are lists of text; only now, for in a merge one value replaces another and lists append."""
    options = provider.get("options")
    if not isinstance(options, Map):
        return provider
    result, listed = provider.clone(), options.like()
    for name, value in options.items():
        place = options.value_place(name)
        values = value if isinstance(value, Seq) else Seq([value], place)
        listed[name] = Seq([format_scalar(item) for item in values], place, values.at)
    result["options"] = listed
    return result


def _secret(reference: Any) -> Any:
    if not isinstance(reference, Map) or reference.get("target"):
        return reference
    copy = reference.clone()
    copy["target"] = f"/run/secrets/{reference.get('source')}"
    return copy


def _device(request: Any) -> Any:
    if not isinstance(request, Map) or "count" in request or "device_ids" in request:
        return request
    copy = request.clone()
    copy["count"] = -1
    return copy


def _default_devices(service: Map) -> None:
    deploy = service.get("deploy")
    resources = deploy.get("resources") if isinstance(deploy, Map) else None
    reservations = resources.get("reservations") if isinstance(resources, Map) else None
    devices = reservations.get("devices") if isinstance(reservations, Map) else None
    if isinstance(deploy, Map) and isinstance(resources, Map) and isinstance(reservations, Map) and devices:
        filled = Seq([_device(item) for item in devices], devices.place, devices.at)
        reservations = reservations.clone()
        reservations["devices"] = filled
        resources = resources.clone()
        resources["reservations"] = reservations
        deploy = deploy.clone()
        deploy["resources"] = resources
        service["deploy"] = deploy


def _implicit_dependencies(service: Map) -> None:
    """`links`, `volumes_from` and shared namespaces make a service depend on another."""
    found: list[tuple[str, bool, Any]] = []
    for link in service.get("links") or ():
        name, _, alias = link.partition(":")
        found.append((link if ":" in alias else name, True, service.key_place("links")))
    for key in _NAMESPACES:
        value = service.get(key)
        if isinstance(value, str) and value.startswith("service:"):
            found.append((value.removeprefix("service:"), True, service.value_place(key)))
    for item in service.get("volumes_from") or ():
        if not item.startswith("container:"):
            found.append((item.split(":")[0], False, service.key_place("volumes_from")))
    if not found:
        return
    dependencies = (service.get("depends_on") or Map(place=service.place)).clone()
    for name, restart, at in found:
        if name not in dependencies:
            dependency = Map({"condition": "service_started", "required": True, "restart": restart}, at)
            dependencies.put(name, dependency, (at, at))
    service["depends_on"] = dependencies


def resolve_values(values: Map, environment: Mapping[str, str]) -> Map:
    """Keys without a value take it from the environment; what is not there stays without."""
    copy = values.clone()
    for key, value in values.items():
        if value is None and key in environment:
            copy[key] = environment[key]
    return copy


def resolve_environment(
    service: Map,
    environment: dict[str, str],
    warnings: list[Warning],
    *,
    with_files: bool = True,
    budget: Budget,
) -> Map:
    """A service whose `environment` holds the values of the environment and, like `labels`, what its files say."""
    result = service.clone()
    own = resolve_values(result.get("environment") or Map(), environment)
    files = result.get("env_file") if with_files else None
    values: dict[str, str] = {}
    for entry, at in files.items_at() if isinstance(files, Seq) else ():
        read = _env_file(entry, at, ChainMap(environment, values), warnings)
        budget.add_variables(read, at)
        values |= read
    if values or own:
        merged = own.like()
        merged.update(values)
        merged.update(own)
        result["environment"] = merged
    labels = result.get("label_file") if with_files else None
    if isinstance(labels, Seq):
        merged = (result.get("labels") or Map()).like()
        for path, at in labels.items_at():
            read = dotenv.read(path, merged, at=at, warnings=warnings)
            budget.add_variables(read, at)
            merged.update(read)
        merged.update(result.get("labels") or {})
        result["labels"] = merged
    return result


def _env_file(entry: Map, at: Any, environment: Mapping[str, str], warnings: list[Warning]) -> dict[str, str]:

    path = entry["path"]
    if not _is_required(entry) and not source.kind(path):
        return {}
    form = entry.get("format") or ""
    if form not in ("", "raw"):
        hint = "leave it out, or write raw for Docker's own grammar"
        raise ComposeError("E013", f'unsupported env_file format "{form}"', at=entry.value_place("format"), hint=hint)
    return dotenv.read(path, environment, raw=form == "raw", at=at, warnings=warnings)


def _is_required(entry: Map) -> bool:
    required = entry.get("required", True)
    return to_bool(required) if isinstance(required, str) else required is not False
