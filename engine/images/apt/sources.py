"""What the host's apt is configured for: archives, keyrings and proxies. sources.list(5), apt.conf(5), apt-transport-http(1)."""

from __future__ import annotations

import glob
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from engine.errors import NotFound
from engine.frozen import frozen
from engine.images.apt.deb822 import stanzas

ARCHIVE_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ALIASES = ("stable", "oldstable", "oldoldstable", "testing", "unstable")


@frozen
class Source:
    """One archive and suite. `keyrings` are files, or armored keys as text, that may sign it; empty: apt's trusted ones."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyrings: tuple[str, ...] = ()

    @property
    def base_suite(self) -> str:
        """The suite without its pocket: `bookworm` for `bookworm-updates`, `bookworm-security` and `bookworm/updates`."""
        return re.split(r"[-/]", self.suite)[0]


def host_sources(etc: str = "/etc/apt") -> list[Source]:
    """All binary package sources of the host, in apt's order."""
    found: list[Source] = []
    for path in [f"{etc}/sources.list", *sorted(glob.glob(f"{etc}/sources.list.d/*"))]:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            continue
        if path.endswith(".sources"):
            found.extend(_from_deb822(text))
        elif path.endswith(".list"):
            found.extend(_from_lines(text))
    return found


def debian_sources(suite: str, host_suite: str, sources: Iterable[Source]) -> list[Source]:
    """The entries of Debian's own archive for a suite: base, updates and security.

    Where the host has none for it, those of the host's own suite serve as pattern. Raise NotFound where there are none at all.
    """
    main = [replace(source, components=("main",)) for source in sources if "main" in source.components]
    exact = [source for source in main if source.base_suite == suite and _is_pocket(source.suite, suite)]
    if not exact:
        aliased = [source for source in main if source.base_suite in _ALIASES]
        exact = aliased if suite == host_suite else []
    if not exact:
        exact = [
            replace(source, suite=source.suite.replace(host_suite, suite, 1), keyrings=())
            for source in main
            if source.base_suite == host_suite and _is_pocket(source.suite, host_suite)
        ]
    unique = list(dict.fromkeys(exact))
    if not unique:
        raise NotFound(
            f"the host's apt has no source for Debian {suite}",
            hint="add one to /etc/apt/sources.list.d, for example http://deb.debian.org/debian",
        )
    return unique


def keyring_paths(source: Source, etc: str = "/etc/apt") -> list[str]:
    """The keyrings that may sign a source: its own, else apt's trusted ones and Debian's."""
    if source.keyrings:
        return list(source.keyrings)
    trusted = [f"{etc}/trusted.gpg", *sorted(glob.glob(f"{etc}/trusted.gpg.d/*.gpg")), ARCHIVE_KEYRING]
    trusted += sorted(glob.glob(f"{etc}/trusted.gpg.d/*.asc"))
    return [path for path in trusted if os.path.exists(path)]


def proxies() -> dict[str, str]:
    """apt's proxies: `http`, `https`, and `http::host` for single hosts; "DIRECT" means none."""
    found = {name: value for name in ("http", "https") if (value := os.environ.get(f"{name}_proxy", ""))}
    try:
        dump = subprocess.run(
            ["apt-config", "dump", "--format", "%f\t%v%n", "Acquire"], capture_output=True, text=True, check=False
        ).stdout
    except FileNotFoundError:
        return found
    for line in dump.splitlines():
        key, _, value = line.partition("\t")
        match = re.fullmatch(r"Acquire::(https?)::Proxy(?:::(.+))?", key, re.IGNORECASE)
        if match and value:
            found[match[1].lower() + (f"::{match[2]}" if match[2] else "")] = value
    return found


def _is_pocket(name: str, suite: str) -> bool:
    return name in (suite, f"{suite}-updates", f"{suite}-security", f"{suite}/updates")


def _from_lines(text: str) -> Iterator[Source]:
    """One-line style: `deb [options] uri suite component…`."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+[^#\s]+)*)", line)
        if match:
            options = dict(word.split("=", 1) for word in shlex.split(match[1] or "") if "=" in word)
            keyrings = tuple(options.get("signed-by", "").split(",")) if options.get("signed-by") else ()
            yield Source(_uri(match[2]), match[3], tuple(match[4].split()), _files(keyrings))


def _from_deb822(text: str) -> Iterator[Source]:
    for stanza in stanzas(text):
        if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").lower() in ("no", "false"):
            continue
        for uri in stanza.get("uris", "").split():
            for suite in stanza.get("suites", "").split():
                yield Source(_uri(uri), suite, tuple(stanza.get("components", "").split()), _signed_by(stanza))


def _signed_by(stanza: Mapping[str, str]) -> tuple[str, ...]:
    value = stanza.get("signed-by", "")
    if "BEGIN PGP" in value:
        return ("\n".join("" if line.strip() == "." else line.strip() for line in value.splitlines()).strip(),)
    return _files(value.replace(",", " ").split())


def _files(keyrings: Iterable[str]) -> tuple[str, ...]:
    """A Signed-By may also be a fingerprint; it narrows the trusted keyrings, which then serve whole."""
    return tuple(keyring for keyring in keyrings if keyring.startswith("/"))


def _uri(text: str) -> str:
    return text.rstrip("/")
