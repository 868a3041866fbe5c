"""Reads files into layers, one per YAML document: parsed, interpolated, checked, in canonical form, and merged in order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from compose.errors import ComposeError, Place, Warning, in_order, raise_all
from compose.spec import document
from compose.spec.canonical import canonicalize, with_plain_ports
from compose.spec.defaults import add_contexts
from compose.spec.document import Map, Texts, prune
from compose.spec.extends import Extender
from compose.spec.include import imported, includes, variables_of_files
from compose.spec.interpolate import Interpolator
from compose.spec.limits import Budget
from compose.spec.merge import merge, settle
from compose.spec.paths import resolve_project
from compose.spec.validate import validate

_LISTED = ("annotations", "environment", "labels", "sysctls")


class Reader:
    """Turns lists of files into merged trees; keeps their texts and what was worth a warning.

    What is wrong in a file is kept in `errors` and taken out, so that what else is wrong can be found in the rest.

    `has_emptied_name` tells of a `name:` of unset variables only; `variables` are those that an included project's secrets and
    configs take from its own `.env`.
    """

    def __init__(self, *, interpolate: bool = True, resolve_paths: bool = True) -> None:
        self.texts = Texts()
        self.warnings: list[Warning] = []
        self.errors: list[ComposeError] = []
        self.is_template = not interpolate
        self.has_emptied_name = False
        self.variables: dict[str, str] = {}
        self.budget = Budget()
        self._resolve_paths = resolve_paths
        self._has_reset = False

    def load(
        self,
        files: tuple[str, ...],
        working_dir: str,
        environment: Mapping[str, str],
        including: tuple[str, ...] = (),
    ) -> Map:
        """The files as one tree: what they include, extend and override done, paths absolute."""
        merged: Map | None = None
        count = 0
        for file in files:
            extender = Extender(self, working_dir, environment, file)
            for layer in self.documents(file, environment, merged):
                extended = extender.apply(layer)
                base = self._included(extended, working_dir, environment, (*including, file))
                layer_tree = merge(base, extended, self.texts)
                layer_tree.pop("include", None)
                merged = merge(merged, layer_tree, self.texts) if merged is not None else layer_tree
                count += 1 + (base is not None) + extender.has_extended
        if merged is None:
            raise ComposeError("E010", "empty compose file", at=Place(files[-1], 1, 1) if files else None)
        tree: Map = add_contexts(settle(merged))
        if self.is_template:
            tree = with_plain_ports(tree, self.texts)
        if (count > 1 or self._has_reset) and not self.errors:
            # Layers were checked on their own, where a key may be missing, null or reset; now nothing will complete them.
            raise_all(validate(tree, self.texts, is_canonical=True))
        return resolve_project(tree, working_dir) if self._resolve_paths else tree

    def documents(self, file: str, environment: Mapping[str, str], base: Map | None = None) -> list[Map]:
        """The documents of one file, each checked and in canonical form; `base` is what they complete."""
        trees = self._parsed(file, self.errors)
        layers: list[Map] = []
        for tree in trees:
            if tree is None and len(trees) > 1:
                continue
            self._drop_strays(tree, base)
            layers.append(self._layer(tree, file, environment, is_partial=base is not None or bool(layers)))
        return layers

    def _parsed(self, file: str, errors: list[ComposeError] | None = None) -> list[Any]:
        self.budget.add_file(file)
        text = document.read(file, self.texts)
        self._has_reset |= "!reset" in text
        return document.parse(text, file, self.budget, errors)

    def _drop_strays(self, tree: Any, base: Map | None) -> None:
        """Ignore a number over a mapping of variables, as Docker does (compose-go, override/merge.go), but say so."""
        services = tree.get("services") if isinstance(tree, Map) else None
        known = base.get("services") if base is not None else None
        if not isinstance(services, Map) or not isinstance(known, Map):
            return
        for name, service in services.items():
            before = known.get(name)
            if not isinstance(service, Map) or not isinstance(before, Map):
                continue
            for key in _LISTED:
                if before.get(key) is not None and isinstance(service.get(key), (int, float)):
                    message = f"services.{name}.{key} is neither a mapping nor a list and is ignored"
                    self.warnings.append(Warning(service.value_place(key), message))
                    del service[key]

    def interpolated(self, file: str, environment: Mapping[str, str]) -> list[Any]:
        """The documents of one file with variables replaced, not checked further."""
        trees = self._parsed(file)
        interpolator = Interpolator(environment, self.texts)
        result = trees if self.is_template else [interpolator.tree(tree) for tree in trees]
        raise_all(interpolator.errors)
        self.warnings += interpolator.warnings
        return result

    def _layer(self, tree: Any, file: str, environment: Mapping[str, str], *, is_partial: bool) -> Map:
        if not isinstance(tree, Map):
            at = getattr(tree, "place", None) or Place(file, 1, 1)
            message = "empty compose file" if tree is None else "top-level object must be a mapping"
            hint = "a Compose file starts with a key such as services:"
            raise ComposeError("E010", message, at=at, line_text=self.texts.line(at), hint=hint)
        errors: list[ComposeError] = []
        broken: list[tuple[str | int, ...]] = []
        if not self.is_template:
            interpolator = Interpolator(environment, self.texts)
            named = tree.get("name")
            tree = interpolator.tree(tree)
            self.has_emptied_name |= bool(named) and tree["name"] == ""
            errors += interpolator.errors
            broken += interpolator.broken
            self.warnings += interpolator.warnings
        errors += validate(tree, self.texts, is_partial=is_partial, warnings=self.warnings, broken=broken)
        prune(tree, broken)
        if "version" in tree:
            message = (
                "the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential confusion"
            )
            self.warnings.append(Warning(tree.key_place("version"), message))
            tree.pop("version")
        layer, unreadable, warnings = canonicalize(tree, self.texts, is_template=self.is_template, budget=self.budget)
        self.warnings += warnings
        self.errors += in_order([*errors, *unreadable])
        return layer

    def directory(self, file: str, directory: str) -> str:
        """The directory of a file, relative to another one where paths are to stay as they are."""
        own = os.path.dirname(file)
        return own if self._resolve_paths else os.path.relpath(own, directory)

    def _included(
        self, layer: Map, working_dir: str, environment: Mapping[str, str], including: tuple[str, ...]
    ) -> Map | None:
        merged: Map | None = None
        for include in includes(layer, working_dir, environment, including, self):
            tree = self.load(include.files, include.project_directory, include.environment, including)
            tree = imported(tree, include.environment)
            self.variables |= variables_of_files(tree, include.environment)
            if not self._resolve_paths:
                tree = resolve_project(tree, os.path.relpath(include.project_directory, working_dir))
            merged = merge(merged, tree, self.texts) if merged is not None else tree
        return merged


def directory_of(file: str, default: str) -> str:
    """The directory of a file; that of standard input is the default."""
    return default if file == "-" else os.path.dirname(os.path.abspath(file))
