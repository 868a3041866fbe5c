"""`umiak image build`: build an image from a Dockerfile, without a Compose file."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

from compose.cli import signals
from compose.cli.context import Context
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput, UmiakError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compose.cli.view.base import View
    from engine.facade import Engine
    from engine.images.build.events import BuildEvent
    from engine.images.build.request import BuildRequest
    from engine.types import Image, StepOptions, Ulimit

COMMAND = Command(
    "image build",
    "Build an image from a Dockerfile",
    words="DIRECTORY|URL|-",
    options=[
        Option("-f", "--file", metavar="PATH", help="The Dockerfile; default CONTEXT/Dockerfile; - is standard input"),
        Option("-t", "--tag", metavar="REFERENCE", many=True, help="Name of the image; repeatable"),
        Option("--build-arg", metavar="KEY=VALUE", many=True, help="Set a build argument; repeatable"),
        Option("--target", metavar="STAGE", help="Stage to build; default the last one"),
        Option("--label", metavar="KEY=VALUE", many=True, help="Set a label; repeatable"),
        Option("--build-context", metavar="NAME=VALUE", many=True, help="Further named context; repeatable"),
        Option("--secret", metavar="ID", many=True, help="Secret for RUN: id=NAME[,src=FILE|,env=NAME]; repeatable"),
        Option(
            "--ssh",
            metavar="ID",
            many=True,
            help="SSH agent or keys for RUN: default, NAME=SOCKET or NAME=KEY,…; repeatable",
        ),
        Option("--allow", metavar="NAME", many=True, help="Let RUN ask for network.host or security.insecure"),
        Option("--network", metavar="MODE", default="default", help="Network of RUN: default, none, host or a name"),
        Option("--add-host", metavar="NAME:IP", many=True, help="Host name for RUN; repeatable"),
        Option("--shm-size", metavar="SIZE", help="Size of /dev/shm in RUN"),
        Option(
            "--ulimit", metavar="LIMIT", many=True, help="Resource limit of RUN, such as nofile=1024:2048; repeatable"
        ),
        Option("--no-cache", help="Do not use the build cache"),
        Option("--no-cache-filter", metavar="STAGE", many=True, help="Stage to build without the cache; repeatable"),
        Option(
            "--cache-from",
            metavar="CACHE",
            many=True,
            help="Cache to read: type=local,src=DIR, or REFERENCE; repeatable",
        ),
        Option(
            "--cache-to",
            metavar="CACHE",
            many=True,
            help="Cache to write: type=local,dest=DIR[,mode=max], type=inline or REFERENCE",
        ),
        Option("--pull", help="Look for newer base images"),
        Option("--platform", metavar="PLATFORM", many=True, help="Platform to build for: this machine's own only"),
        Option(
            "-o",
            "--output",
            metavar="OUTPUT",
            many=True,
            help="Where to: DIR, or type=local|tar|oci|docker,dest=PATH; repeatable",
        ),
        Option("--push", help="Push the image to the registries of its names, like --output type=registry"),
        Option("--load", help="Keep the image here, like --output type=image; the default"),
        Option("--metadata-file", metavar="FILE", help="Write the image's ID, digest and names to a file, as JSON"),
        Option("--iidfile", metavar="FILE", help="Write the image's ID to a file"),
        Option("--check", help="Check the Dockerfile, and build nothing"),
        Option("--progress", metavar="TYPE", help="auto, tty, plain, json or quiet"),
        Option("-q", "--quiet", help="Print the image's ID only"),
        Option("--builder", metavar="NAME", help="Accepted, and changes nothing: there is one builder"),
        Option("--provenance", metavar="VALUE", help="Accepted with a warning: images have no attestations"),
        Option("--sbom", metavar="VALUE", help="Accepted with a warning: images have no attestations"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Build it."""
    with tempfile.TemporaryDirectory(prefix="umiak-") as scratch:
        request = _request(args, scratch)
        return show_findings(request) if args.flag("check") else _run(context, args, request)


