"""What is done to turn a fresh process into a container's first one: a list of steps.

Each step is made from the configuration, and refuses a bad one, before anything has happened; it can then describe itself
and execute itself in the new process. `init.py` puts them in order. Whatever a step does in the image's file system it does
through descriptors opened with openat2 inside the root, for the image is hostile.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import struct
import termios

from engine.kernel import capabilities, files, mounts, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from engine.runtime.cgroup import Cgroup

_KINDS = {errno.EPERM: "denied", errno.EACCES: "denied", errno.ENOSYS: "unsupported", errno.EOPNOTSUPP: "unsupported"}


class LaunchError(Exception):
    """A container's process could not be started: the step that failed, why, and what can be done.

    `exit_code` is 127 when the command is not there, 126 when it cannot be executed, 125 for everything else.
    """

    def __init__(
        self, step: str, errno: int, message: str, exit_code: int = 125, hint: str = "", kind: str = ""
    ) -> None:
        super().__init__(message)
        self.step = step
        self.errno = errno
        self.message = message
        self.exit_code = exit_code
        self.hint = hint
        self.kind = kind or self._kind_by_code()

    def _kind_by_code(self) -> str:
        """Return the category as `engine.errors` has it: invalid, not_found, denied, unsupported or kernel."""
        by_exit = {126: "denied", 127: "not_found"}
        return by_exit.get(self.exit_code) or _KINDS.get(self.errno, "kernel")


def invalid(step: str, message: str, hint: str = "") -> LaunchError:
    """Return the error for a configuration that cannot be obeyed."""
    return LaunchError(step, errno.EINVAL, message, hint=hint, kind="invalid")


class Setup:
    """What the steps of one process share: descriptors opened on the way, and the line to the parent."""

    __slots__ = ("channel", "console_fd", "root_fd", "root_path", "stdio")

    def __init__(self, root_path: str, channel: socket.socket, stdio: tuple[int, int, int] | None) -> None:
        self.root_path = root_path
        self.channel = channel
        self.stdio = stdio
        self.root_fd = -1
        self.console_fd = -1


class Step:
    """One thing to do. `describe` completes the sentence "cannot …"."""

    __slots__ = ()

    def describe(self) -> str:
        raise NotImplementedError

    def execute(self, setup: Setup) -> None:
        raise NotImplementedError


def run(steps: Sequence[Step], setup: Setup) -> None:
    """Execute the steps in order; an OSError becomes a LaunchError that says which one failed."""
    for step in steps:
        try:
            step.execute(setup)
        except OSError as error:
            reason = error.strerror or str(error)
            raise LaunchError(type(step).__name__, error.errno or 0, f"cannot {step.describe()}: {reason}") from error


# What a mount option means: the attribute to set and the one to clear.
_ATTRIBUTES = {
    "ro": (mounts.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, mounts.MOUNT_ATTR_RDONLY),
    "nosuid": (mounts.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, mounts.MOUNT_ATTR_NOSUID),
    "nodev": (mounts.MOUNT_ATTR_NODEV, 0),
    "dev": (0, mounts.MOUNT_ATTR_NODEV),
    "noexec": (mounts.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, mounts.MOUNT_ATTR_NOEXEC),
    "noatime": (mounts.MOUNT_ATTR_NOATIME, mounts.MOUNT_ATTR_ATIME),
    "strictatime": (mounts.MOUNT_ATTR_STRICTATIME, mounts.MOUNT_ATTR_ATIME),
    "relatime": (0, mounts.MOUNT_ATTR_ATIME),
    "nodiratime": (mounts.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, mounts.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (mounts.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, mounts.MOUNT_ATTR_NOSYMFOLLOW),
}
_PROPAGATION = {
    "private": mounts.MS_PRIVATE,
    "slave": mounts.MS_SLAVE,
    "shared": mounts.MS_SHARED,
    "unbindable": mounts.MS_UNBINDABLE,
}
_NO_EFFECT = ("defaults", "bind", "rbind", "async", "z", "Z", "nocopy", "copy", "norelatime", "nostrictatime")


class MountOptions:
    """The options of one OCI mount, sorted into attributes, propagation and what only the file system understands."""

    __slots__ = ("clear", "data", "propagation", "recursive", "set")

    def __init__(self, options: Sequence[str]) -> None:
        self.set = 0
        self.clear = 0
        self.propagation = 0
        self.recursive = "rbind" in options
        self.data: list[tuple[str, str | None]] = []
        for option in options:
            plain = option[1:] if option.startswith("r") and option[1:] in (*_ATTRIBUTES, *_PROPAGATION) else option
            if plain in _ATTRIBUTES and option not in _NO_EFFECT:
                self._add_attribute(*_ATTRIBUTES[plain])
                self.recursive = self.recursive or plain != option
            elif plain in _PROPAGATION:
                self.propagation = _PROPAGATION[plain]
            elif option not in _NO_EFFECT:
                key, equals, value = option.partition("=")
                self.data.append((key, value if equals else None))

    def _add_attribute(self, set_: int, clear: int) -> None:
        self.set = self.set & ~clear | set_
        self.clear = self.clear & ~set_ | clear

    @property
    def read_only(self) -> bool:
        return bool(self.set & mounts.MOUNT_ATTR_RDONLY)

    def apply(self, mount_fd: int) -> None:
        """Give a detached mount these attributes. A read-only recursive bind is read-only all through, as Docker has it."""
        if self.set or self.clear or self.propagation:
            mounts.mount_setattr(mount_fd, self.set, self.clear, self.propagation, recursive=self.recursive)


# What may be put over parts of /proc (lxcfs does); anything else there could undo the masks.
_PROC_FILES = ("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime")
_ALLOWED_IN_PROC = tuple(f"/proc/{name}" for name in _PROC_FILES)
_KERNEL_PLACES = ("/dev", "/proc", "/sys")


class OpenSources(Step):
    """Open what is to be bound, once and before anything else, so that later changes of those paths mean nothing."""

    __slots__ = ("binds",)

    def __init__(self, binds: Sequence[Bind]) -> None:
        self.binds = binds

    def describe(self) -> str:
        return "open the sources of bind mounts"

    def execute(self, _setup: Setup) -> None:
        for bind in self.binds:
            bind.open_source()


class JoinNamespaces(Step):
    """Enter existing namespaces, given by descriptor (network) or by path."""

    __slots__ = ("namespaces",)

    def __init__(self, namespaces: Sequence[tuple[int, int | str]]) -> None:
        self.namespaces = namespaces

    def describe(self) -> str:
        return "join the container's namespaces"

    def execute(self, _setup: Setup) -> None:
        for kind, where in self.namespaces:
            fd = where if isinstance(where, int) else os.open(where, os.O_RDONLY)
            process.setns(fd, kind)
            os.close(fd)


class IsolateMounts(Step):
    """Stop our mounts from reaching the host; the host's reach us (and binds that ask for it) only as a slave."""

    __slots__ = ("flag",)

    def __init__(self, propagation: str) -> None:
        name = propagation.removeprefix("r") if propagation else "slave"
        if name not in _PROPAGATION:
            raise invalid("IsolateMounts", f'unknown rootfs propagation "{propagation}"')
        # A shared root would let our mounts out: the binds that want it have been opened before.
        self.flag = mounts.MS_SLAVE if name == "shared" else _PROPAGATION[name]

    def describe(self) -> str:
        return "isolate the mounts from the host's"

    def execute(self, _setup: Setup) -> None:
        mounts.mount(None, "/", None, mounts.MS_REC | self.flag)


