"""`--output`: where the result of a build goes instead of into the store: a directory, or a tar of files or of the image."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from engine.errors import InvalidInput
from engine.frozen import frozen
from engine.images.build.context import Match, Tree, explained
from engine.images.build.copy import Copier, CopyOptions
from engine.images.build.rootfs import mounted

if TYPE_CHECKING:
    from engine.images.store import ImageStore
    from engine.types import Image

KINDS = ("image", "local", "tar", "oci", "docker")
STANDARD_OUTPUT = "-"


@frozen
class Output:
    """A kind, and a path. `is_packed` false writes a layout as a directory. Of an image that stays: its further names, and
    whether the caller is to push it.
    """

    kind: str
    destination: str = ""
    is_packed: bool = True
    names: tuple[str, ...] = ()
    is_pushed: bool = False

    @property
    def is_image(self) -> bool:
        """Whether the result goes into the store, as without any output."""
        return self.kind == "image" or (self.kind == "docker" and not self.destination)


def read_output(text: str) -> Output:
    """Read `--output`: `type=…,dest=…`, or a path alone, which is a directory ("-": a tar to standard output)."""
    if "=" not in text:
        return Output("tar", text) if text == STANDARD_OUTPUT else Output("local", os.path.abspath(text))
    words = _words(text)
    kind = words.get("type", "")
    is_pushed = kind == "registry" or words.get("push") == "true"
    kind = "image" if kind == "registry" else kind
    if is_pushed and kind != "image":
        raise InvalidInput(f'the output "{text}" cannot be pushed', hint="use type=registry, or type=image,push=true")
    if kind not in KINDS:
        raise InvalidInput(f'cannot read "{text}" as an output', hint=f"type is one of registry, {', '.join(KINDS)}")
    destination = words.get("dest") or words.get("destination") or ""
    if not destination and kind in ("tar", "oci"):
        destination = STANDARD_OUTPUT
    if not destination and kind == "local":
        raise InvalidInput(f'the output "{text}" has no destination', hint=f"write type={kind},dest=path")
    if destination not in ("", STANDARD_OUTPUT):
        destination = os.path.abspath(destination)
    names = tuple(filter(None, words.get("name", "").split(",")))
    return Output(kind, destination, words.get("tar", "true") != "false", names, is_pushed)


def _words(text: str) -> dict[str, str]:
    """The `key=value` words between commas. A value that holds commas is put into double quotes, as in CSV."""
    import csv

    [row] = csv.reader([text])
    return dict(word.partition("=")[::2] for word in row)


def write_files(output: Output, layer_dirs: Sequence[str], scratch: str) -> None:
    """Write the files of a root, merged from `layer_dirs` (lowest first), to a directory or a tar. `scratch` is empty."""
    with mounted(layer_dirs, scratch) as root_fd:
        if output.kind == "local":
            _write_directory(Tree(root_fd), output.destination)
        else:
            from engine.images.diff import write_tar

            with _opened(output.destination) as file:
                write_tar(f"/proc/self/fd/{root_fd}/", file.write)


def write_image(output: Output, store: ImageStore, image: Image, tags: Sequence[str]) -> None:
    """Write an image as a tar or, not packed, as a directory: an OCI layout, of kind "docker" one that `docker load` reads too."""
    from engine.images.save import save_built, save_directory

    if output.is_packed:
        with _opened(output.destination) as file:
            save_built(store, image, tags, file.write, format=output.kind)
        return
    try:
        save_directory(store, image, tags, output.destination, format=output.kind)
    except OSError as error:
        raise explained(error, f"cannot write to {output.destination}") from error


def _write_directory(tree: Tree, destination: str) -> None:
    try:
        os.makedirs(destination, exist_ok=True)
        fd = os.open(destination, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            owner = None if os.geteuid() == 0 else (os.getuid(), os.getgid())
            with Copier(Tree(fd), CopyOptions(owner)) as copier:
                copier.copy(tree, Match("", ""), "/", into_directory=True)
        finally:
            os.close(fd)
    except OSError as error:
        raise explained(error, f"cannot write to {destination}") from error


@contextmanager
def _opened(destination: str) -> Iterator[BinaryIO]:
    """A file that appears when it is whole, or standard output."""
    if destination == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise InvalidInput(
                "an archive is not written to a terminal", hint="redirect it, or give the output a dest="
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    temporary = f"{destination}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
        os.rename(temporary, destination)
    except OSError as error:
        raise explained(error, f"cannot write {destination}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
