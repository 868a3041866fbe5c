"""Small images for tests and benchmarks, made from the host's static busybox (Debian package busybox-static)."""

from __future__ import annotations

import atexit
import functools
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

BUSYBOX = "/bin/busybox"


def busybox_rootfs_tar(path: str | os.PathLike[str]) -> str:
    """Write a root file system with busybox and all its applets as a tar; usable with `import_rootfs`. Return its path."""
    if not os.path.exists(BUSYBOX):
        raise FileNotFoundError(f"{BUSYBOX} is missing: apt-get install busybox-static")
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    with tarfile.open(path, "w") as tar:
        for directory in ("bin", "dev", "etc", "proc", "root", "run", "sys", "var", "usr", "usr/bin"):
            tar.addfile(_info(directory, tarfile.DIRTYPE, 0o755))
        tar.addfile(_info("tmp", tarfile.DIRTYPE, 0o1777))
        _add_file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        _add_file(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        with open(BUSYBOX, "rb") as file:
            _add_file(tar, "bin/busybox", file.read(), 0o755)
        for applet in applets:
            if applet != "busybox":
                link = _info(f"bin/{applet}", tarfile.LNKTYPE, 0o755)
                link.linkname = "bin/busybox"
                tar.addfile(link)
        for applet in ("env", "id"):
            link = _info(f"usr/bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "/bin/busybox"
            tar.addfile(link)
    return os.fspath(path)


def busybox_rootfs(directory: str | os.PathLike[str]) -> None:
    """Lay the same root file system out in a directory."""
    with tarfile.open(busybox_rootfs_tar(f"{os.fspath(directory)}.tar")) as tar:
        # Debian 12's Python is older than 3.11.4 and has no filters yet.
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        tar.extractall(directory)


@functools.cache
def shared_busybox_rootfs() -> Path:
    """The same once for the whole session, for those who only read it."""
    base = tempfile.mkdtemp(prefix="umiak-busybox-")
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    busybox_rootfs(f"{base}/rootfs")
    return Path(base, "rootfs")


def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    return info


def _add_file(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = _info(name, tarfile.REGTYPE, mode)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
