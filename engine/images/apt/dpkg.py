"""dpkg's database as `dpkg --unpack` leaves it: packages unpacked by us that the root's own `dpkg --configure` takes over.

dpkg(1), dpkg-trigger(1), deb-triggers(5), deb-conffiles(5); /var/lib/dpkg has `status`, `info/`, `triggers/`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence

from engine.errors import InvalidInput
from engine.images.apt.deb import open_member, read_control
from engine.images.apt.deb822 import fields
from engine.images.compression import decompressed
from engine.images.layer import LayerWriter
from engine.kernel.files import open_in_root

DATABASE = "var/lib/dpkg"
NEW_CONFFILE = b".dpkg-new"


class UnpackedPackage:
    """One package whose files lie in the root, with what dpkg must know of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.control_files = read_control(path)
        self._control = self.control_files["control"][1].decode("utf-8", "replace").strip()
        found = fields(self._control)
        self.name = found.get("package", "")
        self.architecture = found.get("architecture", "")
        self.info_name = f"{self.name}:{self.architecture}" if found.get("multi-arch") == "same" else self.name
        if not self.name or "/" in self.info_name or not self._control.startswith("Package:"):
            raise InvalidInput(f"{path} has a broken control file")
        text = self.control_files.get("conffiles", (0, b""))[1]
        self._conffiles = [line for line in text.splitlines() if line.startswith(b"/")]
        self._paths: list[bytes] = []

    def unpack(self, root: str, leave_out: Callable[[bytes], bool]) -> None:
        """Write the package's files. Conffiles lie in their place, for scripts that run early, and beside it, for dpkg."""
        conffiles = {path[1:] for path in self._conffiles}

        def rename(path: bytes) -> bytes | None:
            self._paths.append(b"/" + (path or b"."))
            if leave_out(path):
                return None
            return path + NEW_CONFFILE if path in conffiles else path

        with (
            LayerWriter(root, rename=rename, keep_directory_links=True) as writer,
            open_member(self._path, b"data.tar") as data,
        ):
            writer.unpack(decompressed(data))
            writer.finish()
        for path in conffiles:
            _link_conffile(root, path)

    def write_info(self, root: str) -> None:
        """Write the package's part of `info/`: its file list and control files."""
        info = os.path.join(root, DATABASE, "info", self.info_name)
        _write(f"{info}.list", b"".join(path + b"\n" for path in self._paths))
        for name, (mode, data) in self.control_files.items():
            if name != "control":
                _write(f"{info}.{name}", data, 0o755 if mode & 0o100 else 0o644)

    def status(self) -> str:
        """The package's stanza in `status`."""
        first, _, rest = self._control.partition("\n")
        stanza = f"{first}\nStatus: install ok unpacked\n{rest}\n"
        if self._conffiles:
            stanza += "Conffiles:\n" + "".join(
                f" {path.decode('utf-8', 'replace')} newconffile\n" for path in self._conffiles
            )
        return stanza

    def interests(self) -> list[tuple[str, str]]:
        """The triggers that the package wants to hear of: (trigger, the package as dpkg lists it)."""
        found = []
        for line in self.control_files.get("triggers", (0, b""))[1].decode("utf-8", "replace").splitlines():
            words = line.partition("#")[0].split()
            if len(words) == 2 and words[0] in ("interest", "interest-await", "interest-noawait"):
                found.append((words[1], self.info_name + ("/noawait" if words[0].endswith("noawait") else "")))
        return found

    def preinst_line(self) -> str | None:
        """A shell command that runs the package's preinst as dpkg would; None where it has none."""
        if "preinst" not in self.control_files:
            return None
        environment = {
            "DPKG_MAINTSCRIPT_PACKAGE": self.name,
            "DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT": "1",
            "DPKG_MAINTSCRIPT_ARCH": self.architecture,
            "DPKG_MAINTSCRIPT_NAME": "preinst",
            "DPKG_MAINTSCRIPT_DEBUG": "0",
            "DPKG_ADMINDIR": f"/{DATABASE}",
            "DPKG_ROOT": "",
            # Run by dpkg itself it would be tmp.ci/preinst, which tells debconf the package.
            "DEBCONF_PACKAGE": self.name,
            "PERL_DL_NONLAZY": "1",
        }
        words = [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
        return " ".join([*words, shlex.quote(f"/{DATABASE}/info/{self.info_name}.preinst"), "install"])


def _link_conffile(root: str, path: bytes) -> None:
    above, _, name = path.rpartition(b"/")
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parent = open_in_root(root_fd, os.fsdecode(above) or ".", os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return  # left out
    finally:
        os.close(root_fd)
    try:
        os.link(name + NEW_CONFFILE, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, FileExistsError):
        pass
    finally:
        os.close(parent)


def write_database(root: str, packages: Sequence[UnpackedPackage]) -> None:
    """Write the database for freshly unpacked packages into a root that has none."""
    database = os.path.join(root, DATABASE)
    for directory in ("alternatives", "info", "parts", "triggers", "updates"):
        os.makedirs(os.path.join(database, directory), mode=0o755, exist_ok=True)
    _write(f"{database}/info/format", b"1\n")
    _write(f"{database}/available", b"")
    for package in packages:
        package.write_info(root)
    _write(f"{database}/status", "\n".join(package.status() for package in packages).encode())
    _write_triggers(os.path.join(database, "triggers"), (pair for package in packages for pair in package.interests()))


def _write_triggers(directory: str, interests: Iterable[tuple[str, str]]) -> None:
    """Paths go into `File`, named triggers into a file of their name."""
    files: dict[str, list[str]] = {"File": []}
    for trigger, package in interests:
        if trigger.startswith("/"):
            files["File"].append(f"{trigger} {package}")
        elif "/" not in trigger:
            files.setdefault(trigger, []).append(package)
    for name, lines in files.items():
        _write(os.path.join(directory, name), "".join(f"{line}\n" for line in lines).encode())


def _write(path: str, data: bytes, mode: int = 0o644) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