class MountRoot(Step):
    """Put the image's layers and the writable directory together at the mount point, and hold the result open."""

    __slots__ = ("lowerdirs", "upperdir", "workdir")

    def __init__(self, rootfs: dict[str, Any]) -> None:
        self.lowerdirs: list[str] = rootfs["lowerdirs"]
        self.upperdir: str | None = rootfs.get("upperdir")
        self.workdir: str | None = rootfs.get("workdir")
        if not self.lowerdirs:
            raise invalid("MountRoot", "the container has no image layers")

    def describe(self) -> str:
        return f"mount the root file system ({len(self.lowerdirs)} layers)"

    def execute(self, setup: Setup) -> None:
        mount_fd = self._detached()
        if mount_fd is None:
            mounts.mount_overlay(setup.root_path, self.lowerdirs, self.upperdir, self.workdir)
            setup.root_fd = os.open(setup.root_path, os.O_PATH | os.O_DIRECTORY)
            return
        # Private, or the mounts that follow would propagate within our own namespace.
        mounts.mount_setattr(mount_fd, propagation=mounts.MS_PRIVATE, recursive=True)
        target_fd = os.open(setup.root_path, os.O_PATH | os.O_DIRECTORY)
        mounts.move_mount(mount_fd, target_fd)
        os.close(target_fd)
        setup.root_fd = mount_fd

    def _detached(self) -> int | None:
        if self.upperdir is None and len(self.lowerdirs) == 1:
            mount_fd = mounts.open_tree(self.lowerdirs[0])
            mounts.mount_setattr(mount_fd, mounts.MOUNT_ATTR_RDONLY)
            return mount_fd
        return mounts.overlay(self.lowerdirs, self.upperdir, self.workdir)


