"""The Debian archive as the host's apt sees it: from a suite and package names to verified .deb files in a cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.errors import InvalidInput
from engine.frozen import frozen
from engine.images.apt.closure import Package, Universe, closure
from engine.images.apt.fetch import Download, Fetcher
from engine.images.apt.release import Release, fetch_packages, fetch_release
from engine.images.apt.sources import Source, debian_sources, host_sources, proxies

Progress = Callable[[str, int, int], None]


@frozen
class Selection:
    """What a root is made of: packages in dependency order, which of them are its base, their sources, the newest index's date."""

    suite: str
    packages: tuple[Package, ...]
    base: frozenset[str]
    sources: tuple[Source, ...]
    date: float


class DebianArchive:
    """Debian's archive through the sources, keyrings and proxies of the host's apt."""

    def __init__(self, cache: str, *, etc: str = "/etc/apt") -> None:
        self._cache = cache
        self._etc = etc
        self._fetcher = Fetcher(proxies())
        os.makedirs(cache, mode=0o755, exist_ok=True)

    def select(
        self, suite: str, host_suite: str, architecture: str, packages: Sequence[str], progress: Progress
    ) -> Selection:
        """Read the signed indexes and resolve dependencies. Required packages and apt are always in."""
        sources = debian_sources(suite, host_suite, host_sources(self._etc))
        progress(f"indexes of {suite}", 0, len(sources))
        universe = Universe()
        with ThreadPoolExecutor(len(sources)) as pool:
            releases = list(pool.map(lambda source: fetch_release(source, self._fetcher, self._cache), sources))
            debian = [release for release in releases if _is_debian(release, suite)]
            if not debian:
                raise InvalidInput(f"no source of the host's apt is Debian's {suite}", hint="check --suite")
            lists = pool.map(lambda release: fetch_packages(release, architecture, self._fetcher, self._cache), debian)
            for done, (release, packages_list) in enumerate(zip(debian, lists, strict=True), 1):
                universe.add_index(release.source.uri, packages_list)
                progress(f"indexes of {suite}", done, len(debian))
        basics = _basics(universe, debian)
        chosen = closure(universe, [*basics, *packages])
        base = frozenset(package.name for package in (closure(universe, basics) if packages else chosen))
        date = max(release.date for release in debian)
        return Selection(suite, tuple(chosen), base, tuple(release.source for release in debian), date)

    def fetch(self, packages: Sequence[Package], progress: Progress) -> dict[str, str]:
        """Bring packages into the cache, several at once; return name → path of the verified .deb."""
        paths = {package.name: self._path(package) for package in packages}
        jobs = [
            Download(f"{p.uri}/{p.filename}", paths[p.name], p.sha256, p.size_bytes, f"{p.name} {p.version}")
            for p in packages
        ]
        self._fetcher.download_all(jobs, progress)
        return paths

    def _path(self, package: Package) -> str:
        version = package.version.replace(":", "%3a").replace("/", "_")
        return os.path.join(self._cache, f"{package.name}_{version}_{package.architecture}.deb")


def _basics(universe: Universe, releases: Sequence[Release]) -> list[str]:
    """What a usable root has beside the required packages. `usr-is-merged` spares it `usrmerge` and all of Perl."""
    basics = ["apt"]
    if universe.package("usr-is-merged") is not None:
        basics.append("usr-is-merged")
    if any(release.source.uri.startswith("https:") for release in releases):
        basics.append("ca-certificates")
    return basics


def _is_debian(release: Release, suite: str) -> bool:
    """A host may have others' archives for the same suite name."""
    return release.origin == "Debian" and release.codename in (
        suite,
        f"{suite}-updates",
        f"{suite}-security",
        f"{suite}/updates",
    )
