"""A Dockerfile as stages: the global ARGs, then one stage per FROM, which only refers to stages above it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import InvalidInput, NotFound
from engine.frozen import frozen
from engine.images.build.instructions import Arg, From, Instruction, read
from engine.images.build.parse import Statement

MAX_STAGES = 100


@frozen
class Stage:
    """One FROM and what follows it."""

    index: int
    from_: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """What the stage is called in messages."""
        return self.from_.name or f"stage-{self.index}"


@frozen
class Dockerfile:
    """A whole Dockerfile. `global_args` stand above the first FROM and count only in FROM lines."""

    file: str
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    def earlier(self, reference: str, before: int) -> Stage | None:
        """The stage above `before` that a FROM calls by this name, the last one where there are several."""
        named = [stage for stage in self.stages[:before] if stage.from_.name == reference.lower()]
        return named[-1] if named else None

    def target(self, name: str | None) -> Stage:
        """The stage to build: by name or number, else the last one. Raise NotFound."""
        if name is None:
            return self.stages[-1]
        found = self.earlier(name, len(self.stages))
        if found is None and name.isascii() and name.isdigit() and int(name[:9]) < len(self.stages):
            found = self.stages[int(name[:9])]
        if found is None:
            names = [stage.from_.name for stage in self.stages if stage.from_.name]
            raise NotFound(f"{self.file} has no stage {name!r}", hint=_stage_hint(name, names))
        return found


def _stage_hint(name: str, names: Sequence[str]) -> str:
    from difflib import get_close_matches

    if not names:
        return "none of its stages has a name: add AS name to a FROM"
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"its stages are {', '.join(names)}"


def group(statements: Sequence[Statement], file: str) -> Dockerfile:
    """Sort statements into stages. Raise InvalidInput for an empty file, or for anything but ARG above the first FROM."""
    instructions = [read(statement) for statement in statements]
    if not instructions:
        raise InvalidInput("the Dockerfile is empty", hint="it needs at least a FROM", place=f"{file}:1:1")
    starts = [index for index, instruction in enumerate(instructions) if isinstance(instruction, From)]
    head = instructions[: starts[0]] if starts else instructions
    for instruction in head:
        if not isinstance(instruction, Arg):
            raise InvalidInput(
                f"{instruction.text.split()[0]} stands above the first FROM",
                hint="only ARG may stand there; start with FROM image",
                place=str(instruction.place),
            )
    if not starts:
        raise InvalidInput("the Dockerfile has no FROM", hint="start with FROM image", place=f"{file}:1:1")
    if len(starts) > MAX_STAGES:
        raise InvalidInput(
            f"the Dockerfile has more than {MAX_STAGES} stages", place=str(instructions[starts[-1]].place)
        )
    return Dockerfile(file, tuple(item for item in head if isinstance(item, Arg)), _stages(instructions, starts))


def _stages(instructions: Sequence[Instruction], starts: Sequence[int]) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(instructions)], strict=True)):
        first = instructions[start]
        assert isinstance(first, From)
        stages.append(Stage(index, first, tuple(instructions[start + 1 : end])))
    return tuple(stages)