def attach(setup: Setup, mount_fd: int, destination: str, *, directory: bool) -> None:
    """Attach a detached mount inside the root, making the mount point if need be, and close it."""
    target_fd = files.make_in_root(
        setup.root_fd, destination, directory=directory, symlinks=destination not in _KERNEL_PLACES
    )
    try:
        inside_proc = files.filesystem_type(target_fd) == files.PROC_SUPER_MAGIC
        if inside_proc and destination not in ("/proc", *_ALLOWED_IN_PROC):
            raise OSError(errno.EPERM, "the image leads it into /proc, where it could undo the masks", destination)
        mounts.move_mount(mount_fd, target_fd)
    finally:
        os.close(target_fd)
        os.close(mount_fd)


class Bind(Step):
    """Show a directory or a file of the host in the container."""

    __slots__ = ("destination", "options", "source", "source_fd")

    def __init__(self, source: str, destination: str, options: MountOptions) -> None:
        if not source.startswith("/"):
            raise invalid("Bind", f'the source of a bind mount must be an absolute path, not "{source}"')
        if options.data:
            raise invalid("Bind", f'unknown option "{options.data[0][0]}" for the bind mount on "{destination}"')
        self.source = source
        self.destination = destination
        self.options = options
        self.source_fd = -1

    def describe(self) -> str:
        suffix = ", read-only" if self.options.read_only else ""
        return f"bind {self.source} on {self.destination}{suffix}"

    def open_source(self) -> None:
        try:
            self.source_fd = mounts.open_tree(self.source, recursive=self.options.recursive)
        except FileNotFoundError as error:
            message = f'cannot bind "{self.source}" on "{self.destination}": it does not exist on the host'
            raise LaunchError(
                "Bind", errno.ENOENT, message, hint="create it, or correct the path", kind="not_found"
            ) from error

    def execute(self, setup: Setup) -> None:
        if not self.options.propagation:
            self.options.propagation = mounts.MS_PRIVATE
        self.options.apply(self.source_fd)
        is_directory = stat.S_ISDIR(os.fstat(self.source_fd).st_mode)
        attach(setup, self.source_fd, self.destination, directory=is_directory)


class NewFilesystem(Step):
    """Mount a file system of its own: proc, sysfs, tmpfs, devpts, mqueue, or any other that the kernel has."""

    __slots__ = ("destination", "fstype", "options", "source")

    def __init__(self, fstype: str, source: str | None, destination: str, options: MountOptions) -> None:
        self.fstype = fstype
        self.source = source
        self.destination = destination
        self.options = options

    def describe(self) -> str:
        data = ",".join(key if value is None else f"{key}={value}" for key, value in self.options.data)
        return f"mount {self.fstype} on {self.destination}" + (f" ({data})" if data else "")

    def execute(self, setup: Setup) -> None:
        mount_fd = mounts.new_filesystem(self.fstype, self.options.data, self.options.set, self.source)
        mounts.mount_setattr(mount_fd, propagation=self.options.propagation or mounts.MS_PRIVATE)
        attach(setup, mount_fd, self.destination, directory=True)


