"""What each stage of a Dockerfile comes to, before anything is run.

Variables are replaced, the configuration is worked out, and every step that touches files gets its cache key: all of that
follows from the Dockerfile, the arguments, the base images and the content of the context.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput, NotFound, Unsupported
from engine.images.build import instructions as ins
from engine.images.build.cache import key_of
from engine.images.build.context import Context
from engine.images.build.expand import expand
from engine.images.build.imageconfig import ImageSettings
from engine.images.build.lint import Finding
from engine.images.build.parse import Place, located
from engine.images.build.solvecopy import copy_work
from engine.images.build.solverun import PROXY_ARGS, run_work
from engine.images.build.stages import Dockerfile, Stage
from engine.images.build.surroundings import Surroundings
from engine.images.build.work import CopyWork, FromContext, MakeDirectoryWork, SolvedStage, Step, Work
from engine.images.config import host_architecture

if TYPE_CHECKING:
    from engine.images.store import ImageStore
    from engine.types import Image

_KNOWN_TO_BUILDKIT = ("BUILDKIT_", "SOURCE_DATE_EPOCH")
"""Arguments that steer BuildKit and mean nothing to a Dockerfile: nobody need ask for them."""


class Solver:
    """Works out the stages that a target needs, each once."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        store: ImageStore,
        args: Mapping[str, str | None],
        surroundings: Surroundings,
        target: str = "default",
    ) -> None:
        self.dockerfile = dockerfile
        self.store = store
        self.surroundings = surroundings
        self.build_args = {name: value for name, value in args.items() if value is not None}
        self.consumed: set[str] = set()
        self.warnings: list[tuple[Place, str]] = []
        self.findings: list[Finding] = []
        self.stages: dict[int, SolvedStage] = {}
        self.platform_args = {**_platform_args(), "TARGETSTAGE": target}
        self.global_args = self._global_args()

    def solve(self, stage: Stage) -> SolvedStage:
        """Work out a stage, and before it those it needs."""
        if stage.index not in self.stages:
            self.stages[stage.index] = StageSolver(self, stage).run()
        return self.stages[stage.index]

    def argument(self, name: str, default: str | None) -> str | None:
        """The value of an ARG: what the caller gave, else its default."""
        self.consumed.add(name)
        return self.build_args.get(name, default)

    def unused_args(self) -> list[str]:
        """The build arguments that no ARG asked for."""
        unused = set(self.build_args) - self.consumed - PROXY_ARGS - set(self.platform_args)
        return sorted(name for name in unused if not name.startswith(_KNOWN_TO_BUILDKIT))

    def _global_args(self) -> dict[str, str | None]:
        values: dict[str, str | None] = {}
        for instruction in self.dockerfile.global_args:
            with located(instruction.place):
                for name, default in instruction.pairs:
                    known = {**self.platform_args, **values}
                    text = None if default is None else expand(default, known.get, instruction.escape)
                    values[name] = self.argument(name, text if text is not None else self.platform_args.get(name))
        return values


