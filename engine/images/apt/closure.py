"""Which packages a root needs: Debian's required ones, apt, the requested ones, and what they depend on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.errors import InvalidInput, NotFound
from engine.frozen import frozen
from engine.images.apt.deb822 import Version, fields

_PRIORITIES = ("required", "important", "standard", "optional", "extra")
_RELATION = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^\s)]+)\s*\))?")


@frozen
class Relation:
    """One alternative of a dependency: a package or a virtual package, perhaps with a bound on its version."""

    name: str
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Whether a version satisfies this relation."""
        if not self.operator:
            return True
        mine, bound = Version(version), Version(self.version)
        return {
            "<<": mine < bound,
            "<=": mine <= bound,
            "=": mine == bound,
            ">=": mine >= bound,
            ">>": mine > bound,
        }[self.operator]


@frozen
class Package:
    """One package version of an archive. `depends` are groups of alternatives, those of Pre-Depends first."""

    name: str
    version: str
    architecture: str
    priority: str
    essential: bool
    depends: tuple[tuple[Relation, ...], ...]
    provides: tuple[Relation, ...]
    uri: str
    filename: str
    size_bytes: int
    sha256: str


class Universe:
    """All packages that the sources offer, read lazily: an index has sixty thousand, a root needs a hundred."""

    def __init__(self) -> None:
        self._blocks: dict[str, list[tuple[str, bytes]]] = {}
        self._providers: dict[str, list[str]] = {}
        self._required: set[str] = set()
        self._packages: dict[str, Package | None] = {}

    def add_index(self, uri: str, packages: bytes) -> None:
        """Add a verified package list whose files lie below `uri`."""
        for block in packages.split(b"\n\n"):
            if not block.startswith(b"Package: "):
                continue
            name = block[9 : block.find(b"\n")].decode()
            self._blocks.setdefault(name, []).append((uri, block))
            if b"\nPriority: required" in block or b"\nEssential: yes" in block:
                self._required.add(name)
            at = block.find(b"\nProvides: ")
            if at >= 0:
                line = block[at + 11 : block.find(b"\n", at + 11) if block.find(b"\n", at + 11) > 0 else None]
                for relation in _relations(line.decode()):
                    self._providers.setdefault(relation[0].name, []).append(name)

    def package(self, name: str) -> Package | None:
        """The newest version of a package; None where there is none."""
        if name not in self._packages:
            versions = [_package(uri, block) for uri, block in self._blocks.get(name, ())]
            self._packages[name] = max(versions, key=lambda p: Version(p.version), default=None)
        return self._packages[name]

    def required(self) -> list[str]:
        """The packages that every Debian system has."""
        names = []
        for name in sorted(self._required):
            package = self.package(name)
            if package is not None and (package.essential or package.priority == "required"):
                names.append(name)
        return names

    def providers(self, name: str) -> list[Package]:
        """Packages that provide a virtual one, the most ordinary first."""
        found = [p for p in map(self.package, dict.fromkeys(self._providers.get(name, ()))) if p is not None]
        return sorted(found, key=lambda p: (_PRIORITIES.index(p.priority) if p.priority in _PRIORITIES else 9, p.name))

    def suggestion(self, name: str) -> str | None:
        close = difflib.get_close_matches(name, self._blocks, n=1, cutoff=0.7)
        return close[0] if close else None


def closure(universe: Universe, requested: Sequence[str]) -> list[Package]:
    """All packages of a root, in an order in which each comes after what it depends on as far as cycles allow."""
    chosen: dict[str, Package] = {}
    provided: dict[str, list[tuple[str, str]]] = {}
    pending: list[Package] = []

    def choose(package: Package) -> None:
        if package.name not in chosen:
            chosen[package.name] = package
            pending.append(package)
            for relation in (Relation(package.name, "=", package.version), *package.provides):
                provided.setdefault(relation.name, []).append((package.name, relation.version))

    for name in [*universe.required(), *requested]:
        choose(_wanted(universe, name))
    while pending:
        package = pending.pop(0)
        for group in package.depends:
            if not any(_satisfied_by(relation, provided) for relation in group):
                choose(_candidate(universe, package, group))
    return list(_ordered(chosen, provided))


def _wanted(universe: Universe, name: str) -> Package:
    package = universe.package(name)
    if package is None:
        virtual = universe.providers(name)
        if len(virtual) == 1:
            return virtual[0]
        if virtual:
            names = ", ".join(provider.name for provider in virtual[:6])
            raise InvalidInput(f"package {name} is a virtual package", hint=f"name one that provides it: {names}")
        close = universe.suggestion(name)
        raise NotFound(f"Debian has no package {name!r}", hint=f"did you mean {close!r}?" if close else None)
    return package


def _satisfied_by(relation: Relation, provided: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """The chosen packages that satisfy a relation. A versioned one needs a versioned Provides (Debian policy 7.5)."""
    return [
        name
        for name, version in provided.get(relation.name, ())
        if not relation.operator or (version and relation.accepts(version))
    ]


def _candidate(universe: Universe, package: Package, group: Sequence[Relation]) -> Package:
    for relation in group:
        real = universe.package(relation.name)
        if real is not None and relation.accepts(real.version):
            return real
        for provider in universe.providers(relation.name):
            if any(
                offered.name == relation.name
                and (not relation.operator or (offered.version and relation.accepts(offered.version)))
                for offered in provider.provides
            ):
                return provider
    wanted = " | ".join(f"{r.name} ({r.operator} {r.version})" if r.operator else r.name for r in group)
    raise NotFound(f"package {package.name} depends on {wanted}, which the archive does not have")


def _ordered(chosen: Mapping[str, Package], provided: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[Package]:
    """Depth first over the dependencies, without recursion."""
    seen: set[str] = set()
    for root in chosen.values():
        stack: list[tuple[Package, Iterator[str]]] = []
        if root.name not in seen:
            seen.add(root.name)
            stack.append((root, _dependencies(root, provided)))
        while stack:
            package, rest = stack[-1]
            name = next((n for n in rest if n not in seen), None)
            if name is None:
                stack.pop()
                yield package
            else:
                seen.add(name)
                stack.append((chosen[name], _dependencies(chosen[name], provided)))


def _dependencies(package: Package, provided: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[str]:
    for group in package.depends:
        for relation in group:
            yield from _satisfied_by(relation, provided)


def _package(uri: str, block: bytes) -> Package:
    found = fields(block.decode("utf-8", "replace"))
    try:
        sha256, size = found["sha256"], int(found["size"])
        filename = found["filename"]
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"the package list has a broken entry for {found.get('package')}") from error
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or ".." in filename.split("/"):
        raise InvalidInput(f"the package list has a broken entry for {found['package']}")
    return Package(
        name=found["package"],
        version=found.get("version", ""),
        architecture=found.get("architecture", ""),
        priority=found.get("priority", "optional"),
        essential=found.get("essential") == "yes",
        depends=tuple(_relations(found.get("pre-depends", ""))) + tuple(_relations(found.get("depends", ""))),
        provides=tuple(group[0] for group in _relations(found.get("provides", ""))),
        uri=uri,
        filename=filename,
        size_bytes=size,
        sha256=sha256,
    )


def _relations(text: str) -> Iterable[tuple[Relation, ...]]:
    """Parse `a (>= 1) | b, c:any`: groups of alternatives."""
    groups = []
    for part in text.replace("\n", " ").split(","):
        group = tuple(
            Relation(match[1], match[2] or "", match[3] or "")
            for alternative in part.split("|")
            if (match := _RELATION.match(alternative.strip()))
        )
        if group:
            groups.append(group)
    return groups
