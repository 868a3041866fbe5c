"""The steps that make a container's file system: its root, its mounts, its devices, what is hidden in them.

The image is hostile: everything in it is reached through descriptors opened with openat2 inside the root, and every mount
is prepared detached and attached by descriptor.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from engine.kernel import files, mounts
from engine.runtime.steps import LaunchError, Setup, Step, invalid, open_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from engine.runtime.cgroup import Cgroup

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

    __slots__ = ("lowerdirs", "upperdir", "volatile", "workdir")

    def __init__(self, rootfs: dict[str, Any]) -> None:
        self.lowerdirs: list[str] = rootfs["lowerdirs"]
        self.upperdir: str | None = rootfs.get("upperdir")
        self.workdir: str | None = rootfs.get("workdir")
        # A build step's writes are thrown away if it does not end, so nothing need be synced.
        self.volatile: bool = rootfs.get("volatile", False)
        if not self.lowerdirs:
            raise invalid("MountRoot", "the container has no image layers")

    def describe(self) -> str:
        return f"mount the root file system ({len(self.lowerdirs)} layers)"

    def execute(self, setup: Setup) -> None:
        mount_fd = self._detached()
        if mount_fd is None:
            mounts.mount_overlay(setup.root_path, self.lowerdirs, self.upperdir, self.workdir, volatile=self.volatile)
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
        return mounts.overlay(self.lowerdirs, self.upperdir, self.workdir, volatile=self.volatile)


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
