"""`extends`: a service starts from another one, of the same file or of another file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compose.errors import MANY, ComposeError, Place, display_path, dotted, errors_of
from compose.spec import paths, source
from compose.spec.canonical import canonicalize
from compose.spec.document import Map
from compose.spec.grammar import SERVICE
from compose.spec.limits import measure
from compose.spec.merge import merge, settle
from compose.spec.validate import Checker, closest

if TYPE_CHECKING:
    from compose.spec.layers import Reader


MAX_CHAIN = 50


class Extender:
    """Resolves `extends` in the layers of one file."""

    def __init__(self, reader: Reader, working_dir: str, environment: Mapping[str, str], file: str) -> None:
        self._reader = reader
        self._working_dir = working_dir
        self._environment = environment
        self._file = file
        self._loaded: dict[str, Map] = {}
        self.has_extended = False

    def apply(self, layer: Map) -> Map:
        """The layer with its services extended."""
        services = layer.get("services")
        if not isinstance(services, Map) or not any(isinstance(s, Map) and "extends" in s for s in services.values()):
            return layer
        self.has_extended = True
        result = layer.clone()
        extended = services.clone()
        for name in services:
            extended[name] = self._extended(name, services)
        result["services"] = extended
        return result

    def _extended(self, name: str, services: Map) -> Any:
        """A service of the file, extended; what it is without that where it cannot be, with the error noted."""
        try:
            return self._service(name, services, self._file, self._working_dir, ())
        except ComposeError as error:
            errors = self._reader.errors
            if error.code == "E042" or len(errors) >= MANY:
                raise  # every service of a circle would tell of it
            told = {(other.message, other.at) for other in errors}
            errors += [each for each in errors_of(error) if (each.message, each.at) not in told]
        own = services[name].clone()
        own.pop("extends")
        return own

    def _service(self, name: str, services: Map, file: str, directory: str, chain: tuple[tuple[str, str], ...]) -> Any:
        service = services[name]
        if not isinstance(service, Map) or "extends" not in service:
            return service
        extends = service["extends"] if isinstance(service["extends"], Map) else Map(place=service.place)
        at = extends.value_place("service") or service.key_place("extends")
        if (file, name) in chain:
            raise self._cycle([*chain, (file, name)], at)
        chain = (*chain, (file, name))
        if len(chain) > MAX_CHAIN:
            message = f'service "{chain[0][1]}" extends more than {MAX_CHAIN} others in a row'
            raise ComposeError("E042", message, at=at, line_text=self._reader.texts.line(at))
        reference = extends.get("service") or ""
        if extends.get("file") is not None:
            base = self._from_file(name, reference, str(extends["file"]), extends, directory, chain)
        else:
            if reference not in services:
                raise self._missing(name, reference, services, file, at)
            base = self._service(reference, services, file, directory, chain)
        self._reader.budget.add_nodes(measure(base), at, "with its bases the project has")
        own = service.clone()
        own.pop("extends")
        return merge(settle(base), own, self._reader.texts, ("services", name))

    def _from_file(
        self,
        name: str,
        reference: str,
        written: str,
        extends: Map,
        directory: str,
        chain: tuple[tuple[str, str], ...],
    ) -> Any:
        at = extends.value_place("file")
        if source.is_remote(written):
            raise source.remote_file("extend from", written, at)
        file = paths.resolve(written, directory)
        if source.kind(file) in ("", "directory"):
            message = f'cannot extend service "{name}": {display_path(file)} is not a file'
            line, path = self._reader.texts.line(at), dotted(("services", name, "extends"))
            raise ComposeError("E001", message, at=at, path=path, line_text=line, width=len(written))
        services = self._services_of(file)
        if reference not in services:
            raise self._missing(name, reference, services, file, extends.value_place("service"))
        base = self._service(reference, services, file, os.path.dirname(file), chain)
        return paths.resolve_service(base, self._reader.directory(file, directory)) if isinstance(base, Map) else base

    def _services_of(self, file: str) -> Map:
        """The services of another file; only those that are extended get checked."""
        if file not in self._loaded:
            merged = Map()
            for tree in self._reader.interpolated(file, self._environment):
                services = tree.get("services") if isinstance(tree, Map) else None
                if isinstance(services, Map):
                    merged = merge(merged, _Checked(services, self._reader).all(), self._reader.texts, ("services",))
            self._loaded[file] = merged
        return self._loaded[file]

    def _missing(self, name: str, reference: str, services: Map, file: str, at: Place | None) -> ComposeError:
        message = f'cannot extend service "{name}": service "{reference}" not found in {display_path(file)}'
        return ComposeError(
            "E040",
            message,
            at=at,
            path=dotted(("services", name, "extends")),
            line_text=self._reader.texts.line(at),
            width=len(reference) or 1,
            suggestion=closest(reference, services),
        )

    def _cycle(self, chain: list[tuple[str, str]], at: Place | None) -> ComposeError:
        steps = " extends ".join(f"{name} in {display_path(file)}" for file, name in chain)
        return ComposeError("E042", f"circular reference: {steps}", at=at, line_text=self._reader.texts.line(at))


class _Checked:
    """Services of an extended file in canonical form; one that is wrong fails only if it is used."""

    def __init__(self, services: Map, reader: Reader) -> None:
        self._services = services
        self._reader = reader

    def all(self) -> Map:
        result = self._services.clone()
        for name, service in self._services.items():
            if isinstance(service, Map):
                result[name] = self._canonical(name, service)
        return result

    def _canonical(self, name: str, service: Map) -> Any:
        checker = Checker(self._reader.texts, is_partial=True, is_guessing=False)
        if checker.check(service, SERVICE, ("services", name)):
            return service  # used as it is, it fails the check of the merged project, with its place
        tree, errors, _ = canonicalize(
            Map({"services": Map({name: service})}),
            self._reader.texts,
            is_template=self._reader.is_template,
            budget=self._reader.budget,
        )
        return service if errors else tree["services"][name]