def _run(context: Context, args: Args, request: BuildRequest) -> int:
    from engine.images.build.outputs import STANDARD_OUTPUT

    context.take_progress(args)
    warn_of_attestations(args)
    quiet = args.flag("quiet")
    with context.view("image build", quiet=quiet) as view, context.engine(warm=True) as engine:
        image = _build(engine, request, view)
        if _is_pushed(args, request):
            _push(engine, request.tags, view)
        if path := args.text("metadata-file"):
            _write_metadata(engine, image, request, path)
    if iidfile := args.text("iidfile"):
        with open(iidfile, "w", encoding="ascii") as file:
            file.write(image.id)
    if quiet and not any(output.destination == STANDARD_OUTPUT for output in request.outputs):
        print(image.id)
    return 0


def _is_pushed(args: Args, request: BuildRequest) -> bool:
    return args.flag("push") or any(output.is_pushed for output in request.outputs)


def _push(engine: Engine, tags: Sequence[str], view: View) -> None:
    from engine.events import Event

    for tag in tags:
        view.sink(Event("push", "pushing", tag))
        engine.push(tag)
        view.sink(Event("push", "pushed", tag))


def _write_metadata(engine: Engine, image: Image, request: BuildRequest, path: str) -> None:
    """What buildx writes, as far as an image without attestations has it."""
    from engine.images.reference import Reference

    document = {
        "containerimage.config.digest": image.id,
        "containerimage.digest": engine.images.manifest(image.id).digest,
        "image.name": ",".join(str(Reference.parse(tag)) for tag in request.tags),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)


def warn_of_attestations(args: Args) -> None:
    """Say that what `--provenance` and `--sbom` ask for is not made."""
    for key in ("provenance", "sbom"):
        if (args.text(key) or "false").lower() not in ("false", "0"):
            warn(f"--{key} is not acted on: images have no attestations")


def show_findings(request: BuildRequest) -> int:
    """Print what `--check` finds; 1 if it finds something."""
    from engine.images.build.builder import check

    findings = check(request)
    print("\n".join(map(str, findings)) or "Check complete, no warnings found.")
    return 1 if findings else 0


def _build(engine: Engine, request: BuildRequest, view: View) -> Image:
    """Build in a thread of its own, so that an interrupt reaches no step in the middle of clearing up."""
    from compose.builds import told
    from engine.events import Event

    name = request.tags[0] if request.tags else "image"
    result: list[Image | BaseException] = []

    def progress(event: BuildEvent) -> None:
        state, data = told(event)
        view.sink(Event("build", state, name, data=data))

    def work() -> None:
        try:
            result.append(engine.build(request, progress))
        except BaseException as error:
            result.append(error)

    interrupts: list[int] = []

    def give_up(number: int) -> None:
        interrupts.append(number)
        request.cancellation.cancel()

    view.sink(Event("build", "building", name))
    thread = threading.Thread(target=work, name="build")
    with signals.on_interrupt(give_up):
        thread.start()
        thread.join()
    (found,) = result
    if isinstance(found, BaseException):
        message = found.message.split("\n")[0] if isinstance(found, UmiakError) else str(found)
        view.sink(Event("build", "error", name, data={"message": message}))
        raise signals.Interrupt(interrupts[0]) if interrupts else found
    view.sink(Event("build", "built", name, data={"message": found.id.removeprefix("sha256:")[:12]}))
    return found