class StageSolver:
    """Works out one stage, instruction by instruction. `key` and `settings` are as after the last one."""

    def __init__(self, solver: Solver, stage: Stage) -> None:
        self.solver = solver
        self.stage = stage
        self.args: dict[str, str | None] = {}
        self.steps: list[Step] = []
        self.base: Image | None = None
        self.refresh = stage.name.lower() in solver.surroundings.no_cache_filter
        self.number = 1
        with located(stage.from_.place):
            self._start()
            self.triggers = tuple(
                ins.read_trigger(text, stage.from_.place) for text in self.settings.config.pop("OnBuild", None) or ()
            )
        working = (ins.Run, ins.Copy, ins.Workdir)
        self.total = self.number + sum(isinstance(item, working) for item in (*self.triggers, *stage.instructions))

    def run(self) -> SolvedStage:
        """Go through the stage, what the base image puts off to here (ONBUILD) first."""
        for instruction in (*self.triggers, *self.stage.instructions):
            with located(instruction.place):
                _HANDLERS[type(instruction)](self, instruction)
        return SolvedStage(self.stage.name, self.base, tuple(self.steps), self.settings, self.key, self.refresh)

    def _start(self) -> None:
        """FROM: a named context, another stage, scratch or an image."""
        known = {**self.solver.platform_args, **self.solver.global_args}
        from_ = self.stage.from_
        check_platform(from_.platform and expand(from_.platform, known.get, from_.escape))
        reference = expand(from_.image, known.get, from_.escape)
        if not reference:
            raise InvalidInput(
                f"FROM {from_.image} names no image", hint="give the ARG above a default, or use --build-arg"
            )
        named = self.solver.surroundings.contexts.named(reference)
        earlier = self.solver.dockerfile.earlier(reference, self.stage.index)
        if isinstance(named, Context):
            self._start_from_directory(reference, named)
        elif named is not None:
            self._start_from_image(named)
        elif earlier is not None:
            start = self.solver.solve(earlier)
            self.base, self.key, self.settings = start.base, start.key, start.settings.copy()
            self.refresh = self.refresh or start.refresh
            self.steps.extend(start.steps)
        elif reference == "scratch":
            self.key, self.settings = key_of("scratch"), ImageSettings(None)
        else:
            self._start_from_image(self.solver.surroundings.bases.find(reference))

    def _start_from_image(self, image: Image) -> None:
        self.base = image
        document = self.solver.store.config_json(image.id)
        self.key, self.settings = key_of("layers", image.layers), ImageSettings(document)

    def _start_from_directory(self, name: str, context: Context) -> None:
        """A directory as a root: what is in it is copied onto scratch."""
        self.key, self.settings, self.total = key_of("scratch"), ImageSettings(None), 1
        source = FromContext(context, tuple(context.matches("/")))
        work = CopyWork(source, (), "/", True, None, None, unpacks=False)
        self.work(self.stage.from_, f"FROM {name}", work, "copy", context.digest(""), "/")

    def lookup(self, name: str) -> str | None:
        """A variable: ENV goes before ARG."""
        value = self.settings.env.get(name)
        return self.args.get(name) if value is None else value

    def expand(self, word: str, instruction: ins.Instruction) -> str:
        return expand(word, self.lookup, instruction.escape, lambda name: self._note_unknown(name, instruction))

    def _note_unknown(self, name: str, instruction: ins.Instruction) -> None:
        from difflib import get_close_matches

        if name == "PATH" or name in self.args:  # the one every process has, and what is declared may be empty
            return
        close = get_close_matches(name, [*self.settings.env, *self.args], n=1)
        hint = f"; did you mean ${close[0]}?" if close else ""
        self.solver.findings.append(Finding(instruction.place, "UndefinedVar", f"${name} has no value here{hint}"))

    def _expand_pairs(self, instruction: ins.Env | ins.Label) -> dict[str, str]:
        """All pairs, with the variables as they were before the instruction."""
        return {self.expand(name, instruction): self.expand(value, instruction) for name, value in instruction.pairs}

    def note(self, instruction: ins.Instruction, created_by: str) -> None:
        """Record a step that changes the configuration only."""
        self.steps.append(self._step(instruction, created_by, None))

    def work(self, instruction: ins.Instruction, created_by: str, work: Work, *key: object) -> None:
        """Record a step that touches files; `key` is what it depends on beside the steps before it."""
        self.key = key_of(self.key, *key)
        self.number += 1
        self.steps.append(self._step(instruction, created_by, work))

    def _step(self, instruction: ins.Instruction, created_by: str, work: Work | None) -> Step:
        return Step(
            instruction.place,
            self.stage.name,
            self.number,
            self.total,
            instruction.text,
            created_by,
            self.key,
            work,
            self.refresh,
        )

    def arg(self, instruction: ins.Arg) -> None:
        for word, default in instruction.pairs:
            name = self.expand(word, instruction)
            if default is not None:
                inherited: str | None = self.expand(default, instruction)
            else:
                inherited = self.solver.global_args.get(name, self.solver.platform_args.get(name))
            self.args[name] = self.solver.argument(name, inherited)
        self.note(instruction, instruction.text)

    def env(self, instruction: ins.Env) -> None:
        pairs = self._expand_pairs(instruction)
        for name, value in pairs.items():
            if not name:
                raise InvalidInput("ENV has an empty name", hint="for example ENV NAME=value")
            self.settings.set_env(name, value)
        self.note(instruction, "ENV " + " ".join(f"{name}={value}" for name, value in pairs.items()))

    def label(self, instruction: ins.Label) -> None:
        pairs = self._expand_pairs(instruction)
        self.settings.set_labels(pairs)
        self.note(instruction, "LABEL " + " ".join(f"{name}={value}" for name, value in pairs.items()))

    def maintainer(self, instruction: ins.Maintainer) -> None:
        self.settings.author = instruction.author
        self.note(instruction, instruction.text)

    def user(self, instruction: ins.User) -> None:
        user = self.expand(instruction.user, instruction)
        if not user:
            raise InvalidInput(f"{instruction.text} names no user", hint="for example USER app or USER 1000:1000")
        self.settings.config["User"] = user
        self.note(instruction, f"USER {user}")

    def expose(self, instruction: ins.Expose) -> None:
        ports = [port for word in instruction.ports for port in self.expand(word, instruction).split()]
        for port in ports:
            self.settings.expose(port)
        self.note(instruction, f"EXPOSE {' '.join(ports)}")

    def volume(self, instruction: ins.Volume) -> None:
        paths = [self.expand(path, instruction) for path in instruction.paths]
        for path in paths:
            if not path:
                raise InvalidInput(f"{instruction.text} has an empty path", hint="for example VOLUME /data")
            self.settings.add_volume(path)
        self.note(instruction, f"VOLUME {json.dumps(paths)}")

    def stop_signal(self, instruction: ins.StopSignal) -> None:
        self.settings.set_stop_signal(self.expand(instruction.signal, instruction))
        self.note(instruction, f"STOPSIGNAL {self.settings.config['StopSignal']}")

    def shell(self, instruction: ins.Shell) -> None:
        self.settings.config["Shell"] = list(instruction.words)
        self.note(instruction, f"SHELL {json.dumps(instruction.words)}")

    def cmd(self, instruction: ins.Cmd) -> None:
        self.settings.set_cmd(instruction.command)
        self.note(instruction, f"CMD {json.dumps(self.settings.config['Cmd'])}")

    def entrypoint(self, instruction: ins.Entrypoint) -> None:
        self.settings.set_entrypoint(instruction.command)
        self.note(instruction, f"ENTRYPOINT {json.dumps(self.settings.config['Entrypoint'])}")

    def healthcheck(self, instruction: ins.Healthcheck) -> None:
        self.settings.set_healthcheck(instruction)
        self.note(instruction, instruction.text)

    def workdir(self, instruction: ins.Workdir) -> None:
        path = self.absolute(self.expand(instruction.path, instruction))
        self.settings.config["WorkingDir"] = path
        work = MakeDirectoryWork(path, self.settings.user)
        self.work(instruction, f"WORKDIR {path}", work, "mkdir", path, work.user)

    def onbuild(self, instruction: ins.Onbuild) -> None:
        self.settings.add_trigger(instruction.trigger)
        self.note(instruction, f"ONBUILD {instruction.trigger}")

    def run_(self, instruction: ins.Run) -> None:
        work, key, created_by = run_work(self, instruction)
        self.work(instruction, created_by, work, *key)

    def copy(self, instruction: ins.Copy) -> None:
        work, key, created_by = copy_work(self, instruction)
        self.work(instruction, created_by, work, *key)

    def other_stage(self, name: str) -> Stage | None:
        """The stage that --from or from= means: by name or by number. None: it means an image."""
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

    def absolute(self, path: str) -> str:
        """A path as it counts from the working directory."""
        return "/" + posixpath.normpath(posixpath.join("/", self.settings.working_dir, path)).lstrip("/")


