"""A container's changes as an image: `container commit`."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from engine.containers import Containers
from engine.images.build.workspace import MOUNT_POINTS
from engine.images.changes import apply_changes
from engine.images.config import timestamp
from engine.images.diff import write_tar
from engine.images.reference import Reference
from engine.images.store import ImageStore, LayerRef
from engine.types import ContainerInfo, Image


def commit(
    containers: Containers,
    store: ImageStore,
    ref: str,
    *,
    reference: str | None = None,
    author: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    pause: bool = True,
) -> Image:
    """Make an image of a container's image, what it wrote over it, and how it was asked to run.

    With `pause` a running container stands still meanwhile, so that the files fit together. Volumes are not part of it.
    """
    if reference is not None:
        Reference.parse(reference)
    info = containers.one(ref)
    base = store.resolve(info.image_id)
    document = store.config_json(base.id)
    config = apply_changes(_asked(document.get("config") or {}, info), changes)
    upper = containers.upper(info.id)
    with containers.paused(info.id) if pause and info.status.state == "running" else nullcontext():
        layer = _layer(store, upper, store.layer_dirs(base))
    created = timestamp(time.time())
    history = [*(document.get("history") or ()), _step(created, info, author, message)]
    made = {**document, "created": created, "config": config, "history": history}
    made.pop("rootfs", None)
    if author:
        made["author"] = author
    return store.add_image(made, [*store.layer_refs(base), layer], [reference] if reference else [])


def _asked(config: dict[str, Any], info: ContainerInfo) -> dict[str, Any]:
    """The image's configuration with what the container was given on top, as Docker keeps it."""
    spec, made = info.spec, dict(config)
    env = dict(item.partition("=")[::2] for item in made.get("Env") or ())
    env |= {name: value for name, value in spec.environment.items() if value is not None}
    made["Env"] = [f"{name}={value}" for name, value in env.items()]
    made["Labels"] = {**(made.get("Labels") or {}), **spec.labels}
    if spec.entrypoint is not None:
        made["Entrypoint"], made["Cmd"] = list(spec.entrypoint), list(spec.command or ())
    elif spec.command is not None:
        made["Cmd"] = list(spec.command)
    given = {"User": spec.user, "WorkingDir": spec.working_dir, "StopSignal": spec.stop_signal}
    made |= {key: value for key, value in given.items() if value}
    ports: dict[str, Any] = {f"{port.container_port}/{port.protocol}": {} for port in spec.ports}
    if ports:
        made["ExposedPorts"] = {**(made.get("ExposedPorts") or {}), **ports}
    return made


def _step(created: str, info: ContainerInfo, author: str, message: str) -> dict[str, str]:
    step = {"created": created, "created_by": " ".join(info.argv)}
    return step | {key: value for key, value in (("author", author), ("comment", message)) if value}


def _layer(store: ImageStore, upper: str, below: Sequence[str]) -> LayerRef:
    """What a container wrote, as a layer. Its tar goes through a pipe, so that the store hashes and unpacks it on the way."""
    failure: list[BaseException] = []
    reading, writing = os.pipe()

    def produce() -> None:
        try:
            with open(writing, "wb") as pipe:
                write_tar(upper, pipe.write, mounted=True, leave_out=_mount_points(below))
        except BaseException as error:
            failure.append(error)

    producer = threading.Thread(target=produce, name="commit")
    with open(reading, "rb", buffering=0) as pipe:
        producer.start()
        try:
            layer = store.add_layer(pipe)
        except Exception:
            pipe.close()
            producer.join()
            if failure and not isinstance(failure[0], BrokenPipeError):
                raise failure[0] from None
            raise
    producer.join()
    if failure:
        raise failure[0]
    return layer


def _mount_points(below: Sequence[str]) -> Callable[[bytes, os.stat_result], bool]:
    """Tells what is in the container's layer only because something was mounted on it."""
    points = {
        os.fsencode(point)
        for point in MOUNT_POINTS
        if not any(os.path.lexists(os.path.join(layer, point)) for layer in below)
    }

    def is_one(name: bytes, found: os.stat_result) -> bool:
        return name in points and (stat.S_ISDIR(found.st_mode) or found.st_size == 0)

    return is_one
