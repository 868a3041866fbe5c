"""Bootstrap against a tiny signed archive on disk: signature, digests, unpacking, and what is asked of the runner."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidInput, NotFound, Unavailable, Unsupported
from engine.images import bootstrap as module
from engine.images.apt.archive import DebianArchive
from engine.images.bootstrap import bootstrap
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State

pytestmark = pytest.mark.skipif(
    shutil.which("gpg") is None or shutil.which("gpgv") is None, reason="needs gpg and gpgv"
)


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.mode = 0o755 if name.endswith("/") or name in ("postinst", "preinst") else 0o644
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def ar_member(name: str, data: bytes) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)


def deb(control: str, scripts: dict[str, bytes], files: dict[str, bytes]) -> bytes:
    return b"!<arch>\n" + b"".join(
        (
            ar_member("debian-binary", b"2.0\n"),
            ar_member("control.tar.gz", gzip.compress(tar_of({"control": control.encode(), **scripts}))),
            ar_member("data.tar.xz", lzma.compress(tar_of(files))),
        )
    )


PASSWD = {
    "usr/share/base-passwd/passwd.master": b"root:x:0:0::/root:/bin/sh\n",
    "usr/share/base-passwd/group.master": b"root:x:0:\n",
}
PACKAGES: dict[str, tuple[str, dict[str, bytes], dict[str, bytes]]] = {
    "base": (
        "Priority: required\nEssential: yes",
        {
            "conffiles": b"/etc/base.conf\n",
            "preinst": b"#!/bin/sh\n",
            "triggers": b"interest-noawait /usr/lib\ninterest ldconfig\n",
        },
        {
            **PASSWD,
            "etc/base.conf": b"conf",
            "bin/": b"",
            "bin/tool": b"tool",
            "usr/share/doc/base/copyright": b"c",
            "usr/share/doc/base/README": b"r",
            "usr/share/man/man1/x": b"m",
        },
    ),
    "apt": ("Depends: lib", {}, {"usr/bin/apt-get": b"apt"}),
    "lib": ("Multi-Arch: same", {"postinst": b"#!/bin/sh\n"}, {"lib/": b"", "lib/liba.so": b"lib"}),
    "extra": ("Depends: lib", {}, {"usr/bin/extra": b"e"}),
}


class Archive:
    """A signed Debian archive in a directory, and the apt configuration that names it."""

    def __init__(self, base: Path) -> None:
        base.mkdir(exist_ok=True)
        self.root, self.etc = base / "archive", base / "etc"
        self._home = tempfile.mkdtemp(prefix="umiak-gpg-", dir="/tmp")  # gpg's socket path must be short
        self.keyring = base / "archive.gpg"
        self._gpg("--quick-gen-key", "--passphrase", "", "archive@example.org", "ed25519", "sign", "never")
        self._gpg("--output", str(self.keyring), "--export")
        (self.etc / "sources.list.d").mkdir(parents=True)
        source = (
            f"Types: deb\nURIs: file://{self.root}\nSuites: bookworm\nComponents: main\nSigned-By: {self.keyring}\n"
        )
        (self.etc / "sources.list.d" / "debian.sources").write_text(source)
        self.publish()

    def publish(self, **release: str) -> None:
        """Write packages, index and signed release anew."""
        dists = self.root / "dists" / "bookworm"
        (dists / "main" / "binary-amd64").mkdir(parents=True, exist_ok=True)
        (self.root / "pool").mkdir(exist_ok=True)
        stanzas = []
        for name, (extra, scripts, files) in PACKAGES.items():
            control = f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\n{extra}\nDescription: test\n"
            data = deb(control, scripts, files)
            (self.root / "pool" / f"{name}.deb").write_bytes(data)
            stanzas.append(
                f"{control}Filename: pool/{name}.deb\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        plain = "\n".join(stanzas).encode()
        packed = lzma.compress(plain)
        (dists / "main" / "binary-amd64" / "Packages.xz").write_bytes(packed)
        fields = {
            "Origin": "Debian",
            "Suite": "stable",
            "Codename": "bookworm",
            "Date": email.utils.formatdate(1_700_000_000),
            **release,
        }
        lines = [f"{key}: {value}" for key, value in fields.items()] + ["SHA256:"]
        for path, content in (("Packages", plain), ("Packages.xz", packed)):
            lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} main/binary-amd64/{path}")
        (dists / "Release").write_text("\n".join(lines) + "\n")
        self._gpg("--output", str(dists / "InRelease"), "--clearsign", str(dists / "Release"))

    @property
    def in_release(self) -> Path:
        return self.root / "dists" / "bookworm" / "InRelease"

    def armored_key(self) -> str:
        command = ["gpg", "--homedir", self._home, "--batch", "--armor", "--export"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(self._home, ignore_errors=True)

    def _gpg(self, *arguments: str) -> None:
        subprocess.run(
            ["gpg", "--homedir", self._home, "--batch", "--yes", "--quiet", *arguments], check=True, capture_output=True
        )


class Runner:
    """Stands for the container: notes what it is asked, and says what dpkg would."""

    def __init__(self, code: int = 0) -> None:
        self.calls: list[dict[str, Any]] = []
        self._code = code
        self.tree: list[str] = []
        self.status = ""

    def __call__(self, **call: Any) -> int:
        self.calls.append(call)
        upper = Path(call["upper"])
        self.tree = sorted(str(path.relative_to(upper)) for path in upper.rglob("*"))
        self.status = (upper / "var/lib/dpkg/status").read_text()
        call["output"](b"Setting up base (1.0) ...\nSetting up li")
        call["output"](b"b (1.0) ...\nerror: something\n")
        return self._code


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    made = Archive(tmp_path)
    monkeypatch.setattr(module, "DebianArchive", lambda cache: DebianArchive(cache, etc=str(made.etc)))
    monkeypatch.setattr(module, "_host_suite", lambda: "bookworm")
    monkeypatch.setattr(module, "host_architecture", lambda: "amd64")
    monkeypatch.delenv("UMIAK_CACHE", raising=False)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    paths = Paths(str(tmp_path / "root"), str(tmp_path / "run"))
    made = ImageStore(paths, State(paths.database))
    yield made
    made.close()


def test_a_base_image_is_made_from_the_hosts_archive(archive: Archive, store: ImageStore) -> None:
    runner = Runner()
    told: list[tuple[str, int, int]] = []
    image = bootstrap(store, runner, "debian:bookworm-slim", progress=lambda *args: told.append(args))
    assert image.tags == ("debian:bookworm-slim",)
    assert image.config.cmd == ("bash",)
    assert image.config.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    assert image.created_at == 1_700_000_000
    [root] = map(Path, store.layer_dirs(image))
    assert (root / "usr/bin/tool").read_bytes() == b"tool", "packages' /bin lands in the merged /usr"
    assert (root / "bin").is_symlink()
    assert f"URIs: file://{archive.root}" in (root / "etc/apt/sources.list.d/debian.sources").read_text()
    assert (root / "usr/sbin/policy-rc.d").stat().st_mode & 0o111
    assert (root / "usr/share/doc/base/copyright").exists()
    assert not (root / "usr/share/doc/base/README").exists()
    assert not (root / "usr/share/man/man1").exists()
    assert not (root / "usr/bin/extra").exists()
    assert ("configure lib", 2, 3) in told


def test_dpkg_finds_the_packages_as_it_would_have_unpacked_them(archive: Archive, store: ImageStore) -> None:
    runner = Runner()
    bootstrap(store, runner, "debian:bookworm-slim")
    info = "var/lib/dpkg/info"
    wanted = {
        "etc/base.conf",
        "etc/base.conf.dpkg-new",
        f"{info}/lib:amd64.list",
        f"{info}/lib:amd64.postinst",
        f"{info}/base.conffiles",
        "var/lib/dpkg/triggers/ldconfig",
    }
    assert wanted <= set(runner.tree)
    assert "Package: base\nStatus: install ok unpacked\n" in runner.status
    assert "Conffiles:\n /etc/base.conf newconffile\n" in runner.status
    [call] = runner.calls
    script = call["argv"][-1]
    assert "DPKG_MAINTSCRIPT_PACKAGE=base" in script
    assert script.index("/var/lib/dpkg/info/base.preinst install") < script.index("dpkg --configure")
    assert call["options"].network == "none"
    assert call["mounts"][0].read_only
    assert "DEBIAN_FRONTEND=noninteractive" in call["env"]


def test_packages_asked_for_are_installed_by_dpkg_itself(archive: Archive, store: ImageStore) -> None:
    runner = Runner()
    image = bootstrap(store, runner, "my/base:1", packages=["extra"])
    assert runner.calls[0]["argv"][-1].endswith(f"--install {module.DEBS}/extra_1.0_amd64.deb")
    assert image.tags == ("my/base:1",)


def test_the_same_packages_again_make_nothing_and_get_the_name(archive: Archive, store: ImageStore) -> None:
    runner = Runner()
    first = bootstrap(store, runner, "debian:bookworm-slim")
    again = bootstrap(store, runner, "debian:12-slim")
    assert (again.id, len(runner.calls)) == (first.id, 1)
    assert again.tags == ("debian:12-slim", "debian:bookworm-slim")


def test_equal_archives_give_equal_images(archive: Archive, store: ImageStore) -> None:
    first = bootstrap(store, Runner(), "debian:bookworm-slim")
    store.remove(first.id)
    assert bootstrap(store, Runner(), "debian:bookworm-slim").id == first.id


def nothing_is_left(store: ImageStore) -> None:
    store.prepare()
    assert store.all() == []
    assert [name for name in os.listdir(store.layers.directory) if name != ".lock"] == []


def test_an_index_changed_after_signing_is_refused(archive: Archive, store: ImageStore) -> None:
    archive.in_release.write_bytes(archive.in_release.read_bytes().replace(b"Suite: stable", b"Suite: stab1e"))
    with pytest.raises(InvalidInput, match="signature"):
        bootstrap(store, Runner(), "debian:bookworm-slim")
    nothing_is_left(store)


def test_an_index_without_a_signature_or_by_another_key_is_refused(
    archive: Archive, store: ImageStore, tmp_path: Path
) -> None:
    other = Archive(tmp_path / "other")
    try:
        for data in ((archive.in_release.parent / "Release").read_bytes(), other.in_release.read_bytes()):
            archive.in_release.write_bytes(data)
            with pytest.raises(InvalidInput, match="signature"):
                bootstrap(store, Runner(), "debian:bookworm-slim")
    finally:
        other.close()
    nothing_is_left(store)


def test_a_key_written_into_the_hosts_sources_verifies_too(archive: Archive, store: ImageStore) -> None:
    key = "\n".join(f" {line or '.'}" for line in archive.armored_key().splitlines())
    sources = archive.etc / "sources.list.d" / "debian.sources"
    sources.write_text(sources.read_text().replace(f" {archive.keyring}", f"\n{key}"))
    image = bootstrap(store, Runner(), "debian:bookworm-slim")
    [root] = map(Path, store.layer_dirs(image))
    assert key in (root / "etc/apt/sources.list.d/debian.sources").read_text()


def test_an_archive_that_does_not_answer_is_served_from_the_last_verified_indexes(
    archive: Archive, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bootstrap(store, Runner(), "debian:bookworm-slim")

    def unanswered(*_: object) -> bytes:
        raise Unavailable("cannot fetch")

    monkeypatch.setattr("engine.images.apt.fetch.Fetcher.text", unanswered)
    assert bootstrap(store, Runner(), "debian:12-slim").id == first.id


def test_an_expired_index_is_refused(archive: Archive, store: ImageStore) -> None:
    archive.publish(**{"Valid-Until": email.utils.formatdate(time.time() - 10)})
    with pytest.raises(InvalidInput, match="expired"):
        bootstrap(store, Runner(), "debian:bookworm-slim")


def test_a_package_that_is_not_the_signed_one_is_refused(archive: Archive, store: ImageStore) -> None:
    path = archive.root / "pool" / "apt.deb"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InvalidInput, match="SHA-256"):
        bootstrap(store, Runner(), "debian:bookworm-slim")
    nothing_is_left(store)


def test_a_failing_dpkg_is_told_with_its_last_lines(archive: Archive, store: ImageStore) -> None:
    with pytest.raises(
        Unavailable, match=r"exit code 1\):\nSetting up base \(1.0\) ...\nSetting up lib \(1.0\) ...\nerror: something"
    ):
        bootstrap(store, Runner(code=1), "debian:bookworm-slim")
    nothing_is_left(store)


def test_wrong_requests_are_told_before_anything_is_fetched(archive: Archive, store: ImageStore) -> None:
    with pytest.raises(Unsupported, match="cannot make an image for arm64 on this amd64 machine"):
        bootstrap(store, Runner(), "debian:bookworm-slim", arch="arm64")
    with pytest.raises(InvalidInput, match="package name"):
        bootstrap(store, Runner(), "debian:bookworm-slim", packages=["--rce"])
    with pytest.raises(InvalidInput, match="no Debian release is called '99'"):
        bootstrap(store, Runner(), "debian:99")
    with pytest.raises(NotFound, match="no package 'extrra'"):
        bootstrap(store, Runner(), "debian:bookworm", packages=["extrra"])
