"""A service's mounts: volumes, binds, tmpfs, the mounts it takes from other services, and its secrets and configs as files."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compose.private_files import PrivateFile
from engine.errors import InvalidInput, Unsupported
from engine.types import Mount

if TYPE_CHECKING:
    from compose.model.files import FileObject, FileReference
    from compose.model.project import Project
    from compose.model.service import Service, ServiceVolume


def mounts_of(project: Project, service: Service, private_dir: str) -> tuple[Mount, ...]:
    """All that is mounted into a service's containers, one mount for each target; the service's own win over what it takes."""
    found: dict[str, Mount] = {}
    for mount in (
        *_mounts_from(project, service),
        *_volumes(project, service),
        *map(_tmpfs, service.tmpfs),
        *_files(project, service, private_dir),
    ):
        found[mount.target] = mount
    return tuple(found.values())


def private_files(project: Project, private_dir: str) -> tuple[PrivateFile, ...]:
    """The files that services' secrets and configs need and that must be written first."""
    found = {}
    for service in project.services.values():
        for _, _, source in _references(project, service):
            if source.file is None and source.content is not None:
                file = _private_file(private_dir, source.content)
                found[file.path] = file
    return tuple(found.values())


def _volumes(project: Project, service: Service) -> Iterator[Mount]:
    for position, volume in enumerate(service.volumes):
        place = project.place(("services", service.name, "volumes", position))
        if volume.type not in ("bind", "volume", "tmpfs"):
            raise Unsupported(
                f"cannot mount a volume of type {volume.type}",
                hint="use bind, volume or tmpfs",
                place=str(place) if place else None,
            )
        yield _volume(project, volume)


def _volume(project: Project, volume: ServiceVolume) -> Mount:
    target, options = volume.target or "", {}
    if volume.type == "bind":
        bind = volume.bind
        options = {"create_host_path": bind.create_host_path if bind else True}
        options |= _present(propagation=bind.propagation if bind else None, recursive=bind.recursive if bind else None)
        return Mount("bind", target, volume.source or "", volume.read_only, options)
    if volume.type == "tmpfs":
        return Mount("tmpfs", target, "", volume.read_only, _present(**_tmpfs_options(volume)))
    own = volume.volume
    options = _present(nocopy=own.nocopy if own else None, subpath=own.subpath if own else None)
    return Mount("volume", target, volume_name(project, volume.source), volume.read_only, options)


def volume_name(project: Project, key: str | None) -> str:
    """What a volume of the file is called in the engine; "" for an anonymous one."""
    if not key:
        return ""
    volume = project.volumes.get(key)
    if volume is None:
        return f"{project.name}_{key}"
    return volume.name or (key if volume.external else f"{project.name}_{key}")


def _tmpfs_options(volume: ServiceVolume) -> dict[str, Any]:
    return {"size": volume.tmpfs.size, "mode": volume.tmpfs.mode} if volume.tmpfs else {}


def _tmpfs(text: str) -> Mount:
    """One entry of `tmpfs`: `/run:size=64m,mode=1777,uid=1000,ro`."""
    from compose.model.units import parse_bytes

    target, _, rest = text.partition(":")
    words = dict(word.partition("=")[::2] for word in rest.split(",") if word)
    try:
        options = _present(
            size=parse_bytes(words["size"]) if "size" in words else None,
            mode=int(words["mode"], 8) if "mode" in words else None,
            uid=int(words["uid"]) if "uid" in words else None,
            gid=int(words["gid"]) if "gid" in words else None,
        )
    except ValueError as error:
        raise InvalidInput(
            f'cannot read "{text}" as a tmpfs: {error}', hint="for example /run:size=64m,mode=1777"
        ) from error
    return Mount("tmpfs", posixpath.normpath(target), "", "ro" in words, options)


def _mounts_from(project: Project, service: Service) -> Iterator[Mount]:
    """What other services mount by name or path. Their anonymous volumes are known when their containers exist: `volumes_from`."""
    for entry in service.volumes_from:
        name, _, mode = entry.partition(":")
        other = project.services.get(name)
        for mount in _volumes(project, other) if other else ():
            if mount.type != "tmpfs" and mount.source:
                yield replace(mount, read_only=mount.read_only or mode == "ro")


def _files(project: Project, service: Service, private_dir: str) -> Iterator[Mount]:
    for kind, reference, source in _references(project, service):
        path = ("services", service.name, kind)
        if source.external or (source.file is None and source.content is None):
            place = project.place(path)
            what = (
                "is external" if source.external else f"has no value: {source.environment or 'its source'} is not set"
            )
            raise Unsupported(
                f'{kind.removesuffix("s")} "{reference.source}" {what}',
                hint="give it a file, content or environment at the top level",
                place=str(place) if place else None,
            )
        options = _ownership(project, path, reference)
        target = _file_target(kind, reference)
        if source.file is None:
            yield Mount("file", target, _private_file(private_dir, source.content or "").path, True, options)
        elif options:
            yield Mount("file", target, source.file, True, options)
        else:
            yield Mount("bind", target, source.file, True, {"create_host_path": False})


def _ownership(project: Project, path: tuple[str, ...], reference: FileReference) -> dict[str, int]:
    """Owner, group and mode asked for; none of them leaves the user's own file as it is."""
    found = {} if reference.mode is None else {"mode": reference.mode & 0o7777}
    for name, value in (("uid", reference.uid), ("gid", reference.gid)):
        if value and not value.isdecimal():
            place = project.place(path)
            raise InvalidInput(
                f'{path[-1].removesuffix("s")} "{reference.source}": {name} "{value}" is not a number',
                hint="write the number: names differ from image to image",
                place=str(place) if place else None,
            )
        if value:
            found[name] = int(value)
    return found


def _references(project: Project, service: Service) -> Iterator[tuple[str, FileReference, FileObject]]:
    for kind, references, sources in (
        ("configs", service.configs, project.configs),
        ("secrets", service.secrets, project.secrets),
    ):
        for reference in references:
            yield kind, reference, sources[reference.source or ""]


def _file_target(kind: str, reference: FileReference) -> str:
    target = reference.target or reference.source or ""
    if target.startswith("/"):
        return posixpath.normpath(target)
    return f"/run/secrets/{target}" if kind == "secrets" else f"/{target}"


def _private_file(private_dir: str, content: str) -> PrivateFile:
    """Where content is kept. The path tells contents apart, so a changed secret is a changed definition."""
    return PrivateFile(f"{private_dir}/{hashlib.sha256(content.encode()).hexdigest()[:32]}", content)


def _present(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}
