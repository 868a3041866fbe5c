"""`umiak image`: the images in the store, and the ways in and out of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from compose.cli import build_image
from compose.cli.context import Context
from compose.cli.options import Args, Command, HelpAsked, Option, parse
from compose.cli.transfer import PULL, PUSH, pull, push
from compose.cli.view.table import columns
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import Image

COMMAND = Command(
    "image",
    "Pull, make, load, list, push and remove images",
    words="pull|push|bootstrap|load|import|ls|rm|inspect [ARG...]",
    stops_at_word=True,
    can_run_dry=False,
)

BOOTSTRAP = Command(
    "image bootstrap",
    "Make a Debian base image from the archive that this host's apt uses",
    words="[REFERENCE]",
    options=[
        Option("--package", metavar="NAME", many=True, help="Install this package too; repeatable"),
        Option("--suite", metavar="SUITE", help="Debian suite; default from the reference, else the host's"),
        Option("--arch", metavar="ARCH", help="Debian architecture; default the host's"),
    ],
)
LOAD = Command(
    "image load",
    "Load images from a docker-save tar or an OCI layout",
    words="[PATH]",
    options=[Option("-i", "--input", metavar="PATH", help="The tar or folder; - is standard input")],
)
IMPORT = Command(
    "image import",
    "Make an image from the tar of a root file system",
    words="TAR REFERENCE",
    options=[
        Option("-c", "--change", metavar="INSTRUCTION", many=True, help="Dockerfile instruction to apply; repeatable")
    ],
)
LS = Command(
    "image ls",
    "List images",
    options=[
        Option("-q", "--quiet", help="Only IDs"),
        Option("--format", metavar="FORMAT", choices=("table", "json"), default="table", help="table or json"),
    ],
)
RM = Command(
    "image rm",
    "Remove images",
    words="REFERENCE...",
    options=[Option("-f", "--force", help="Also where several tags point to the image")],
)
INSPECT = Command(
    "image inspect",
    "Show an image's configuration as JSON",
    words="REFERENCE...",
    options=[
        Option("--remote", help="Ask its registry, and fetch nothing"),
        Option("--platform", metavar="PLATFORM", help="With --remote: which of its platforms; default this machine's"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Run the sub-command."""
    name, *rest = args.words or [""]
    if name not in _SUBCOMMANDS:
        raise InvalidInput(
            f'unknown command "image {name}"' if name else "image needs a command",
            hint=f"one of: {', '.join(_SUBCOMMANDS)}",
        )
    command, act = _SUBCOMMANDS[name]
    try:
        own = parse(command, rest)
    except HelpAsked:
        from compose.cli.help import show_command

        return show_command(command)
    if command is build_image.COMMAND:
        return build_image.run(context, own)
    with context.engine(warm=name == "bootstrap") as engine:
        act(engine, own)
    return 0


def _bootstrap(engine: Engine, args: Args) -> None:
    reference = args.words[0] if args.words else "debian:bookworm-slim"
    progress = _Progress()
    image = engine.bootstrap(
        reference,
        suite=args.text("suite"),
        arch=args.text("arch"),
        packages=args.many("package"),
        progress=progress,
    )
    progress.end()
    print(f"{reference}  {_short(image)}  {size(image.size_bytes)}")


def _load(engine: Engine, args: Args) -> None:
    from engine.images.archive import load

    path = args.text("input") or (args.words[0] if args.words else "")
    if not path:
        raise InvalidInput("image load needs a path", hint="for example: umiak image load -i image.tar")
    progress = _Progress()
    images = load(engine.images, path, progress=progress)
    progress.end()
    for image in images:
        print(f"Loaded image: {', '.join(image.tags) or image.id}")


def _import(engine: Engine, args: Args) -> None:
    from engine.images.archive import import_rootfs

    if len(args.words) != 2:
        raise InvalidInput(
            "image import needs a tar and a reference", hint="for example: umiak image import rootfs.tar base:latest"
        )
    path, reference = args.words
    print(import_rootfs(engine.images, path, reference, args.many("change")).id)


def _ls(engine: Engine, args: Args) -> None:
    images = engine.images.all()
    if args.flag("quiet"):
        print("".join(f"{_short(image)}\n" for image in images), end="")
    elif args.text("format") == "json":
        print(json.dumps([_record(image) for image in images], indent=2))
    else:
        rows = [("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE")]
        rows += [row for image in images for row in _rows(image)]
        print("\n".join(columns(rows)))


def _rows(image: Image) -> list[tuple[str, str, str, str, str]]:
    from compose.cli.view.listing import ago

    rest = (_short(image), ago(time.time() - image.created_at), size(image.size_bytes))
    tags = [tag.rpartition(":") for tag in image.tags] or [("<none>", ":", "<none>")]
    return [(repository, tag, *rest) for repository, _, tag in tags]


def _record(image: Image) -> dict[str, object]:
    return {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "Created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(image.created_at)),
        "Size": image.size_bytes,
        "Architecture": image.architecture,
        "Os": image.os,
    }


def _rm(engine: Engine, args: Args) -> None:
    if not args.words:
        raise InvalidInput("image rm needs a reference", hint="umiak image ls lists them")
    for reference in args.words:
        for line in engine.images.remove(reference, force=args.flag("force")):
            print(line)


def _inspect(engine: Engine, args: Args) -> None:
    if not args.words:
        raise InvalidInput("image inspect needs a reference", hint="umiak image ls lists them")
    if args.flag("remote"):
        print(json.dumps([_remote(reference, args) for reference in args.words], indent=2, ensure_ascii=False))
        return
    images = [engine.images.resolve(reference) for reference in args.words]
    shown = [
        {
            **_record(image),
            "RepoDigests": engine.images.repo_digests(image.id),
            "Layers": list(image.layers),
            "Config": engine.images.config_json(image.id).get("config", {}),
        }
        for image in images
    ]
    print(json.dumps(shown, indent=2, ensure_ascii=False))


def _remote(reference: str, args: Args) -> dict[str, object]:
    from compose.cli.transfer import Layers
    from engine.images.registry.remote import inspect_remote

    with Layers(reference, quiet=True) as warnings:
        return inspect_remote(reference, platform=args.text("platform"), progress=warnings)


class _Progress:
    """One line about how far it is: rewritten on a terminal, a new one for each step elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = ""
        self._drawn = 0.0

    def __call__(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._live:
            if text == self._shown and now - self._drawn < 0.1 and done != total:
                return
            self._shown, self._drawn = text, now
            amount = f"  {done}/{total}" if total else ""
            sys.stderr.write(f"\r{text}{amount}\x1b[K")
            sys.stderr.flush()
        elif text != self._shown:
            self._shown = text
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._live and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def size(size_bytes: int) -> str:
    """A size as Docker prints it: three digits, powers of 1000."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}TB"


def _short(image: Image) -> str:
    return image.id.removeprefix("sha256:")[:12]


_SUBCOMMANDS: dict[str, tuple[Command, Callable[[Engine, Args], None]]] = {
    "pull": (PULL, pull),
    "push": (PUSH, push),
    "bootstrap": (BOOTSTRAP, _bootstrap),
    "build": (build_image.COMMAND, lambda _engine, _args: None),
    "load": (LOAD, _load),
    "import": (IMPORT, _import),
    "ls": (LS, _ls),
    "list": (LS, _ls),
    "rm": (RM, _rm),
    "inspect": (INSPECT, _inspect),
}

SUBCOMMANDS = (PULL, PUSH, BOOTSTRAP, build_image.COMMAND, LOAD, IMPORT, LS, RM, INSPECT)
"""For the reference."""