_HANDLERS: dict[type[ins.Instruction], Callable[[StageSolver, Any], None]] = {
    ins.Arg: StageSolver.arg,
    ins.Env: StageSolver.env,
    ins.Label: StageSolver.label,
    ins.Maintainer: StageSolver.maintainer,
    ins.User: StageSolver.user,
    ins.Expose: StageSolver.expose,
    ins.Volume: StageSolver.volume,
    ins.StopSignal: StageSolver.stop_signal,
    ins.Shell: StageSolver.shell,
    ins.Cmd: StageSolver.cmd,
    ins.Entrypoint: StageSolver.entrypoint,
    ins.Healthcheck: StageSolver.healthcheck,
    ins.Workdir: StageSolver.workdir,
    ins.Onbuild: StageSolver.onbuild,
    ins.Run: StageSolver.run_,
    ins.Copy: StageSolver.copy,
}


def check_platform(platform: str | None) -> None:
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
            hint="remove it (--platform, build.platforms, platform), or build on such a machine",
        )


def _platform_args() -> dict[str, str]:
    architecture = host_architecture()
    platform = {"PLATFORM": f"linux/{architecture}", "OS": "linux", "ARCH": architecture, "VARIANT": ""}
    return {f"{side}{name}": value for side in ("BUILD", "TARGET") for name, value in platform.items()}