class CgroupView(Step):
    """Show the container its own cgroup, read-only unless asked otherwise. Runs after the process has been put into it."""

    __slots__ = ("cgroup", "destination", "options", "private")

    def __init__(self, cgroup: Cgroup, destination: str, options: MountOptions, private: bool) -> None:
        self.cgroup = cgroup
        self.destination = destination
        self.options = options
        self.private = private

    def describe(self) -> str:
        return f"show the cgroup on {self.destination}"

    def execute(self, setup: Setup) -> None:
        hierarchies = self.cgroup.hierarchies()
        if len(hierarchies) == 1 and hierarchies[0][0] == "":
            attach(setup, self._unified(hierarchies[0][1]), self.destination, directory=True)
            return
        tmpfs_fd = mounts.new_filesystem("tmpfs", [("mode", "755")], self.options.set & ~mounts.MOUNT_ATTR_RDONLY)
        attach(setup, os.dup(tmpfs_fd), self.destination, directory=True)
        for names, path in hierarchies:
            first, *others = names.split(",")
            tree_fd = mounts.open_tree(path)
            mounts.mount_setattr(tree_fd, self.options.set, propagation=mounts.MS_PRIVATE)
            os.mkdir(names, dir_fd=tmpfs_fd)
            mounts.move_mount(tree_fd, tmpfs_fd, names)
            os.close(tree_fd)
            for name in (first, *others) if others else ():
                os.symlink(names, name, dir_fd=tmpfs_fd)
        if self.options.read_only:
            mounts.mount_setattr(tmpfs_fd, mounts.MOUNT_ATTR_RDONLY)
        os.close(tmpfs_fd)

    def _unified(self, path: str) -> int:
        if self.private:
            return mounts.new_filesystem("cgroup2", (), self.options.set)
        tree_fd = mounts.open_tree(path)
        mounts.mount_setattr(tree_fd, self.options.set, propagation=mounts.MS_PRIVATE)
        return tree_fd


# name, major, minor: what every container has in /dev. OCI runtime-spec, config-linux.md, "Default Devices".
DEFAULT_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_DEVICE_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
)
_DEVICE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class MakeDevices(Step):
    """Make the device nodes and links of a private /dev, and the further devices asked for."""

    __slots__ = ("devices",)

    def __init__(self, devices: Sequence[dict[str, Any]]) -> None:
        self.devices = list(devices)
        for device in self.devices:
            if device.get("type") not in _DEVICE_TYPES or not str(device.get("path", "")).startswith("/"):
                raise invalid(
                    "MakeDevices", f'cannot make the device "{device.get("path")}": its type or path is wrong'
                )

    def describe(self) -> str:
        return f"make the devices in /dev ({len(DEFAULT_DEVICES) + len(self.devices)})"

    def execute(self, setup: Setup) -> None:
        dev_fd = files.open_in_root(setup.root_fd, "/dev", os.O_RDONLY | os.O_DIRECTORY, symlinks=False)
        try:
            for name, major, minor in DEFAULT_DEVICES:
                _make_node(dev_fd, name, stat.S_IFCHR | 0o666, os.makedev(major, minor), f"/dev/{name}")
            for target, name in _DEVICE_LINKS:
                _link(dev_fd, target, name)
        finally:
            os.close(dev_fd)
        for device in self.devices:
            self._make(setup, device)

    def _make(self, setup: Setup, device: dict[str, Any]) -> None:
        directory, _, name = device["path"].rpartition("/")
        parent_fd = files.make_in_root(setup.root_fd, directory or "/", directory=True)
        try:
            mode = _DEVICE_TYPES[device["type"]] | (device.get("fileMode") or 0o666) & 0o7777
            number = os.makedev(device.get("major") or 0, device.get("minor") or 0)
            _make_node(parent_fd, name, mode, number, device["path"])
            uid, gid = device.get("uid") or 0, device.get("gid") or 0
            if uid or gid:
                os.chown(name, uid, gid, dir_fd=parent_fd, follow_symlinks=False)
        finally:
            os.close(parent_fd)


def _make_node(parent_fd: int, name: str, mode: int, number: int, host_path: str) -> None:
    """Make one node; where the kernel forbids nodes (user namespaces) bind the host's own instead."""
    try:
        os.mknod(name, mode, number, dir_fd=parent_fd)
        os.chmod(name, stat.S_IMODE(mode), dir_fd=parent_fd)
    except FileExistsError:
        pass
    except PermissionError:
        tree_fd = mounts.open_tree(host_path)
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=parent_fd))
        mounts.move_mount(tree_fd, parent_fd, name)
        os.close(tree_fd)


