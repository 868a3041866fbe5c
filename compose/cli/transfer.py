"""`umiak image pull` and `push`: images from and to registries, and how far they are."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.images.registry.events import Transfer

PULL = Command(
    "image pull",
    "Fetch images from their registries",
    words="REFERENCE...",
    options=[
        Option("--platform", metavar="PLATFORM", help="For another platform than this machine's: linux/arm64"),
        Option("-q", "--quiet", help="Show no progress"),
    ],
)
PUSH = Command(
    "image push",
    "Send an image to the registry that its name begins with",
    words="REFERENCE",
    options=[
        Option("--tag", metavar="TAG", many=True, help="Give it this tag there too; repeatable"),
        Option(
            "--compression",
            metavar="KIND",
            choices=("gzip", "zstd"),
            default="gzip",
            help="How to compress layers that are not compressed yet: gzip, zstd",
        ),
        Option("-q", "--quiet", help="Show no progress"),
    ],
)
_ENDED = {"exists": "already there", "mounted": "taken over from another repository", "done": "done"}
_FRAME_S = 0.1


def pull(engine: Engine, args: Args) -> None:
    """Run `image pull`."""
    if not args.words:
        raise InvalidInput("image pull needs a reference", hint="for example: umiak image pull redis:7")
    for reference in args.words:
        with Layers(f"pulling {reference}", quiet=args.flag("quiet")) as layers:
            image = engine.pull(reference, platform=args.text("platform"), progress=layers)
        print(next(iter(image.tags), reference) if args.flag("quiet") else f"{reference}  {image.id}")


def push(engine: Engine, args: Args) -> None:
    """Run `image push`."""
    if len(args.words) != 1:
        raise InvalidInput("image push needs one reference", hint="for example: umiak image push registry.lan/app:1")
    reference = args.words[0]
    with Layers(f"pushing {reference}", quiet=args.flag("quiet")) as layers:
        pushed = engine.push(
            reference, tags=args.many("tag"), compression=args.text("compression") or "gzip", progress=layers
        )
    for name in pushed.references:
        print(name if args.flag("quiet") else f"{name}  {pushed.digest}")


class Layers:
    """Shows a transfer on stderr: one line rewritten on a terminal, a line for each layer that is done elsewhere."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._layers: dict[str, Transfer] = {}
        self._drawn = 0.0

    def __enter__(self) -> Layers:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def __call__(self, transfer: Transfer) -> None:
        """Take in what changed."""
        if transfer.state in ("warning", "retrying"):
            self._clear()
            warn(transfer.message)
            return
        before = self._layers.get(transfer.id)
        if transfer.id:
            self._layers[transfer.id] = transfer
        if self._live:
            self._draw()
        elif transfer.state in _ENDED and not self._quiet and (before is None or before.state != transfer.state):
            print(f"{transfer.id}: {_ENDED[transfer.state]}", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn < _FRAME_S:
            return
        self._drawn = now
        moving = [layer for layer in self._layers.values() if layer.total]
        done, total = sum(layer.done for layer in moving), sum(layer.total for layer in moving)
        ended = sum(layer.state in _ENDED for layer in self._layers.values())
        amount = f"  {ended}/{len(self._layers)} layers  {done / 1e6:.1f}/{total / 1e6:.1f} MB" if total else ""
        sys.stderr.write(f"\r{self._title}{amount}\x1b[K")
        sys.stderr.flush()

    def _clear(self) -> None:
        if self._live and self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
