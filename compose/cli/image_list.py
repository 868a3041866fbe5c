"""`umiak image ls`, `inspect`, `history`, `tag`, `rm` and `prune`: the images that are in the store."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from compose.cli.group import confirmed, each, needs_words
from compose.cli.options import Args, Command, Option
from compose.cli.view.template import inspected, listing
from compose.cli.view.units import human_size, iso_time, local_time, short_id
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.images.describe import HistoryEntry
    from engine.types import Image

LS = Command(
    "image ls",
    "List images",
    words="[REPOSITORY[:TAG]]",
    options=[
        Option("-a", "--all", help="Accepted for compatibility: there are no intermediate images to hide"),
        Option("-q", "--quiet", help="Only IDs"),
        Option("--no-trunc", help="Do not shorten"),
        Option("--digests", help="Show digests"),
        Option(
            "-f",
            "--filter",
            metavar="FILTER",
            many=True,
            help="dangling=, reference=, label=, before=, since= or until=; repeatable",
        ),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
INSPECT = Command(
    "image inspect",
    "Show images as JSON",
    words="REFERENCE...",
    options=[
        Option("-f", "--format", metavar="FORMAT", help="json or a Go template"),
        Option("--remote", help="Ask its registry, and fetch nothing"),
        Option("--platform", metavar="PLATFORM", help="With --remote: which of its platforms; default this machine's"),
    ],
)
HISTORY = Command(
    "image history",
    "Show how an image came about",
    words="REFERENCE",
    options=[
        Option("-q", "--quiet", help="Only IDs"),
        Option("--no-trunc", help="Do not shorten"),
        Option("-H", "--human", default="true", help="Sizes and times for people; --human=false for exact ones"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
TAG = Command("image tag", "Give an image one more name", words="REFERENCE NEW")
RM = Command(
    "image rm",
    "Remove images",
    words="REFERENCE...",
    options=[Option("-f", "--force", help="Also where several tags point to the image; names of used images too")],
)
PRUNE = Command(
    "image prune",
    "Remove images that nothing uses",
    options=[
        Option("-a", "--all", help="All that no container uses, not only untagged ones"),
        Option("-f", "--force", help="Do not ask"),
        Option("--filter", metavar="FILTER", many=True, help="until=, label= or label!=; repeatable"),
    ],
)
_NONE = "<none>"
_CREATED_BY_LENGTH = 45


def ls(engine: Engine, args: Args) -> None:
    """Run `image ls`."""
    from engine.images.select import select

    filters = [*args.many("filter"), *(f"reference={_any_tag(word)}" for word in args.words[:1])]
    images = select(engine.images, filters)
    if args.flag("quiet"):
        print("".join(f"{line}\n" for line in dict.fromkeys(_id(image.id, args) for image in images)), end="")
        return
    in_use = _uses(engine)
    patterns = [text.partition("=")[2] for text in filters if text.startswith("reference=")]
    rows = [row for image in images for row in _rows(engine, image, args, in_use) if _is_named(row, patterns)]
    shown = {"REPOSITORY": "Repository", "TAG": "Tag"}
    shown |= {"DIGEST": "Digest"} if args.flag("digests") else {}
    shown |= {"IMAGE ID": "ID", "CREATED": "CreatedSince", "SIZE": "Size"}
    print("".join(f"{line}\n" for line in listing(rows, shown, args.text("format") or "table")), end="")


def _any_tag(word: str) -> str:
    """A name without a tag stands for all of its tags."""
    return word.removesuffix(":") if ":" in word.rpartition("/")[2] or "*" in word else word


def _rows(engine: Engine, image: Image, args: Args, in_use: dict[str, int]) -> list[dict[str, Any]]:
    """One row for each name, or one for an image without."""
    digests = dict(digest.split("@", 1) for digest in engine.images.repo_digests(image.id))
    names = [tag.rpartition(":")[::2] for tag in image.tags] or [(next(iter(digests), _NONE), _NONE)]
    return [
        {
            "Containers": str(in_use.get(image.id, 0)),
            "CreatedAt": local_time(image.created_at),
            "CreatedSince": _since(image.created_at),
            "Digest": digests.get(repository, _NONE),
            "ID": _id(image.id, args),
            "Repository": repository,
            "SharedSize": "N/A",
            "Size": human_size(image.size_bytes),
            "Tag": tag,
            "UniqueSize": "N/A",
            "VirtualSize": human_size(image.size_bytes),
        }
        for repository, tag in names
    ]


def _is_named(row: dict[str, Any], patterns: list[str]) -> bool:
    """Whether a name is one of those asked for: the image's other names are not shown then."""
    from engine.images.select import matches_reference

    tag = f"{row['Repository']}:{row['Tag']}"
    return not patterns or any(matches_reference(tag, pattern) for pattern in patterns)