def _link(parent_fd: int, target: str, name: str) -> None:
    try:
        os.symlink(target, name, dir_fd=parent_fd)
    except FileExistsError:
        pass


_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_PTY_MAJOR = 136


def open_terminal(ptmx_fd: int) -> int:
    """Return the slave of a terminal just opened, through the master and never by path. ioctl_tty(2), TIOCGPTPEER."""
    if not files.is_device(ptmx_fd, 5, 2):
        raise OSError(errno.ENOTTY, "its /dev/pts/ptmx is not the terminal multiplexer")
    fcntl.ioctl(ptmx_fd, _TIOCSPTLCK, struct.pack("=i", 0))
    slave_fd: int = fcntl.ioctl(ptmx_fd, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if os.major(os.fstat(slave_fd).st_rdev) != _PTY_MAJOR:
        raise OSError(errno.ENOTTY, "its /dev/pts is not a terminal file system")
    return slave_fd


class OpenConsole(Step):
    """Open a terminal of the container's own devpts, put it on /dev/console and send its master to the parent."""

    __slots__ = ()

    def describe(self) -> str:
        return "open the container's terminal"

    def execute(self, setup: Setup) -> None:
        flags = os.O_RDWR | os.O_NOCTTY
        master_fd = files.open_in_root(setup.root_fd, "/dev/pts/ptmx", flags, symlinks=False)
        setup.console_fd = open_terminal(master_fd)
        tree_fd = mounts.open_tree("", dir_fd=setup.console_fd)
        attach(setup, tree_fd, "/dev/console", directory=False)
        socket.send_fds(setup.channel, [b"C"], [master_fd])
        os.close(master_fd)


class AwaitCgroup(Step):
    """Tell the parent that the mounts stand and wait until it has put us into the cgroup."""

    __slots__ = ("private",)

    def __init__(self, private: bool) -> None:
        self.private = private

    def describe(self) -> str:
        return "wait for the cgroup"

    def execute(self, setup: Setup) -> None:
        if setup.channel.recv(1) != b"G":
            os._exit(125)  # the parent is gone
        if self.private:
            # Only now: the namespace's root is the cgroup that the process is in at this moment.
            process.unshare(process.CLONE_NEWCGROUP)


_IPC_SYSCTLS = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")


class WriteSysctls(Step):
    """Set kernel parameters of the container's own namespaces, through a procfs that nothing else can have touched."""

    __slots__ = ("values",)

    def __init__(self, values: dict[str, str], own_network: bool, own_ipc: bool) -> None:
        self.values = values
        for name in values:
            in_ipc = name in [f"kernel.{key}" for key in _IPC_SYSCTLS] or name.startswith("fs.mqueue.")
            in_network = name.startswith("net.")
            if "/" in name or ".." in name or not ((in_ipc and own_ipc) or (in_network and own_network)):
                hint = "only 'net.*', the System V IPC and 'fs.mqueue.*' values of the container's own namespaces can be set"
                raise invalid("WriteSysctls", f'cannot set the sysctl "{name}": it is the whole host\'s', hint)

    def describe(self) -> str:
        return "set sysctls (" + ", ".join(f"{name}={value}" for name, value in self.values.items()) + ")"

    def execute(self, _setup: Setup) -> None:
        proc_fd = mounts.new_filesystem("proc")
        try:
            for name, value in self.values.items():
                fd = os.open("sys/" + name.replace(".", "/"), os.O_WRONLY, dir_fd=proc_fd)
                os.write(fd, str(value).encode())
                os.close(fd)
        finally:
            os.close(proc_fd)


class MaskPaths(Step):
    """Hide paths: an empty read-only directory over a directory, the null device over a file."""

    __slots__ = ("paths",)

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)

    def describe(self) -> str:
        return f"mask {len(self.paths)} paths"

    def execute(self, setup: Setup) -> None:
        empty_fd = -1
        for path in self.paths:
            target_fd = _open_existing(setup, path)
            if target_fd < 0:
                continue
            if not stat.S_ISDIR(os.fstat(target_fd).st_mode):
                self._attach_null(target_fd)
            elif empty_fd < 0:
                options = [("nr_blocks", "1"), ("nr_inodes", "1")]
                empty_fd = mounts.new_filesystem("tmpfs", options, mounts.MOUNT_ATTR_RDONLY)
                mounts.move_mount(empty_fd, target_fd)
            else:
                tree_fd = mounts.open_tree("", dir_fd=empty_fd)
                mounts.move_mount(tree_fd, target_fd)
                os.close(tree_fd)
            os.close(target_fd)
        if empty_fd >= 0:
            os.close(empty_fd)

    def _attach_null(self, target_fd: int) -> None:
        """Attach the host's null device, having made sure that it is one (CVE-2025-31133)."""
        tree_fd = mounts.open_tree("/dev/null")
        if not files.is_device(tree_fd, 1, 3):
            raise OSError(errno.ENODEV, "the host's /dev/null is not the null device")
        mounts.move_mount(tree_fd, target_fd)
        os.close(tree_fd)


