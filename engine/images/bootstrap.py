"""Make a Debian base image from the Debian archive, with no registry and no debootstrap.

signed index → dependency closure → SHA-256 → unpack → configure with the new root's own dpkg, in a container.
The result follows Docker's `debian` images: minimal, apt usable, documentation left out where the tag ends in `-slim`.
"""

from __future__ import annotations

import collections
import errno
import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.errors import InvalidInput, Unavailable, Unsupported
from engine.images.apt.archive import DebianArchive, Selection
from engine.images.apt.closure import Package
from engine.images.apt.dpkg import UnpackedPackage, write_database
from engine.images.apt.sources import Source
from engine.images.config import host_architecture, timestamp
from engine.images.layer import OPAQUE_XATTR
from engine.images.layers import full_disk_explained
from engine.images.reference import Reference
from engine.images.store import ImageStore
from engine.images.tree import remove_tree
from engine.ports import BuildRunner
from engine.types import Image, Mount, StepOptions

Progress = Callable[[str, int, int], None]

DEBS = "/tmp/archives"
_FORMAT = "1"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RELEASES = {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"}
_MERGED_USR = ("bin", "lib", "sbin")
_MULTILIB = {"amd64": ("lib64",), "ppc64el": ("lib64",)}
_DPKG_ARCHITECTURES = {"386": "i386", "ppc64le": "ppc64el", "arm": "armhf"}
_RUNNABLE = {"amd64": ("amd64", "i386"), "arm64": ("arm64",)}

_SLIM_EXCLUDES = (
    "/usr/share/doc/*",
    "/usr/share/groff/*",
    "/usr/share/info/*",
    "/usr/share/linda/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
_SLIM_INCLUDES = ("/usr/share/doc/*/copyright",)

_APT_CLEAN = "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"
_DOCKER_CLEAN = f"""\
# Packages are installed once, in one layer: keep no downloaded ones.
DPkg::Post-Invoke {{ "{_APT_CLEAN}"; }};
APT::Update::Post-Invoke {{ "{_APT_CLEAN}"; }};
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
_POLICY_RC_D = """\
#!/bin/sh
# Services are not started when packages are installed in an image.
exit 101
"""
_FILES: Mapping[str, tuple[int, str]] = {
    "usr/sbin/policy-rc.d": (0o755, _POLICY_RC_D),
    "etc/apt/apt.conf.d/docker-clean": (0o644, _DOCKER_CLEAN),
    "etc/apt/apt.conf.d/docker-gzip-indexes": (0o644, 'Acquire::GzipIndexes "true";\n'),
    "etc/apt/apt.conf.d/docker-no-languages": (0o644, 'Acquire::Languages "none";\n'),
    "etc/apt/apt.conf.d/docker-autoremove-suggests": (0o644, 'Apt::AutoRemove::SuggestsImportant "false";\n'),
    "etc/dpkg/dpkg.cfg.d/docker-apt-speedup": (0o644, "# An image is made whole or not at all.\nforce-unsafe-io\n"),
}
_LEFTOVERS = (
    "etc/.pwd.lock",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
)
_EMPTIED = ("run", "tmp", "var/tmp", "var/cache/apt/archives", "var/lib/apt/lists", "var/log/apt")
_LOGS = ("var/log/alternatives.log", "var/log/dpkg.log", "var/log/faillog", "var/log/lastlog")


def bootstrap(
    store: ImageStore,
    runner: BuildRunner,
    reference: str,
    *,
    suite: str | None = None,
    arch: str | None = None,
    packages: Sequence[str] = (),
    progress: Progress | None = None,
) -> Image:
    """Make the image `reference` (`debian:bookworm-slim`): a minimal Debian with apt, and the packages asked for.

    The suite comes from the tag if it names one, else it is the host's. Downloads are cached. Where the archive offers just
    what an existing image was made of, that image gets the name and nothing is made.
    """
    report = progress or (lambda _text, _done, _total: None)
    wanted = Reference.parse(reference)
    host_suite = _host_suite()
    suite = suite or _suite_of(wanted, host_suite)
    architecture = _architecture(arch)
    is_slim = wanted.repository != "library/debian" or (wanted.tag or "").endswith("-slim")
    archive = DebianArchive(os.path.join(os.environ.get("UMIAK_CACHE") or store.paths.cache, "apt"))
    with full_disk_explained(f"packages for {wanted.familiar}", store.paths.root):
        selection = archive.select(suite, host_suite, architecture, _names(packages), report)
        recipe = _recipe(selection, architecture, is_slim)
        existing = _made_before(store, recipe)
        if existing is not None:
            store.tag(existing.id, reference)
            return store.resolve(existing.id)
        paths = archive.fetch(selection.packages, report)
        with store.scratch() as scratch:
            upper = os.path.join(scratch, "fs")
            _prepare_root(upper, architecture, is_slim, selection)
            base = [package for package in selection.packages if package.name in selection.base]
            unpacked = _unpack(upper, base, paths, is_slim, report)
            _complete_root(upper, unpacked)
            _install(runner, scratch, selection, unpacked, paths, report)
            _clean(upper, selection.date)
            report("layer", 0, 1)
            layer = store.add_layer_from_upper(upper)
            report("layer", 1, 1)
    return store.add_image(_configuration(selection, architecture, recipe), [layer], [reference])


def _names(packages: Iterable[str]) -> list[str]:
    names = [name for text in packages for name in re.split(r"[\s,]+", text) if name]
    for name in names:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name):
            raise InvalidInput(
                f"cannot read {name!r} as a package name", hint="versions and options cannot be given here"
            )
    return names


def _host_suite() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            found = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except FileNotFoundError:
        found = {}
    if found.get("ID", "").strip('"') != "debian" or "VERSION_CODENAME" not in found:
        return "stable"
    return found["VERSION_CODENAME"].strip('"')


def _suite_of(reference: Reference, host_suite: str) -> str:
    """`bookworm-slim` → bookworm, `12` and `12.7-slim` → bookworm; other names than debian's say nothing about the suite."""
    if reference.repository != "library/debian":
        return host_suite
    tag = re.sub(r"(-slim|-\d{8}|-\d{8}-slim)$", "", reference.tag or "")
    if tag in ("latest", ""):
        return host_suite
    if tag[0].isdigit():
        release = _RELEASES.get(tag.partition(".")[0])
        if release is None:
            raise InvalidInput(f"no Debian release is called {tag!r}", hint="name the suite with --suite")
        return release
    return tag


def _architecture(arch: str | None) -> str:
    """dpkg's name for the architecture asked for. Its programs must run here: dpkg configures in a container."""
    host = _DPKG_ARCHITECTURES.get(host_architecture(), host_architecture())
    wanted = _DPKG_ARCHITECTURES.get(arch or host, arch or host)
    if wanted not in _RUNNABLE.get(host, (host,)):
        raise Unsupported(
            f"cannot make an image for {wanted} on this {host} machine",
            hint="its programs must run here; leave --arch out",
        )
    return wanted


def _recipe(selection: Selection, architecture: str, is_slim: bool) -> str:
    """A digest of all that decides the result."""
    lines = [_FORMAT, selection.suite, architecture, str(is_slim), *sorted(p.sha256 for p in selection.packages)]
    lines += [f"{source.uri} {source.suite}" for source in selection.sources]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _made_before(store: ImageStore, recipe: str) -> Image | None:
    for image in store.all():
        history = store.config_json(image.id).get("history")
        if isinstance(history, list) and any(
            isinstance(h, dict) and h.get("comment") == f"recipe {recipe}" for h in history
        ):
            return image
    return None


def _prepare_root(upper: str, architecture: str, is_slim: bool, selection: Selection) -> None:
    """What must stand before the first package: merged /usr, dpkg's empty database, and its configuration."""
    for name in (*_MERGED_USR, *_MULTILIB.get(architecture, ())):
        os.makedirs(f"{upper}/usr/{name}", mode=0o755)
        os.symlink(f"usr/{name}", f"{upper}/{name}")
    for directory in (
        "etc/apt/apt.conf.d",
        "etc/apt/sources.list.d",
        "etc/dpkg/dpkg.cfg.d",
        "usr/sbin",
    ):
        os.makedirs(f"{upper}/{directory}", mode=0o755, exist_ok=True)
    for path, (mode, text) in _FILES.items():
        _write(f"{upper}/{path}", text, mode)
    if is_slim:
        rules = [f"path-exclude {rule}" for rule in _SLIM_EXCLUDES] + [
            f"path-include {rule}" for rule in _SLIM_INCLUDES
        ]
        _write(
            f"{upper}/etc/dpkg/dpkg.cfg.d/docker",
            "# The slim variant leaves out what containers rarely need.\n" + "\n".join(rules) + "\n",
        )
    _write(f"{upper}/etc/apt/sources.list.d/debian.sources", _sources_text(selection.sources))


def _sources_text(sources: Sequence[Source]) -> str:
    """The host's Debian sources; Debian's own keyring signs them in the new root unless the host names another key inline."""
    by_uri: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for source in sources:
        inline = tuple(key for key in source.keyrings if "BEGIN PGP" in key)
        by_uri.setdefault((source.uri, inline), []).append(source.suite)
    stanzas = []
    for (uri, inline), suites in by_uri.items():
        key = (
            "\n " + "\n ".join(line or "." for line in inline[0].splitlines())
            if inline
            else " /usr/share/keyrings/debian-archive-keyring.gpg"
        )
        stanzas.append(f"Types: deb\nURIs: {uri}\nSuites: {' '.join(suites)}\nComponents: main\nSigned-By:{key}\n")
    return "\n".join(stanzas)


def _unpack(
    upper: str, packages: Sequence[Package], paths: Mapping[str, str], is_slim: bool, report: Progress
) -> list[UnpackedPackage]:
    """Unpack packages, several at a time: decompression runs without Python's lock, so all cores work."""
    leave_out = _leave_out(_SLIM_EXCLUDES, _SLIM_INCLUDES) if is_slim else lambda _path: False

    def unpack_one(package: Package) -> UnpackedPackage:
        unpacked = UnpackedPackage(paths[package.name])
        unpacked.unpack(upper, leave_out)
        return unpacked

    result = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4), thread_name_prefix="unpack") as pool:
        for done, unpacked in enumerate(pool.map(unpack_one, packages), 1):
            result.append(unpacked)
            report(f"unpack {unpacked.name}", done, len(packages))
    return result


