"""Help and completion: the typer application made from the commands' tables. Imported only when help is asked for.

`python -m compose.cli.help` writes `docs/cli.md` from the same tables.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import typer

from compose.cli.commands import COMMANDS, GLOBAL, command_module
from compose.cli.options import Command, Option

_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def application() -> typer.Typer:
    """All commands as one typer application."""
    app = typer.Typer(name="umiak", help=GLOBAL.summary, no_args_is_help=True, context_settings=_SETTINGS)
    app.callback()(_function("umiak", GLOBAL.options))
    for name in COMMANDS:
        command: Command = command_module(name).COMMAND
        if name == command.name:
            _add(app, command)
    return app


def show(words: Sequence[str]) -> int:
    """Print the help of a command, or of all."""
    if words and not words[0].startswith("-"):
        words = [command_module(words[0]).COMMAND.name, "--help"]
    return _run(application(), words or ["--help"], "umiak")


def show_command(command: Command) -> int:
    """Print the help of one command that is not at the top level."""
    app = typer.Typer(add_completion=False)
    _add(app, command)
    return _run(app, ["--help"], f"umiak {command.name}")


def _run(app: typer.Typer, arguments: Sequence[str], name: str) -> int:
    try:
        app(args=list(arguments), prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return 0


def _add(app: typer.Typer, command: Command) -> None:
    metavar = f"[OPTIONS] {command.words}".strip()
    decorate = app.command(
        command.name, help=f"{command.summary}.", options_metavar=metavar, context_settings=_SETTINGS
    )
    decorate(_function(command.name, command.options))


def _function(name: str, options: Sequence[Option]) -> Callable[..., None]:
    """A function with the signature that typer reads a command from. It is never called: `main` runs commands by itself."""

    def function(**_: Any) -> None:
        return None

    parameters = [_parameter(option) for option in options]
    function.__name__ = name
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _parameter(option: Option) -> inspect.Parameter:
    default = typer.Option(
        option.default if option.metavar else False,
        *option.names,
        help=option.help,
        metavar=option.metavar or None,
        hidden=option.hidden,
        show_default=bool(option.default and option.metavar),
    )
    name, annotation = option.key.replace("-", "_"), str if option.metavar else bool
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def markdown() -> str:
    """The reference of all commands, for `docs/cli.md`."""
    return "\n".join(_markdown()) + "\n"


def _markdown() -> Iterator[str]:
    yield "# The command line"
    yield ""
    yield "Made from the commands' own tables by `python -m compose.cli.help`; a test notices when it is stale."
    yield ""
    yield "## umiak [OPTIONS] COMMAND"
    yield ""
    yield "Options before the command, for all commands:"
    yield ""
    yield from _table(GLOBAL.options)
    for name in COMMANDS:
        module = command_module(name)
        if name == module.COMMAND.name:
            for command in (module.COMMAND, *getattr(module, "SUBCOMMANDS", ())):
                yield from _section(command)


def _section(command: Command) -> Iterator[str]:
    yield ""
    yield f"## umiak {command.name} {command.words}".rstrip()
    yield ""
    yield f"{command.summary}."
    if any(not option.hidden for option in command.options):
        yield ""
        yield from _table(command.options)


def _table(options: Sequence[Option]) -> Iterator[str]:
    yield "| Option | Meaning |"
    yield "|---|---|"
    for option in options:
        if not option.hidden:
            names = ", ".join(f"`{name}`" for name in option.names)
            default = f" (default {option.default})" if option.default and option.metavar else ""
            yield f"| {names} {f'`{option.metavar}`' if option.metavar else ''} | {option.help}{default} |".replace(
                "  ", " "
            )


if __name__ == "__main__":
    print(markdown(), end="")