class ReadOnlyPaths(Step):
    """Make paths, with all that is mounted below them, read-only."""

    __slots__ = ("paths",)

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)

    def describe(self) -> str:
        return f"make {len(self.paths)} paths read-only"

    def execute(self, setup: Setup) -> None:
        for path in self.paths:
            target_fd = _open_existing(setup, path)
            if target_fd < 0:
                continue
            tree_fd = mounts.open_tree("", dir_fd=target_fd, recursive=True)
            mounts.mount_setattr(tree_fd, mounts.MOUNT_ATTR_RDONLY, recursive=True)
            mounts.move_mount(tree_fd, target_fd)
            os.close(tree_fd)
            os.close(target_fd)


def _open_existing(setup: Setup, path: str) -> int:
    """Open a path of the container that must not be a link; -1 if it is not there."""
    try:
        return files.open_in_root(setup.root_fd, path, symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return -1


class ReadOnlyRoot(Step):
    """Make the root itself read-only; what is mounted in it stays as it is."""

    __slots__ = ()

    def describe(self) -> str:
        return "make the root read-only"

    def execute(self, setup: Setup) -> None:
        mounts.mount_setattr(setup.root_fd, mounts.MOUNT_ATTR_RDONLY)


class PivotRoot(Step):
    """Change to the new root and let go of the host's."""

    __slots__ = ()

    def describe(self) -> str:
        return "change to the new root"

    def execute(self, setup: Setup) -> None:
        os.fchdir(setup.root_fd)
        mounts.pivot_root(".", ".")
        # The old root now lies on the new one. Without this, detaching it would unmount the host's mounts too.
        mounts.mount(None, ".", None, mounts.MS_REC | mounts.MS_SLAVE)
        mounts.umount(".", mounts.MNT_DETACH)
        os.chdir("/")


class SetHostname(Step):
    """Name the container's UTS namespace."""

    __slots__ = ("domainname", "hostname")

    def __init__(self, hostname: str, domainname: str) -> None:
        self.hostname = hostname
        self.domainname = domainname

    def describe(self) -> str:
        return f"set the hostname to {self.hostname}"

    def execute(self, _setup: Setup) -> None:
        if self.hostname:
            process.set_hostname(self.hostname)
        if self.domainname:
            process.set_domainname(self.domainname)


class ConnectStdio(Step):
    """Start a session with the terminal, or the descriptors given, as standard input, output and error."""

    __slots__ = ("gid", "uid")

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid

    def describe(self) -> str:
        return "connect standard input, output and error"

    def execute(self, setup: Setup) -> None:
        os.setsid()
        if setup.console_fd >= 0:
            sources = (setup.console_fd,) * 3
            fcntl.ioctl(setup.console_fd, termios.TIOCSCTTY, 0)
        elif setup.stdio is not None:
            # Moved out of 0-2 first, lest one overwrite another before it is copied.
            sources = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in setup.stdio)  # type: ignore[assignment]
        else:
            sources = (os.open("/dev/null", os.O_RDWR),) * 3
        for target, source in enumerate(sources):
            os.dup2(source, target)
            self._give(source)

    def _give(self, fd: int) -> None:
        """Let the user open /dev/stdout and the like again: pipes and terminals are checked at each open."""
        status = os.fstat(fd)
        if stat.S_ISFIFO(status.st_mode) or (stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _PTY_MAJOR):
            try:
                os.fchown(fd, self.uid, -1 if stat.S_ISCHR(status.st_mode) else self.gid)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS):
                    raise


