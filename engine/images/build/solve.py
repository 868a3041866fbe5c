"""What each stage of a Dockerfile comes to, before anything is run.

Variables are replaced, the configuration is worked out, and every step that touches files gets its cache key: all of that
follows from the Dockerfile, the arguments, the base images and the content of the context.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput, NotFound, Unsupported
from engine.images.build import instructions as ins
from engine.images.build.cache import key_of
from engine.images.build.context import Context, Match
from engine.images.build.expand import expand, expand_heredoc
from engine.images.build.imageconfig import DEFAULT_PATH, ImageSettings
from engine.images.build.parse import Place, heredoc_name, located
from engine.images.build.sources import context_matches
from engine.images.build.stages import Dockerfile, Stage
from engine.images.build.work import (
    CopyWork,
    FromContext,
    FromImage,
    FromStage,
    MakeDirectoryWork,
    RunWork,
    SolvedStage,
    Step,
    Work,
)
from engine.images.config import host_architecture

if TYPE_CHECKING:
    from engine.images.store import ImageStore
    from engine.types import Image

PROXY_ARGS = frozenset(
    name
    for plain in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (plain, plain.upper())
)
_OCTAL = re.compile(r"[0-7]{3,4}$")


class Solver:
    """Works out the stages that a target needs, each once."""

    def __init__(
        self, dockerfile: Dockerfile, context: Context, store: ImageStore, args: Mapping[str, str | None]
    ) -> None:
        self.dockerfile = dockerfile
        self.context = context
        self.store = store
        self.build_args = {name: value for name, value in args.items() if value is not None}
        self.consumed: set[str] = set()
        self.warnings: list[tuple[Place, str]] = []
        self.stages: dict[int, SolvedStage] = {}
        self.platform_args = _platform_args()
        self.global_args = self._global_args()

    def solve(self, stage: Stage) -> SolvedStage:
        """Work out a stage, and before it those it needs."""
        if stage.index not in self.stages:
            self.stages[stage.index] = _StageSolver(self, stage).run()
        return self.stages[stage.index]

    def argument(self, name: str, default: str | None) -> str | None:
        """The value of an ARG: what the caller gave, else its default."""
        self.consumed.add(name)
        return self.build_args.get(name, default)

    def unused_args(self) -> list[str]:
        """The build arguments that no ARG asked for."""
        return sorted(set(self.build_args) - self.consumed - PROXY_ARGS - set(self.platform_args))

    def image(self, reference: str) -> Image:
        """An image from the store."""
        return self.store.resolve(reference)

    def _global_args(self) -> dict[str, str | None]:
        values: dict[str, str | None] = {}
        for instruction in self.dockerfile.global_args:
            with located(instruction.place):
                for name, default in instruction.pairs:
                    known = {**self.platform_args, **values}
                    text = None if default is None else expand(default, known.get, instruction.escape)
                    values[name] = self.argument(name, text if text is not None else self.platform_args.get(name))
        return values


class _StageSolver:
    """Works out one stage, instruction by instruction."""

    def __init__(self, solver: Solver, stage: Stage) -> None:
        self.solver = solver
        self.stage = stage
        self.args: dict[str, str | None] = {}
        self.steps: list[Step] = []
        self.total = 1 + sum(isinstance(item, ins.Run | ins.Copy | ins.Workdir) for item in stage.instructions)
        self.number = 1
        with located(stage.from_.place):
            self._start()

    def run(self) -> SolvedStage:
        for instruction in self.stage.instructions:
            with located(instruction.place):
                self._apply(instruction)
        return SolvedStage(self.stage.name, self.base, tuple(self.steps), self.settings, self.key)

    def _start(self) -> None:
        """FROM: another stage, scratch or an image."""
        known = {**self.solver.platform_args, **self.solver.global_args}
        from_ = self.stage.from_
        _check_platform(from_.platform and expand(from_.platform, known.get, from_.escape))
        reference = expand(from_.image, known.get, from_.escape)
        if not reference:
            raise InvalidInput(
                f"FROM {from_.image} names no image", hint="give the ARG above a default, or use --build-arg"
            )
        earlier = self.solver.dockerfile.earlier(reference, self.stage.index)
        self.base: Image | None = None
        if earlier is not None:
            start = self.solver.solve(earlier)
            self.base, self.key, self.settings = start.base, start.key, start.settings.copy()
            self.steps.extend(start.steps)
        elif reference == "scratch":
            self.key, self.settings = key_of("scratch"), ImageSettings(None)
        else:
            self.base = self.solver.image(reference)
            document = self.solver.store.config_json(self.base.id)
            self.key, self.settings = key_of("layers", self.base.layers), ImageSettings(document)
            if (document.get("config") or {}).get("OnBuild"):
                raise Unsupported(
                    f"image {reference} has ONBUILD instructions, which this version of umiak does not run",
                    hint="write them into this Dockerfile, and build on the image they came from",
                )

    def _apply(self, instruction: ins.Instruction) -> None:
        _HANDLERS[type(instruction)](self, instruction)

    def lookup(self, name: str) -> str | None:
        """A variable: ENV goes before ARG."""
        value = self.settings.env.get(name)
        return self.args.get(name) if value is None else value

    def _expand(self, word: str, instruction: ins.Instruction) -> str:
        return expand(word, self.lookup, instruction.escape)

    def _expand_pairs(self, instruction: ins.Env | ins.Label) -> dict[str, str]:
        """All pairs, with the variables as they were before the instruction."""
        return {self._expand(name, instruction): self._expand(value, instruction) for name, value in instruction.pairs}

    def _note(self, instruction: ins.Instruction, created_by: str) -> None:
        """Record a step that changes the configuration only."""
        self.steps.append(
            Step(
                instruction.place,
                self.stage.name,
                self.number,
                self.total,
                instruction.text,
                created_by,
                self.key,
                None,
            )
        )

    def _work(self, instruction: ins.Instruction, created_by: str, work: Work, *key: object) -> None:
        self.key = key_of(self.key, *key)
        self.number += 1
        self.steps.append(
            Step(
                instruction.place,
                self.stage.name,
                self.number,
                self.total,
                instruction.text,
                created_by,
                self.key,
                work,
            )
        )

    def arg(self, instruction: ins.Arg) -> None:
        for word, default in instruction.pairs:
            name = self._expand(word, instruction)
            if default is not None:
                inherited: str | None = self._expand(default, instruction)
            else:
                inherited = self.solver.global_args.get(name, self.solver.platform_args.get(name))
            self.args[name] = self.solver.argument(name, inherited)
        self._note(instruction, instruction.text)

    def env(self, instruction: ins.Env) -> None:
        pairs = self._expand_pairs(instruction)
        for name, value in pairs.items():
            if not name:
                raise InvalidInput("ENV has an empty name")
            self.settings.set_env(name, value)
        self._note(instruction, "ENV " + " ".join(f"{name}={value}" for name, value in pairs.items()))

    def label(self, instruction: ins.Label) -> None:
        pairs = self._expand_pairs(instruction)
        self.settings.set_labels(pairs)
        self._note(instruction, "LABEL " + " ".join(f"{name}={value}" for name, value in pairs.items()))

    def maintainer(self, instruction: ins.Maintainer) -> None:
        self.settings.author = instruction.author
        self._note(instruction, instruction.text)

    def user(self, instruction: ins.User) -> None:
        user = self._expand(instruction.user, instruction)
        if not user:
            raise InvalidInput(f"{instruction.text} names no user")
        self.settings.config["User"] = user
        self._note(instruction, f"USER {user}")

    def expose(self, instruction: ins.Expose) -> None:
        ports = [port for word in instruction.ports for port in self._expand(word, instruction).split()]
        for port in ports:
            self.settings.expose(port)
        self._note(instruction, f"EXPOSE {' '.join(ports)}")

    def volume(self, instruction: ins.Volume) -> None:
        paths = [self._expand(path, instruction) for path in instruction.paths]
        for path in paths:
            if not path:
                raise InvalidInput(f"{instruction.text} has an empty path")
            self.settings.add_volume(path)
        self._note(instruction, f"VOLUME {json.dumps(paths)}")

    def stop_signal(self, instruction: ins.StopSignal) -> None:
        self.settings.set_stop_signal(self._expand(instruction.signal, instruction))
        self._note(instruction, f"STOPSIGNAL {self.settings.config['StopSignal']}")

    def shell(self, instruction: ins.Shell) -> None:
        self.settings.config["Shell"] = list(instruction.words)
        self._note(instruction, f"SHELL {json.dumps(instruction.words)}")

    def cmd(self, instruction: ins.Cmd) -> None:
        self.settings.set_cmd(instruction.command)
        self._note(instruction, f"CMD {json.dumps(self.settings.config['Cmd'])}")

    def entrypoint(self, instruction: ins.Entrypoint) -> None:
        self.settings.set_entrypoint(instruction.command)
        self._note(instruction, f"ENTRYPOINT {json.dumps(self.settings.config['Entrypoint'])}")

    def healthcheck(self, instruction: ins.Healthcheck) -> None:
        self.settings.set_healthcheck(instruction)
        self._note(instruction, instruction.text)

    def workdir(self, instruction: ins.Workdir) -> None:
        path = self._absolute(self._expand(instruction.path, instruction))
        self.settings.config["WorkingDir"] = path
        work = MakeDirectoryWork(path, self.settings.user)
        self._work(instruction, f"WORKDIR {path}", work, "mkdir", path, work.user)

    def run_(self, instruction: ins.Run) -> None:
        argv = self.settings.argv(instruction.command)
        if not argv or not argv[0]:
            raise InvalidInput("RUN has no command")
        env = self.settings.env
        declared = {name: value for name, value in self.args.items() if value is not None and name not in env}
        visible = {**declared, **env}
        visible.setdefault("PATH", DEFAULT_PATH)
        proxies = {
            name: value for name, value in self.solver.build_args.items() if name in PROXY_ARGS and name not in visible
        }
        work = RunWork(tuple(argv), _env_list({**visible, **proxies}), self.settings.working_dir, self.settings.user)
        shown = f"|{len(declared)} {' '.join(_env_list(declared))} " if declared else ""
        created_by = f"RUN {shown}{' '.join(argv)}"
        self._work(instruction, created_by, work, "run", argv, _env_list(visible), work.cwd, work.user)

    def copy(self, instruction: ins.Copy) -> None:
        keyword = "ADD" if instruction.is_add else "COPY"
        words = [self._expand(word, instruction) for word in (*instruction.sources, instruction.destination)]
        *sources, written = words
        into_directory = written.endswith(("/", "/.")) or written in (".", "..", "")
        if len(sources) > 1 and not into_directory:
            raise InvalidInput(
                f"{keyword} of several sources needs a directory as its destination",
                hint=f"end it with a slash: {written}/",
            )
        texts = _texts(instruction, self.lookup)
        names = {name for name, _ in texts}
        files = [source for source in sources if heredoc_name(source) not in names]
        chown = None if instruction.chown is None else self._expand(instruction.chown, instruction)
        mode = None if instruction.chmod is None else _mode(self._expand(instruction.chmod, instruction))
        source, source_key = self._source(instruction, files)
        work = CopyWork(
            source,
            texts,
            self._absolute(written),
            into_directory,
            chown,
            mode,
            instruction.is_add and instruction.from_ is None,
        )
        flags = "".join(
            f" --{name}={value}"
            for name, value in (("from", instruction.from_), ("chown", chown), ("chmod", instruction.chmod))
            if value is not None
        )
        created_by = f"{keyword}{flags} {' '.join(words)}"
        key = ("copy", source_key, texts, work.destination, into_directory, chown, mode, work.unpacks)
        self._work(instruction, created_by, work, *key)

    def _source(self, instruction: ins.Copy, patterns: list[str]) -> tuple[FromContext | FromStage | FromImage, object]:
        """Where files come from, and what stands for them in the key."""
        if instruction.from_ is None:
            matches = tuple(match for pattern in patterns for match in self._matches(instruction, pattern))
            return FromContext(matches), [(match.name, self.solver.context.digest(match.path)) for match in matches]
        name = self._expand(instruction.from_, instruction)
        stage = self._stage(name)
        if stage is not None:
            return FromStage(stage.index, tuple(patterns)), ("tree", self.solver.solve(stage).key, patterns)
        image = self.solver.image(name)
        return FromImage(image, tuple(patterns)), ("tree", key_of("layers", image.layers), patterns)

    def _stage(self, name: str) -> Stage | None:
        """The stage that --from means: by name or by number. None: it means an image."""
        dockerfile, index = self.solver.dockerfile, self.stage.index
        if name.isascii() and name.isdigit():
            number = int(name[:9])
            if number >= index:
                raise NotFound(
                    f"--from={name}: there is no such stage above this one", hint="stages are counted from 0"
                )
            return dockerfile.stages[number]
        found = dockerfile.earlier(name, index)
        if found is None and dockerfile.earlier(name, len(dockerfile.stages)) is not None:
            raise InvalidInput(
                f"--from={name}: this stage is not above this line", hint="a stage can only use those before it"
            )
        return found

    def _matches(self, instruction: ins.Copy, pattern: str) -> list[Match]:
        keyword = instruction.text.split()[0]
        matches = context_matches(self.solver.context, keyword, pattern)
        if not matches:
            text = f"{keyword} {pattern}: nothing in the build context matches"
            self.solver.warnings.append((instruction.place, text))
        return matches

    def _absolute(self, path: str) -> str:
        return "/" + posixpath.normpath(posixpath.join("/", self.settings.working_dir, path)).lstrip("/")


_HANDLERS: dict[type[ins.Instruction], Callable[[_StageSolver, Any], None]] = {
    ins.Arg: _StageSolver.arg,
    ins.Env: _StageSolver.env,
    ins.Label: _StageSolver.label,
    ins.Maintainer: _StageSolver.maintainer,
    ins.User: _StageSolver.user,
    ins.Expose: _StageSolver.expose,
    ins.Volume: _StageSolver.volume,
    ins.StopSignal: _StageSolver.stop_signal,
    ins.Shell: _StageSolver.shell,
    ins.Cmd: _StageSolver.cmd,
    ins.Entrypoint: _StageSolver.entrypoint,
    ins.Healthcheck: _StageSolver.healthcheck,
    ins.Workdir: _StageSolver.workdir,
    ins.Run: _StageSolver.run_,
    ins.Copy: _StageSolver.copy,
}


def _env_list(env: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in env.items())


def _texts(instruction: ins.Copy, lookup: Callable[[str], str | None]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (doc.name, expand_heredoc(doc.content, lookup, instruction.escape) if doc.expand else doc.content)
        for doc in instruction.heredocs
    )


def _mode(text: str) -> int:
    if not _OCTAL.match(text):
        raise InvalidInput(f"cannot read --chmod={text}", hint="write it in octal, for example --chmod=755")
    return int(text, 8)


def _check_platform(platform: str | None) -> None:
    """Only the host's own platform can be built for."""
    if not platform:
        return
    parts = platform.lower().split("/")
    architecture = host_architecture()
    native = {architecture, os.uname().machine, *({"arm64"} if architecture == "aarch64" else ())}
    if len(parts) == 1 and parts[0] in (*native, "linux"):
        return
    if len(parts) not in (2, 3) or parts[0] != "linux" or parts[1] not in native:
        raise Unsupported(
            f"cannot build for platform {platform} on linux/{architecture}",
            hint="remove --platform, or build on such a machine",
        )


def _platform_args() -> dict[str, str]:
    architecture = host_architecture()
    platform = {"PLATFORM": f"linux/{architecture}", "OS": "linux", "ARCH": architecture, "VARIANT": ""}
    return {f"{side}{name}": value for side in ("BUILD", "TARGET") for name, value in platform.items()}