def _uses(engine: Engine) -> dict[str, int]:
    rows = engine.state.rows("SELECT image_id, count(*) AS uses FROM containers GROUP BY image_id")
    return {row["image_id"]: row["uses"] for row in rows}


def _since(created_at: float) -> str:
    from compose.cli.view.listing import ago

    return ago(time.time() - created_at) if created_at else "N/A"


def _id(image_id: str, args: Args) -> str:
    return image_id if args.flag("no-trunc") else short_id(image_id)


def inspect(engine: Engine, args: Args) -> int:
    """Run `image inspect`: what is found is shown even where one is missing."""
    from engine.images.describe import describe

    needs_words(args, INSPECT, "a reference")
    if args.flag("remote"):
        print(json.dumps([_remote(reference, args) for reference in args.words], indent=4, ensure_ascii=False))
        return 0
    found: list[dict[str, Any]] = []
    code = each(args.words, lambda reference: found.append(describe(engine.images, engine.images.resolve(reference))))
    print(inspected(found, args.text("format")))
    return code


def _remote(reference: str, args: Args) -> dict[str, object]:
    from compose.cli.transfer import Layers
    from engine.images.registry.remote import inspect_remote

    with Layers(reference, quiet=True) as warnings:
        return inspect_remote(reference, platform=args.text("platform"), progress=warnings)


def show_history(engine: Engine, args: Args) -> None:
    """Run `image history`."""
    from engine.images.describe import history

    [reference] = needs_words(args, HISTORY, "a reference")[:1]
    entries = history(engine.images, engine.images.resolve(reference))
    rows = [_step(entry, args) for entry in entries]
    if args.flag("quiet"):
        print("".join(f"{row['ID']}\n" for row in rows), end="")
        return
    shown = {"IMAGE": "ID", "CREATED": "CreatedSince", "CREATED BY": "CreatedBy", "SIZE": "Size", "COMMENT": "Comment"}
    print("".join(f"{line}\n" for line in listing(rows, shown, args.text("format") or "table")), end="")


def _step(entry: HistoryEntry, args: Args) -> dict[str, Any]:
    is_for_people = not args.given("human") or args.flag("human")
    created_by = " ".join(entry.created_by.split())
    if not args.flag("no-trunc") and len(created_by) > _CREATED_BY_LENGTH:
        created_by = f"{created_by[: _CREATED_BY_LENGTH - 1]}…"
    return {
        "Comment": entry.comment,
        "CreatedAt": iso_time(entry.created_at),
        "CreatedBy": created_by,
        "CreatedSince": _since(entry.created_at) if is_for_people else iso_time(entry.created_at),
        "ID": _id(entry.image_id, args) if entry.image_id else "<missing>",
        "Size": human_size(entry.size_bytes) if is_for_people else str(entry.size_bytes),
    }


def tag(engine: Engine, args: Args) -> None:
    """Run `image tag`."""
    if len(args.words) != 2:
        raise InvalidInput("image tag needs an image and its new name", hint="for example: umiak image tag app:1 app:2")
    image, name = args.words
    engine.images.tag(engine.images.resolve(image).id, name)


def rm(engine: Engine, args: Args) -> int:
    """Run `image rm`: what can go goes, even where one is missing or in use."""

    def remove(reference: str) -> None:
        for line in engine.images.remove(reference, force=args.flag("force")):
            print(line[:1].upper() + line[1:])

    return each(needs_words(args, RM, "a reference"), remove)


def prune(engine: Engine, args: Args) -> int:
    """Run `image prune`."""
    everything = args.flag("all")
    what = "all images that no container uses" if everything else "all dangling images"
    if not confirmed(args, f"This will remove {what}."):
        return 1
    pruned = engine.prune_images(everything=everything, filters=args.many("filter"))
    if pruned.removed:
        print("Deleted Images:")
        print("".join(f"{line[:1].upper()}{line[1:]}\n" for line in pruned.removed))
    print(f"Total reclaimed space: {human_size(pruned.freed_bytes)}")
    return 0