class SetOomScore(Step):
    """Tell the OOM killer how gladly to take this process. Lowering needs CAP_SYS_RESOURCE; without it, it stays."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def describe(self) -> str:
        return f"set the OOM score to {self.value}"

    def execute(self, _setup: Setup) -> None:
        try:
            with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
                file.write(str(self.value).encode())
        except PermissionError:
            pass


class SetRlimits(Step):
    """Set resource limits, clamped beforehand to what the host lets us have."""

    __slots__ = ("limits", "warnings")

    NUMBERS = (
        *("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS"),
        *("SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"),
    )

    def __init__(self, rlimits: Sequence[dict[str, Any]]) -> None:
        self.limits: list[tuple[int, int, int]] = []
        self.warnings: list[str] = []
        can_raise = (
            bool(capabilities.effective_set() >> capabilities.NUMBERS["CAP_SYS_RESOURCE"] & 1) if rlimits else True
        )
        for entry in rlimits:
            name = str(entry["type"]).removeprefix("RLIMIT_")
            if name not in self.NUMBERS:
                raise invalid("SetRlimits", f'unknown resource limit "{entry["type"]}"')
            self._add(name, _limit(entry["soft"]), _limit(entry["hard"]), can_raise)

    def _add(self, name: str, soft: int, hard: int, can_raise: bool) -> None:
        number = self.NUMBERS.index(name)
        if not can_raise:
            ceiling = process.prlimit(0, number)[1]
            if _is_above(hard, ceiling):
                self.warnings.append(
                    f"ulimit {name.lower()} is {ceiling}, the host's hard limit, instead of {_shown(hard)}"
                )
                hard = ceiling
        if _is_above(soft, hard):
            soft = hard
        self.limits.append((number, soft, hard))

    def describe(self) -> str:
        return f"set {len(self.limits)} resource limits"

    def execute(self, _setup: Setup) -> None:
        for number, soft, hard in self.limits:
            process.prlimit(0, number, (soft, hard))


def _limit(value: int) -> int:
    """Return a limit as the resource module has it: -1, or OCI's 2⁶⁴-1, is infinity."""
    return -1 if value < 0 or value >= 2**63 - 1 else value


def _is_above(value: int, ceiling: int) -> bool:
    return ceiling >= 0 and (value < 0 or value > ceiling)


