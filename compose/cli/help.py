"""Help and completion: the typer application made from the commands' tables. Imported only when help is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import click
import typer

from compose.cli.main import COMMANDS, GLOBAL, command_module
from compose.cli.options import Command, Option


def application() -> typer.Typer:
    """All commands as one typer application."""
    app = typer.Typer(name="umiak", help=GLOBAL.summary, no_args_is_help=True, context_settings=_SETTINGS)
    app.callback()(_function("umiak", GLOBAL.options, ""))
    for name in COMMANDS:
        command: Command = command_module(name).COMMAND
        app.command(
            name,
            help=f"{command.summary}.",
            hidden=name != command.name,
            context_settings={**_SETTINGS, "allow_interspersed_args": not command.stops_at_word},
        )(_function(name, command.options, command.words))
    return app


def show(words: Sequence[str]) -> int:
    """Print the help of a command, or of all."""
    arguments = list(words)
    if not arguments or not arguments[0].startswith("--"):
        arguments.append("--help")
    if arguments[0] in COMMANDS:
        command_module(arguments[0])
    try:
        application()(args=arguments, prog_name="umiak", standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return 0


def show_command(command: Command) -> int:
    """Print the help of one command that is not at the top level."""
    app = typer.Typer(context_settings=_SETTINGS)
    app.command(help=f"{command.summary}.")(_function(command.name, command.options, command.words))
    try:
        app(args=["--help"], prog_name=f"umiak {command.name}", standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return 0


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def _function(name: str, options: Sequence[Option], words: str) -> Callable[..., None]:
    """A function with the signature that typer reads a command from. It is never called: `main` runs commands by itself."""

    def function(**_: Any) -> None:
        return None

    parameters = [
        inspect.Parameter(
            option.key.replace("-", "_"),
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(
                option.default if option.metavar else False,
                *option.names,
                help=option.help,
                metavar=option.metavar or None,
                hidden=option.hidden,
                show_default=option.default is not None and bool(option.metavar),
            ),
            annotation=str if option.metavar else bool,
        )
        for option in options
    ]
    if words:
        argument = typer.Argument(None, metavar=words, help="", show_default=False)
        parameters.append(
            inspect.Parameter("words", inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=list[str])
        )
    function.__name__ = name
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function
