"""What may stand where in a Compose file: one table of shapes, which `validate.py` walks.

The shapes accept short and long syntaxes alike. A scalar type may come with others, as in the Compose specification:
`BOOL` takes a string as well because of variables, whose values are cast later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """What one node may be.

    `types` are those of JSON. A mapping has `fields` by name, or free keys that match `keys`, with `values`; a
    sequence has `items`. `accepts_extensions` allows keys that start with `x-`, `is_lenient` any: Docker ignores unknown keys
    there, so they are worth a warning only.
    """

    types: tuple[str, ...]
    fields: dict[str, Shape] | None = None
    required: tuple[str, ...] = ()
    keys: re.Pattern[str] | None = None
    values: Shape | None = None
    items: Shape | None = None
    unique: bool = False
    enum: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    minimum: int | None = None
    maximum: int | None = None
    accepts_extensions: bool = False
    is_open: bool = False
    is_lenient: bool = False
    example: str | None = field(default=None, compare=False)

    def __or__(self, other: Shape) -> Shape:
        """A node that may be either; of the two, at most one may be a mapping and one a sequence."""
        a, b = self, other
        return Shape(
            types=a.types + tuple(t for t in b.types if t not in a.types),
            fields=a.fields if a.fields is not None else b.fields,
            required=a.required or b.required,
            keys=a.keys or b.keys,
            values=a.values or b.values,
            items=a.items or b.items,
            unique=a.unique or b.unique,
            enum=a.enum or b.enum,
            pattern=a.pattern or b.pattern,
            minimum=a.minimum if a.minimum is not None else b.minimum,
            maximum=a.maximum if a.maximum is not None else b.maximum,
            accepts_extensions=a.accepts_extensions or b.accepts_extensions,
            is_open=a.is_open or b.is_open,
            is_lenient=a.is_lenient or b.is_lenient,
            example=a.example or b.example,
        )


def scalar(*types: str, **rules: Any) -> Shape:
    """A scalar of one of these types."""
    return Shape(types, **rules)


def one_of(*values: str) -> Shape:
    """A string out of a few."""
    return Shape(("string",), enum=values)


def sequence(items: Shape, *, unique: bool = False, example: str | None = None) -> Shape:
    """A sequence of like items."""
    return Shape(("array",), items=items, unique=unique, example=example)


def mapping(values: Shape, keys: str = ".+") -> Shape:
    """A mapping with free keys."""
    return Shape(("object",), keys=re.compile(keys), values=values)


def record(fields: dict[str, Shape], *required: str, plain: bool = False, lenient: bool = False) -> Shape:
    """A mapping with named keys; `plain` ones take no `x-` keys, in `lenient` ones unknown keys are ignored."""
    return Shape(("object",), fields=fields, required=required, accepts_extensions=not plain, is_lenient=lenient)


STRING = scalar("string")
INTEGER = scalar("integer", "string")
NUMBER = scalar("number", "string")
BOOL = scalar("boolean", "string")
NULL = scalar("null")
ANY = Shape(("string", "number", "boolean", "null", "array", "object"), is_open=True)
SCALAR = scalar("string", "number", "boolean", "null")
DURATION = scalar("string", example="10s")
NAME = "^[a-zA-Z0-9._-]+$"

STRINGS = sequence(STRING)
DISTINCT = sequence(STRING, unique=True)
STRING_OR_LIST = STRING | STRINGS
LIST_OR_MAP = mapping(SCALAR) | STRINGS
COMMAND = NULL | STRING | sequence(STRING)
OPTIONS = mapping(scalar("string", "number"))
EXTRA_HOSTS = mapping(STRING | sequence(STRING)) | DISTINCT
EXTERNAL = BOOL | record({"name": STRING})
LOOSE_EXTERNAL = BOOL | record({"name": STRING}, lenient=True)
ULIMITS = mapping(INTEGER | record({"hard": INTEGER, "soft": INTEGER}, "soft", "hard"))

FILE_MOUNTS = sequence(
    STRING | record({"source": STRING, "target": STRING, "uid": STRING, "gid": STRING, "mode": NUMBER}),
    example="[name]",
)

ENV_FILE = STRING | sequence(
    STRING | record({"path": STRING, "format": STRING, "required": BOOL}, "path", plain=True), example="[./app.env]"
)

BUILD = STRING | record(
    {
        "context": STRING,
        "dockerfile": STRING,
        "dockerfile_inline": STRING,
        "entitlements": sequence(STRING),
        "args": LIST_OR_MAP,
        "ssh": LIST_OR_MAP,
        "labels": LIST_OR_MAP,
        "cache_from": sequence(STRING),
        "cache_to": sequence(STRING),
        "no_cache": BOOL,
        "no_cache_filter": STRING_OR_LIST,
        "additional_contexts": LIST_OR_MAP,
        "network": STRING,
        "provenance": BOOL,
        "sbom": BOOL,
        "pull": BOOL,
        "target": STRING,
        "shm_size": INTEGER,
        "extra_hosts": EXTRA_HOSTS,
        "isolation": STRING,
        "privileged": BOOL,
        "secrets": FILE_MOUNTS,
        "tags": sequence(STRING),
        "ulimits": ULIMITS,
        "platforms": sequence(STRING),
    }
)

THROTTLE = sequence(record({"path": STRING, "rate": INTEGER}, plain=True))
BLKIO = record(
    {
        "device_read_bps": THROTTLE,
        "device_read_iops": THROTTLE,
        "device_write_bps": THROTTLE,
        "device_write_iops": THROTTLE,
        "weight": INTEGER,
        "weight_device": sequence(record({"path": STRING, "weight": INTEGER}, plain=True)),
    },
    plain=True,
)

DEPENDENCY = record(
    {
        "restart": BOOL,
        "required": scalar("boolean"),
        "condition": one_of("service_started", "service_healthy", "service_completed_successfully"),
    },
    "condition",
)

HOOK_FIELDS = {
    "command": COMMAND,
    "user": STRING,
    "privileged": BOOL,
    "working_dir": STRING,
    "environment": LIST_OR_MAP,
}
HOOK = record(HOOK_FIELDS, "command")
PRE_START = record({**HOOK_FIELDS, "image": STRING, "per_replica": BOOL})

DEVICE_FIELDS = {
    "capabilities": STRINGS,
    "count": INTEGER,
    "device_ids": STRINGS,
    "driver": STRING,
    "options": LIST_OR_MAP,
}

UPDATE = record(
    {
        "parallelism": INTEGER,
        "delay": DURATION,
        "failure_action": STRING,
        "monitor": DURATION,
        "max_failure_ratio": NUMBER,
        "order": one_of("start-first", "stop-first"),
    }
)

GENERIC_RESOURCES = sequence(record({"discrete_resource_spec": record({"kind": STRING, "value": NUMBER})}))

DEPLOY = NULL | record(
    {
        "mode": STRING,
        "endpoint_mode": STRING,
        "replicas": INTEGER,
        "labels": LIST_OR_MAP,
        "rollback_config": UPDATE,
        "update_config": UPDATE,
        "resources": record(
            {
                "limits": record({"cpus": NUMBER, "memory": STRING, "pids": INTEGER}),
                "reservations": record(
                    {
                        "cpus": NUMBER,
                        "memory": STRING,
                        "generic_resources": GENERIC_RESOURCES,
                        "devices": sequence(record(DEVICE_FIELDS, "capabilities")),
                    }
                ),
            }
        ),
        "restart_policy": record({"condition": STRING, "delay": DURATION, "max_attempts": INTEGER, "window": DURATION}),
        "placement": record(
            {
                "constraints": sequence(STRING),
                "preferences": sequence(record({"spread": STRING})),
                "max_replicas_per_node": INTEGER,
            }
        ),
    }
)

HEALTHCHECK = record(
    {
        "disable": BOOL,
        "interval": DURATION,
        "retries": NUMBER,
        "test": STRING | sequence(STRING),
        "timeout": DURATION,
        "start_period": DURATION,
        "start_interval": DURATION,
    }
)

DEVELOP = NULL | record(
    {
        "watch": sequence(
            record(
                {
                    "ignore": STRING_OR_LIST,
                    "include": STRING_OR_LIST,
                    "path": STRING,
                    "action": one_of("rebuild", "sync", "restart", "sync+restart", "sync+exec"),
                    "target": STRING,
                    "exec": HOOK,
                    "initial_sync": scalar("boolean"),
                },
                "path",
                "action",
            )
        )
    }
)

SERVICE_NETWORK = NULL | record(
    {
        "aliases": STRINGS,
        "interface_name": STRING,
        "ipv4_address": STRING,
        "ipv6_address": STRING,
        "link_local_ips": STRINGS,
        "mac_address": STRING,
        "driver_opts": OPTIONS,
        "priority": scalar("number"),
        "gw_priority": scalar("number"),
    }
)

PORT = scalar("number", "string") | record(
    {
        "name": STRING,
        "mode": STRING,
        "host_ip": STRING,
        "target": INTEGER,
        "published": INTEGER,
        "protocol": STRING,
        "app_protocol": STRING,
    }
)

MOUNT = STRING | record(
    {
        "type": one_of("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
        "source": STRING,
        "target": STRING,
        "read_only": BOOL,
        "consistency": STRING,
        "bind": record(
            {
                "propagation": STRING,
                "create_host_path": BOOL,
                "recursive": one_of("enabled", "disabled", "writable", "readonly"),
                "selinux": one_of("z", "Z"),
            }
        ),
        "volume": record({"labels": LIST_OR_MAP, "nocopy": BOOL, "subpath": STRING}),
        "tmpfs": record({"size": scalar("integer", "string", minimum=0), "mode": NUMBER}),
        "image": record({"subpath": STRING}),
    },
    "type",
)

SERVICE = record(
    {
        "annotations": LIST_OR_MAP,
        "attach": BOOL,
        "blkio_config": BLKIO,
        "build": BUILD,
        "cap_add": STRINGS,
        "cap_drop": STRINGS,
        "cgroup": one_of("host", "private"),
        "cgroup_parent": STRING,
        "command": COMMAND,
        "configs": FILE_MOUNTS,
        "container_name": scalar("string", pattern=re.compile("[a-zA-Z0-9][a-zA-Z0-9_.-]+")),
        "cpu_count": scalar("string", "integer", minimum=0),
        "cpu_percent": scalar("string", "integer", minimum=0, maximum=100),
        "cpu_period": NUMBER,
        "cpu_quota": NUMBER,
        "cpu_rt_period": NUMBER,
        "cpu_rt_runtime": NUMBER,
        "cpu_shares": NUMBER,
        "cpus": NUMBER,
        "cpuset": STRING,
        "credential_spec": record({"config": STRING, "file": STRING, "registry": STRING}),
        "depends_on": DISTINCT | mapping(DEPENDENCY, NAME),
        "deploy": DEPLOY,
        "develop": DEVELOP,
        "device_cgroup_rules": DISTINCT,
        "devices": sequence(STRING | record({"source": STRING, "target": STRING, "permissions": STRING}, "source")),
        "dns": STRING_OR_LIST,
        "dns_opt": STRINGS,
        "dns_search": STRING_OR_LIST,
        "domainname": STRING,
        "entrypoint": COMMAND,
        "env_file": ENV_FILE,
        "environment": LIST_OR_MAP,
        "expose": sequence(scalar("string", "number")),
        "extends": STRING | record({"service": STRING, "file": STRING}, "service", lenient=True),
        "external_links": DISTINCT,
        "extra_hosts": EXTRA_HOSTS,
        "gpus": one_of("all") | sequence(record(DEVICE_FIELDS, lenient=True)),
        "group_add": sequence(scalar("string", "number"), unique=True),
        "healthcheck": HEALTHCHECK,
        "hostname": STRING,
        "image": STRING,
        "init": BOOL,
        "ipc": STRING,
        "isolation": STRING,
        "label_file": STRING | sequence(STRING),
        "labels": LIST_OR_MAP,
        "links": STRINGS,
        "logging": record({"driver": STRING, "options": mapping(scalar("string", "number", "null"))}),
        "mac_address": STRING,
        "mem_limit": NUMBER,
        "mem_reservation": INTEGER,
        "mem_swappiness": INTEGER,
        "memswap_limit": NUMBER,
        "models": DISTINCT | mapping(NULL | record({"endpoint_var": STRING, "model_var": STRING}), NAME),
        "network_mode": STRING,
        "networks": DISTINCT | mapping(SERVICE_NETWORK, NAME),
        "oom_kill_disable": BOOL,
        "oom_score_adj": scalar("string", "integer", minimum=-1000, maximum=1000),
        "pid": STRING,
        "pids_limit": NUMBER,
        "platform": STRING,
        "ports": sequence(PORT, example='["8080:80"]'),
        "post_start": sequence(HOOK),
        "pre_start": sequence(PRE_START),
        "pre_stop": sequence(HOOK),
        "privileged": BOOL,
        "profiles": STRINGS,
        "provider": record(
            {
                "type": STRING,
                "options": mapping(
                    scalar("string", "number", "boolean") | sequence(scalar("string", "number", "boolean"))
                ),
            },
            "type",
        ),
        "pull_policy": scalar(
            "string",
            pattern=re.compile("always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+"),
            example="always, never, missing, build, daily, weekly or every_<duration>",
        ),
        "pull_refresh_after": STRING,
        "read_only": BOOL,
        "restart": STRING,
        "runtime": STRING,
        "scale": INTEGER,
        "secrets": FILE_MOUNTS,
        "security_opt": DISTINCT,
        "shm_size": NUMBER,
        "stdin_open": BOOL,
        "stop_grace_period": DURATION,
        "stop_signal": STRING,
        "storage_opt": mapping(SCALAR),
        "sysctls": LIST_OR_MAP,
        "tmpfs": STRING_OR_LIST,
        "tty": BOOL,
        "ulimits": ULIMITS,
        "use_api_socket": scalar("boolean"),
        "user": STRING,
        "userns_mode": STRING,
        "uts": STRING,
        "volumes": sequence(MOUNT, example='["data:/var/lib/data"]'),
        "volumes_from": DISTINCT,
        "working_dir": STRING,
    }
)

NETWORK = NULL | record(
    {
        "name": STRING,
        "driver": STRING,
        "driver_opts": OPTIONS,
        "ipam": record(
            {
                "driver": STRING,
                "config": sequence(
                    record({"subnet": STRING, "ip_range": STRING, "gateway": STRING, "aux_addresses": mapping(STRING)})
                ),
                "options": mapping(STRING),
            }
        ),
        "external": EXTERNAL,
        "internal": BOOL,
        "enable_ipv4": BOOL,
        "enable_ipv6": BOOL,
        "attachable": BOOL,
        "labels": LIST_OR_MAP,
    }
)

VOLUME = NULL | record(
    {"name": STRING, "driver": STRING, "driver_opts": OPTIONS, "external": EXTERNAL, "labels": LIST_OR_MAP}
)

SECRET = record(
    {
        "name": STRING,
        "environment": STRING,
        "file": STRING,
        "external": LOOSE_EXTERNAL,
        "labels": LIST_OR_MAP,
        "driver": STRING,
        "driver_opts": OPTIONS,
        "template_driver": STRING,
    }
)

CONFIG = record(
    {
        "name": STRING,
        "content": STRING,
        "environment": STRING,
        "file": STRING,
        "external": LOOSE_EXTERNAL,
        "labels": LIST_OR_MAP,
        "template_driver": STRING,
    }
)

MODEL = record(
    {"name": STRING, "model": STRING, "context_size": scalar("integer"), "runtime_flags": sequence(STRING)}, "model"
)

INCLUDE = (
    NULL
    | STRING
    | record(
        {"path": NULL | STRING_OR_LIST, "env_file": NULL | STRING_OR_LIST, "project_directory": NULL | STRING},
        lenient=True,
    )
)

PROJECT = record(
    {
        "version": STRING,
        "name": STRING,
        "include": NULL | sequence(INCLUDE),
        "services": mapping(SERVICE, NAME),
        "networks": mapping(NETWORK),
        "volumes": mapping(VOLUME, NAME),
        "secrets": mapping(SECRET, NAME),
        "configs": mapping(CONFIG, NAME),
        "models": mapping(MODEL),
    }
)