def _request(args: Args, scratch: str) -> BuildRequest:
    from engine.images.build.outputs import Output, read_output
    from engine.images.build.request import BuildRequest
    from engine.images.build.secrets import read_option
    from engine.images.reference import Reference

    if len(args.words) != 1:
        raise InvalidInput("image build needs one context", hint="for example: umiak image build -t app .")
    (directory,) = args.words
    dockerfile, inline = args.text("file"), None
    if directory == "-" and dockerfile != "-":
        directory = os.path.join(scratch, "context")
        os.mkdir(directory)
        inline = _standard_input(scratch, directory)
    elif dockerfile == "-":
        dockerfile, inline = None, sys.stdin.read()
    elif dockerfile is not None:
        dockerfile = os.path.abspath(dockerfile)
    outputs = tuple(map(read_output, args.many("output")))
    tags = tuple(dict.fromkeys([*args.many("tag"), *(name for output in outputs for name in output.names)]))
    if args.flag("load") or (args.flag("push") and outputs):
        outputs = (*outputs, Output("image"))
    request = BuildRequest(
        context=directory,
        dockerfile=dockerfile,
        dockerfile_inline=inline,
        args=dict(argument(text) for text in args.many("build-arg")),
        labels={key: value or "" for key, value in (_pair(text, "label") for text in args.many("label"))},
        tags=tags,
        target=args.text("target"),
        no_cache=args.flag("no-cache"),
        no_cache_filter=_listed(args.many("no-cache-filter")),
        pull=args.flag("pull"),
        platforms=_listed(args.many("platform")),
        named_contexts=dict(_pair(text, "build-context") for text in args.many("build-context")),
        secrets=dict(map(read_option, args.many("secret"))),
        ssh=dict(map(ssh_agent, args.many("ssh"))),
        entitlements=args.many("allow"),
        options=_step_options(args),
        cache_from=args.many("cache-from"),
        cache_to=args.many("cache-to"),
        outputs=outputs,
    )
    for tag in tags:
        Reference.parse(tag)
    if _is_pushed(args, request) and not tags:
        raise InvalidInput("an image without a name cannot be pushed", hint="give it one: --tag registry/name:tag")
    return request


def _standard_input(scratch: str, context: str) -> str | None:
    """The Dockerfile on standard input; None where that is a context as an archive, which is unpacked into `context`."""
    from engine.images.build.archivecontext import is_archive, unpack

    path = os.path.join(scratch, "stdin")
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not is_archive(path):
        with open(path, encoding="utf-8", errors="replace") as text:
            return text.read()
    unpack("standard input", path, context)
    return None


def _step_options(args: Args) -> StepOptions:
    from compose.model.units import parse_bytes
    from engine.types import StepOptions

    size = args.text("shm-size")
    return StepOptions(
        network=args.text("network") or "default",
        extra_hosts=tuple(args.many("add-host")),
        shm_size_bytes=None if size is None else parse_bytes(size),
        ulimits=tuple(map(_ulimit, args.many("ulimit"))),
    )


def _ulimit(text: str) -> Ulimit:
    from engine.types import Ulimit

    name, _, value = text.partition("=")
    soft, _, hard = value.partition(":")
    try:
        return Ulimit(name, int(soft), int(hard or soft))
    except ValueError:
        raise InvalidInput(f'cannot read "{text}" as a limit', hint="for example --ulimit nofile=1024:2048") from None


def argument(text: str) -> tuple[str, str | None]:
    """Read `--build-arg KEY=VALUE`; without a value it is the environment's."""
    key, equals, value = text.partition("=")
    if not key:
        raise InvalidInput(f'cannot read "{text}" as a build argument', hint="for example --build-arg VERSION=3")
    return key, value if equals else os.environ.get(key)


def ssh_agent(text: str) -> tuple[str, str]:
    """Read `--ssh NAME[=SOCKET]` and `--ssh NAME=KEY,…`."""
    name, _, paths = text.partition("=")
    return name, ",".join(os.path.abspath(path) for path in paths.split(",") if path)


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or (not equals and option != "label"):
        raise InvalidInput(f'option --{option} cannot be "{text}"', hint=f"write --{option} NAME=VALUE")
    return key, value


def _listed(texts: list[str]) -> tuple[str, ...]:
    return tuple(item for text in texts for item in text.split(",") if item)
