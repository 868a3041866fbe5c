"""A suite's signed index: fetched, its signature verified with gpgv(1), its age and name checked. repository format: wiki.debian.org."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

from engine.errors import InvalidInput, NotFound, Unavailable, Unsupported
from engine.frozen import frozen
from engine.images.apt.deb822 import fields
from engine.images.apt.fetch import Download, Fetcher
from engine.images.apt.sources import Source, keyring_paths

_MAX_INRELEASE_BYTES = 8 << 20
_MAX_PACKAGES_BYTES = 1 << 30
_COMPRESSIONS = ("xz", "gz", "")


@frozen
class Release:
    """A verified index: what the archive's key has signed. `files` maps a path to (SHA-256, size)."""

    source: Source
    origin: str
    codename: str
    suite: str
    date: float
    by_hash: bool
    files: Mapping[str, tuple[str, int]]

    def url(self, path: str) -> str:
        """Where a file of the index lies, by hash where the archive offers that: an update in between changes nothing then."""
        if self.by_hash:
            above, _, _ = path.rpartition("/")
            path = f"{above}/by-hash/SHA256/{self.files[path][0]}"
        return f"{self.source.uri}/dists/{self.source.suite}/{path}"


def fetch_release(source: Source, fetcher: Fetcher, cache: str) -> Release:
    """Fetch and verify a suite's InRelease. Where the archive does not answer, the last verified one serves until it expires."""
    url = f"{source.uri}/dists/{source.suite}/InRelease"
    kept = os.path.join(cache, f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.InRelease")
    try:
        signed = fetcher.text(url, _MAX_INRELEASE_BYTES)
    except Unavailable:
        if not os.path.exists(kept):
            raise
        with open(kept, "rb") as file:
            signed = file.read()
    release = _parse(verify(signed, keyring_paths(source), url), source, url)
    temporary = f"{kept}.{os.urandom(4).hex()}.tmp"
    with open(temporary, "xb") as file:
        file.write(signed)
    os.rename(temporary, kept)
    return release


def verify(signed: bytes, keyrings: Sequence[str], url: str) -> str:
    """Return the text that a clear-signed file's signature covers. Raise InvalidInput where no trusted key has signed it."""
    if not keyrings:
        raise Unsupported(
            "no keyring to verify the Debian archive with", hint="apt-get install debian-archive-keyring on the host"
        )
    with tempfile.TemporaryDirectory(prefix="umiak-gpgv-") as directory:
        message, plain = os.path.join(directory, "InRelease"), os.path.join(directory, "Release")
        with open(message, "wb") as file:
            file.write(signed)
        command = ["gpgv", "--status-fd", "1", "--output", plain]
        for number, keyring in enumerate(keyrings):
            command += ["--keyring", _binary_keyring(keyring, os.path.join(directory, f"{number}.gpg"))]
        try:
            result = subprocess.run([*command, message], capture_output=True, text=True, errors="replace", check=False)
        except FileNotFoundError as error:
            raise Unsupported("gpgv is missing on this host", hint="apt-get install gpgv") from error
        words = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("[GNUPG:] ")}
        if not words >= {"GOODSIG", "VALIDSIG"} or words & {"BADSIG", "NODATA"} or not os.path.exists(plain):
            reason = result.stderr.strip().splitlines()[-1:] or ["no signature"]
            raise InvalidInput(
                f"the signature of {url} is not valid: {reason[0]}",
                hint="the archive or the network was tampered with, or the host's debian-archive-keyring is too old",
            )
        with open(plain, encoding="utf-8", errors="replace") as text:
            return text.read()


def fetch_packages(release: Release, architecture: str, fetcher: Fetcher, cache: str) -> bytes:
    """A suite's package list, uncompressed and verified; kept by digest, so an unchanged one is not fetched again."""
    path = f"main/binary-{architecture}/Packages"
    offered = [name for kind in _COMPRESSIONS if (name := path + (f".{kind}" if kind else "")) in release.files]
    if not offered:
        raise NotFound(f"Debian {release.codename} has no packages for {architecture}", hint="check --arch")
    digest, size = release.files.get(path, (release.files[offered[0]][0], _MAX_PACKAGES_BYTES))
    kept = os.path.join(cache, f"{digest}.Packages")
    if os.path.exists(kept):
        with open(kept, "rb") as file:
            data = file.read()
        if path not in release.files or hashlib.sha256(data).hexdigest() == digest:
            return data
    compressed = f"{kept}.{os.urandom(4).hex()}.compressed"
    try:
        fetcher.download(Download(release.url(offered[0]), compressed, *release.files[offered[0]], name=path))
        data = _decompressed(compressed, size)
    finally:
        if os.path.exists(compressed):
            os.unlink(compressed)
    if path in release.files and hashlib.sha256(data).hexdigest() != digest:
        raise InvalidInput(f"the package list of Debian {release.codename} does not match its digest")
    temporary = f"{kept}.{os.urandom(4).hex()}.tmp"
    with open(temporary, "xb") as file:
        file.write(data)
    os.rename(temporary, kept)
    return data


def _decompressed(path: str, limit: int) -> bytes:
    from engine.images.compression import decompressed

    parts: list[bytes] = []
    with open(path, "rb", buffering=0) as file:
        for piece in decompressed(file):
            limit -= len(piece)
            if limit < 0:
                raise InvalidInput("the package list is larger than the signed index says")
            parts.append(piece)
    return b"".join(parts)


def _parse(text: str, source: Source, url: str) -> Release:
    found = fields(text)
    valid_until = found.get("valid-until")
    if valid_until and _time(valid_until, url) < time.time():
        raise InvalidInput(f"{url} has expired ({valid_until})", hint="check this machine's clock, and the mirror")
    if source.suite not in (found.get("codename"), found.get("suite")) and "/" not in source.suite:
        raise InvalidInput(f"{url} is the index of another suite: {found.get('codename')}")
    files = {}
    for line in found.get("sha256", "").splitlines():
        words = line.split()
        if len(words) == 3 and re.fullmatch(r"[0-9a-f]{64}", words[0]) and words[1].isdigit():
            files[words[2]] = (words[0], int(words[1]))
    return Release(
        source=source,
        origin=found.get("origin", ""),
        codename=found.get("codename", source.suite),
        suite=found.get("suite", source.suite),
        date=_time(found.get("date", ""), url),
        by_hash=found.get("acquire-by-hash", "") == "yes",
        files=files,
    )


def _time(text: str, url: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{url} has an unreadable date {text!r}") from error


def _binary_keyring(keyring: str, target: str) -> str:
    """gpgv reads binary keyrings only: take the armor off (RFC 9580, section 6)."""
    if keyring.startswith("/"):
        try:
            with open(keyring, "rb") as file:
                data = file.read()
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise Unsupported(
                f"cannot read the keyring {keyring}: {reason}",
                hint="apt-get install debian-archive-keyring on the host",
            ) from error
        if not data.lstrip().startswith(b"-----BEGIN PGP"):
            return keyring
        keyring = data.decode("ascii", "replace")
    body = re.search(
        r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n(?:[^\n]+: [^\n]*\n)*\n(.*?)(?:\n=[^\n]{4})?\n-----END", keyring, re.S
    )
    if body is None:
        raise InvalidInput("cannot read an armored key of the host's apt sources")
    with open(target, "wb") as file:
        file.write(base64.b64decode(body[1]))
    return target