def _leave_out(excludes: Sequence[str], includes: Sequence[str]) -> Callable[[bytes], bool]:
    """dpkg's path-exclude and path-include: the last rule that matches counts, and directories above an included path stay."""
    excluded = re.compile("|".join(fnmatch.translate(rule[1:]) for rule in excludes).encode())
    included = re.compile("|".join(fnmatch.translate(rule[1:]) for rule in includes).encode())

    def is_left_out(path: bytes) -> bool:
        if not excluded.match(path) or included.match(path):
            return False
        return not (path.startswith(b"usr/share/doc/") and path.count(b"/") == 3)

    return is_left_out


def _complete_root(upper: str, packages: Sequence[UnpackedPackage]) -> None:
    """dpkg's database, and the accounts that packages' scripts expect from the start (base-passwd keeps their masters)."""
    write_database(upper, packages)
    for name in ("passwd", "group"):
        with open(f"{upper}/usr/share/base-passwd/{name}.master", encoding="utf-8") as file:
            _write(f"{upper}/etc/{name}", file.read())
    _write(f"{upper}/etc/hosts", "127.0.0.1 localhost\n")


def _install(
    runner: BuildRunner,
    scratch: str,
    selection: Selection,
    unpacked: Sequence[UnpackedPackage],
    paths: Mapping[str, str],
    report: Progress,
) -> None:
    """Let the root's own dpkg configure the base, then install the rest: maintainer scripts, conffiles, triggers."""
    empty, work = os.path.join(scratch, "empty"), os.path.join(scratch, "work")
    os.mkdir(empty, 0o755)
    os.mkdir(work, 0o755)
    extra = [f"{DEBS}/{os.path.basename(paths[p.name])}" for p in selection.packages if p.name not in selection.base]
    output = _DpkgOutput(len(unpacked) + 2 * len(extra), report)
    code = runner(
        layer_dirs=[empty],
        upper=os.path.join(scratch, "fs"),
        work=work,
        argv=["/bin/sh", "-ec", _script(unpacked, extra)],
        env=[
            _PATH,
            "DEBIAN_FRONTEND=noninteractive",
            "DEBCONF_NONINTERACTIVE_SEEN=true",
            "LC_ALL=C",
            f"SOURCE_DATE_EPOCH={int(selection.date)}",
        ],
        cwd="/",
        user="0:0",
        output=output,
        options=StepOptions(network="none"),
        mounts=[Mount("bind", DEBS, os.path.realpath(os.path.dirname(next(iter(paths.values())))), read_only=True)],
    )
    if code != 0:
        raise Unavailable(
            f"dpkg could not configure the new root (exit code {code}):\n{output.tail}",
            hint="check the packages asked for; the last lines of dpkg's output say which one failed",
        )