def _shown(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


class JoinKeyring(Step):
    """Leave the session keyring of whoever started the monitor."""

    __slots__ = ()

    def describe(self) -> str:
        return "make a session keyring"

    def execute(self, _setup: Setup) -> None:
        try:
            process.join_new_session_keyring()
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # a kernel without keys, or one that forbids them to us
                raise


class Privileges:
    """What the process may do: user, groups, capability sets (masks), seccomp filter, no_new_privs."""

    __slots__ = (
        "ambient",
        "bounding",
        "cwd",
        "effective",
        "gid",
        "groups",
        "inheritable",
        "last_capability",
        "no_new_privs",
        "permitted",
        "seccomp",
        "uid",
        "umask",
    )

    def __init__(self, settings: dict[str, Any], seccomp: bytes | None) -> None:
        """Read an OCI `process` object. Capabilities beyond our own bounding set are left out: they cannot be had."""
        user = settings.get("user") or {}
        sets = settings.get("capabilities") or {}
        ours = capabilities.bounding_set()
        self.uid: int = user.get("uid", 0)
        self.gid: int = user.get("gid", 0)
        self.groups: list[int] = list(user.get("additionalGids") or ())
        self.umask: int = 0o022 if user.get("umask") is None else user["umask"]
        self.bounding = _mask(sets.get("bounding")) & ours
        self.permitted = _mask(sets.get("permitted")) & ours
        self.effective = _mask(sets.get("effective")) & self.permitted
        self.inheritable = _mask(sets.get("inheritable")) & ours
        self.ambient = _mask(sets.get("ambient")) & self.permitted & self.inheritable
        self.cwd: str = settings.get("cwd") or "/"
        self.no_new_privs = bool(settings.get("noNewPrivileges"))
        self.seccomp = seccomp
        self.last_capability = capabilities.last_capability()

    def allow_everything(self) -> None:
        """Give every capability that we have ourselves."""
        ours = capabilities.bounding_set()
        self.bounding = self.permitted = self.effective = ours
        self.inheritable = self.ambient = 0


def _mask(names: Sequence[str] | None) -> int:
    try:
        return capabilities.to_mask(names or ())
    except KeyError as error:
        raise invalid("Privileges", f"unknown capability {error}", "see capabilities(7) for the names") from None


class DropPrivileges(Step):
    """Become the container's user with exactly the capabilities and the system calls it is to have."""

    __slots__ = ("privileges",)

    def __init__(self, privileges: Privileges) -> None:
        self.privileges = privileges

    def describe(self) -> str:
        p = self.privileges
        seccomp = f"{len(p.seccomp) // 8} seccomp instructions" if p.seccomp else "no seccomp"
        return f"become user {p.uid}:{p.gid} with capabilities {p.permitted:#x}, {seccomp}"

    def execute(self, _setup: Setup) -> None:
        p = self.privileges
        capabilities.limit_bounding_set(p.bounding, p.last_capability)
        if p.seccomp and not p.no_new_privs:
            process.load_seccomp_filter(p.seccomp)  # needs CAP_SYS_ADMIN, which is about to go
        process.prctl(process.PR_SET_KEEPCAPS, 1)
        os.umask(p.umask)
        process.set_groups(p.groups)
        process.set_gid(p.gid)
        # As root first, for what the user cannot enter; then again, for what root cannot (NFS).
        entered = _enter(p.cwd, again=True)
        process.set_uid(p.uid)
        if not entered:
            _enter(p.cwd, again=False)
        _check_cwd(p.cwd)
        capabilities.set_capabilities(p.effective, p.permitted, p.inheritable)
        if p.ambient:
            capabilities.set_ambient(p.ambient)
        process.prctl(process.PR_SET_KEEPCAPS, 0)
        if p.no_new_privs:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            if p.seccomp:
                process.load_seccomp_filter(p.seccomp)


def _enter(cwd: str, *, again: bool) -> bool:
    try:
        os.chdir(cwd)
    except PermissionError as error:
        if again:
            return False
        raise LaunchError(
            "Chdir", errno.EACCES, f'cannot enter the working directory "{cwd}": {error.strerror}', 126
        ) from error
    except OSError as error:
        raise LaunchError(
            "Chdir", error.errno or 0, f'cannot enter the working directory "{cwd}": {error.strerror}', 127
        ) from error
    return True


def _check_cwd(cwd: str) -> None:
    """Refuse a working directory outside the root, as a leaked descriptor would give one (CVE-2024-21626)."""
    try:
        inside = os.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:
        raise LaunchError("Chdir", errno.ENOENT, f'the working directory "{cwd}" is outside the container', 126)


class MakeCwd(Step):
    """Make the working directory if the image lacks it, as Docker does."""

    __slots__ = ("cwd",)

    def __init__(self, cwd: str) -> None:
        if not cwd.startswith("/"):
            raise invalid("MakeCwd", f'the working directory must be an absolute path, not "{cwd}"')
        self.cwd = cwd

    def describe(self) -> str:
        return f"make the working directory {self.cwd}"

    def execute(self, setup: Setup) -> None:
        try:
            os.close(files.make_in_root(setup.root_fd, self.cwd, directory=True))
        except OSError as error:
            # A read-only root or a path into /proc: entering it will say what is wrong.
            if error.errno not in (errno.EROFS, errno.EACCES, errno.ELOOP, errno.EXDEV, errno.ENOENT, errno.EPERM):
                raise


_ALL_SIGNALS = [number for number in range(1, 65) if number not in (32, 33)]  # glibc keeps those two


def block_signals() -> set[signal.Signals]:
    """Block every signal, so that none reaches a handler of ours in a new process; return what was blocked before."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)  # type: ignore[return-value]


def restore_signals(mask: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def reset_signals() -> None:
    """Give every signal its default action (Python ignores SIGPIPE and SIGXFSZ) and block none."""
    signal.set_wakeup_fd(-1)
    for number in _ALL_SIGNALS:
        if number not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
