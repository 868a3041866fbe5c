"""`umiak image`: the images in the store, and the ways in and out of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from compose.cli import build_image, image_list
from compose.cli.context import Context
from compose.cli.group import Action, needs_words, unknown_word
from compose.cli.options import Args, Command, HelpAsked, Option, parse
from compose.cli.transfer import PULL, PUSH, pull, push
from compose.cli.view.units import human_size, short_id
from engine.errors import Denied, InvalidInput

if TYPE_CHECKING:
    from engine.facade import Engine

COMMAND = Command(
    "image",
    "Pull, build, load, list, save, push and remove images",
    words="pull|push|bootstrap|build|load|save|import|ls|inspect|history|tag|rm|prune [ARG...]",
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
    options=[
        Option("-i", "--input", metavar="PATH", help="The tar or folder; default standard input"),
        Option("-q", "--quiet", help="Show no progress"),
    ],
)
IMPORT = Command(
    "image import",
    "Make an image from the tar of a root file system",
    words="TAR|URL|- [REFERENCE]",
    options=[
        Option("-c", "--change", metavar="INSTRUCTION", many=True, help="Dockerfile instruction to apply; repeatable"),
        Option("-m", "--message", metavar="TEXT", help="A line about it, for its history"),
        Option("--platform", metavar="PLATFORM", help="What it is made for; default this machine's"),
    ],
)
SAVE = Command(
    "image save",
    "Write images to a tar that docker, podman and skopeo can load",
    words="REFERENCE...",
    options=[
        Option("-o", "--output", metavar="PATH", help="The file to write; default standard output"),
        Option(
            "--format",
            metavar="FORMAT",
            choices=("docker", "oci"),
            default="docker",
            help="docker (read by all) or oci (blobs and manifest as they are stored)",
        ),
    ],
)


def run(context: Context, args: Args) -> int:
    """Run the sub-command."""
    name, *rest = args.words or [""]
    if name not in _SUBCOMMANDS:
        raise unknown_word("image", name, _SUBCOMMANDS)
    command, act = _SUBCOMMANDS[name]
    try:
        own = parse(command, rest)
    except HelpAsked:
        from compose.cli.help import show_command

        return show_command(command)
    if command is build_image.COMMAND:
        return build_image.run(context, own)
    with context.engine(warm=name == "bootstrap") as engine:
        return act(engine, own) or 0


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
    print(f"{reference}  {short_id(image.id)}  {human_size(image.size_bytes)}")


def _load(engine: Engine, args: Args) -> None:
    from engine.images.archive import load

    path = args.text("input") or (args.words[0] if args.words else "-")
    if path == "-" and sys.stdin.isatty():
        raise InvalidInput("an archive is not read from a terminal", hint="for example: umiak image load -i image.tar")
    progress = _Progress()
    images = load(engine.images, path, progress=None if args.flag("quiet") else progress)
    progress.end()
    for image in images:
        print(f"Loaded image: {', '.join(image.tags)}" if image.tags else f"Loaded image ID: {image.id}")


def _import(engine: Engine, args: Args) -> None:
    from engine.images.archive import import_rootfs

    if len(args.words) not in (1, 2):
        raise InvalidInput("image import needs a tar", hint="for example: umiak image import rootfs.tar base:latest")
    source, reference = [*args.words, None][:2]
    with _local(engine, str(source)) as path:
        image = import_rootfs(
            engine.images,
            path,
            reference,
            args.many("change"),
            message=args.text("message"),
            platform=args.text("platform"),
        )
    print(image.id)


@contextmanager
def _local(engine: Engine, source: str) -> Iterator[str]:
    """The path of a file, fetched where `source` is a URL."""
    from engine.images.build.cancel import Cancellation
    from engine.images.build.download import Downloads, is_url

    if not is_url(source):
        yield source
        return
    downloads = Downloads(engine.paths.downloads, Cancellation())
    with downloads.opened(downloads.find(source, None)) as (path, _):
        yield path


def _save(engine: Engine, args: Args) -> None:
    references = needs_words(args, SAVE, "a reference")
    path, format = args.text("output"), args.text("format") or "docker"
    if path in (None, "-"):
        if sys.stdout.isatty():
            raise InvalidInput("cannot write an archive to a terminal", hint="use --output, or redirect the output")
        engine.save(references, sys.stdout.buffer.write, format=format)
        return
    with _whole_file(str(path)) as file:
        engine.save(references, file.write, format=format)


@contextmanager
def _whole_file(path: str) -> Iterator[BinaryIO]:
    """A file that appears under its name when all of it is written. A device or a pipe is written as it is."""
    if os.path.exists(path) and not os.path.isfile(path):
        with _opened(path) as file:
            yield file
        return
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    try:
        with _opened(temporary) as file:
            yield file
        os.rename(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "wb")
    except OSError as error:
        raise Denied(f"cannot write {path}: {(error.strerror or '').lower()}") from error


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


_SUBCOMMANDS: dict[str, tuple[Command, Action]] = {
    "pull": (PULL, pull),
    "push": (PUSH, push),
    "bootstrap": (BOOTSTRAP, _bootstrap),
    "build": (build_image.COMMAND, lambda _engine, _args: None),
    "load": (LOAD, _load),
    "save": (SAVE, _save),
    "import": (IMPORT, _import),
    "ls": (image_list.LS, image_list.ls),
    "list": (image_list.LS, image_list.ls),
    "inspect": (image_list.INSPECT, image_list.inspect),
    "history": (image_list.HISTORY, image_list.show_history),
    "tag": (image_list.TAG, image_list.tag),
    "rm": (image_list.RM, image_list.rm),
    "prune": (image_list.PRUNE, image_list.prune),
}

SUBCOMMANDS = tuple(dict.fromkeys(command for command, _ in _SUBCOMMANDS.values()))
"""For the reference."""