def _script(unpacked: Sequence[UnpackedPackage], extra: Sequence[str]) -> str:
    """What dpkg would have run before unpacking, then dpkg itself."""
    lines = [line for package in unpacked if (line := package.preinst_line()) is not None]
    lines.append("dpkg --configure --pending")
    if extra:
        # Dependency order covers Pre-Depends but for cycles, which dpkg then only warns of.
        lines.append(f"dpkg --force-depends --install {' '.join(extra)}")
    return "\n".join(lines)


class _DpkgOutput:
    """Turns dpkg's lines into progress, and keeps the last ones for an error."""

    def __init__(self, steps: int, report: Progress) -> None:
        self._total = steps
        self._done = 0
        self._report = report
        self._rest = b""
        self._lines: collections.deque[str] = collections.deque(maxlen=15)

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            self._lines.append(text)
            words = text.split()
            if text.startswith(("Unpacking ", "Setting up ")) and self._done < self._total:
                self._done += 1
                name = words[2] if text.startswith("Setting") else words[1]
                self._report(
                    f"{'configure' if text.startswith('Setting') else 'install'} {name}", self._done, self._total
                )

    @property
    def tail(self) -> str:
        return "\n".join(self._lines)


def _clean(upper: str, date: float) -> None:
    """Remove what differs from run to run, and date nothing later than the archive's index, so that equal sets give equal layers."""
    for path in _LEFTOVERS:
        _unlink(f"{upper}/{path}")
    for directory in _EMPTIED:
        _empty(f"{upper}/{directory}")
    for path in _LOGS:
        if os.path.isfile(f"{upper}/{path}"):
            os.truncate(f"{upper}/{path}", 0)
    for name in os.listdir(upper):
        # overlayfs marks what was made at the top of a mount opaque; nothing lies below this layer.
        try:
            os.removexattr(f"{upper}/{name}", OPAQUE_XATTR, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
                raise
    _clamp_times(upper, int(date))


def _clamp_times(upper: str, latest: int) -> None:
    """Directories all get the same time: theirs tells the order of unpacking, which threads decide."""
    for path, directories, files in os.walk(upper, topdown=False):
        for name in (*files, *directories):
            entry = os.path.join(path, name)
            found = os.lstat(entry)
            if stat.S_ISDIR(found.st_mode) or found.st_mtime > latest:
                os.utime(entry, (latest, latest), follow_symlinks=False)
    os.utime(upper, (latest, latest))


def _empty(directory: str) -> None:
    """Remove all in a directory but the empty places that packages own (`partial`, `lists`…)."""
    if not os.path.isdir(directory):
        return
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if not os.path.isdir(path) or os.path.islink(path):
            os.unlink(path)
        elif name != "partial":
            remove_tree(path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _write(path: str, text: str, mode: int = 0o644) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def _configuration(selection: Selection, architecture: str, recipe: str) -> dict[str, object]:
    created = timestamp(selection.date)
    oci = {v: k for k, v in _DPKG_ARCHITECTURES.items()}.get(architecture, architecture)
    return {
        "created": created,
        "architecture": oci,
        "os": "linux",
        "config": {"Env": [_PATH], "Cmd": ["bash"]},
        "history": [
            {
                "created": created,
                "created_by": f"umiak image bootstrap --suite {selection.suite}",
                "comment": f"recipe {recipe}",
            }
        ],
    }
