"""Commands of two words: `image ls`, `volume rm`. A group is a table of sub-commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from compose.cli.context import Context
from compose.cli.options import Args, Command, HelpAsked, parse
from engine.errors import InvalidInput, UmiakError

if TYPE_CHECKING:
    from engine.facade import Engine

Action = Callable[["Engine", Args], "int | None"]


def run_group(context: Context, args: Args, group: str, table: Mapping[str, tuple[Command, Action]]) -> int:
    """Run the sub-command that the first word names."""
    name, *rest = args.words or [""]
    if name not in table:
        raise unknown_word(group, name, table)
    command, act = table[name]
    try:
        own = parse(command, rest)
    except HelpAsked:
        from compose.cli.help import show_command

        return show_command(command)
    with context.engine() as engine:
        return act(engine, own) or 0


def unknown_word(group: str, name: str, known: Iterable[str]) -> InvalidInput:
    """The error of a missing or unknown second word."""
    return InvalidInput(
        f'unknown command "{group} {name}"' if name else f"{group} needs a command",
        hint=f"one of: {', '.join(known)}",
    )


def needs_words(args: Args, command: Command, what: str) -> list[str]:
    """The words given. Raise InvalidInput where there are none."""
    if not args.words:
        raise InvalidInput(f"{command.name} needs {what}", hint=f"see: umiak {command.name} --help")
    return args.words


def each(words: Iterable[str], act: Callable[[str], None]) -> int:
    """Do something for each word; where one fails the others are done all the same. Return the exit code."""
    from compose.cli.errors import report

    code = 0
    for word in words:
        try:
            act(word)
        except UmiakError as error:
            sys.stdout.flush()
            code = report(error)
    return code


def confirmed(args: Args, warning: str) -> bool:
    """Whether the user wants it: by --force, or by an answer on standard input. Raise InvalidInput where none comes."""
    if args.flag("force"):
        return True
    print(f"WARNING! {warning}", file=sys.stderr)
    print("Are you sure you want to continue? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)
        raise InvalidInput("this removes things and nobody can be asked", hint="use --force")
    return answer.strip().lower() in ("y", "yes")
