"""The entry point: look at the command's name, import that one command's module, run it, turn what it raises into an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from compose.cli import signals
from compose.cli.commands import DRY_RUN, GLOBAL, command_module
from compose.cli.options import Args, Command, HelpAsked, UnknownOption, parse
from compose.cli.promptly import handle_signals_promptly
from engine.errors import InvalidInput, UmiakError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Nothing but what is a defect of umiak ends in a traceback."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["compose"]:
        # `docker compose …` with `alias docker=umiak`, and how Docker's command line calls a plugin.
        del arguments[0]
    try:
        with signals.interruptible(), signals.raising_hangups():
            handle_signals_promptly()
            code = _run(arguments)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not complain at exit (Python's signal documentation).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except signals.Interrupt as interrupt:
        return interrupt.exit_code
    except (UmiakError, Exception) as error:
        from compose.cli.errors import is_defect, report

        if (number := signals.interrupted()) and is_defect(error):
            # Raised within compiled code, as pydantic's, an Interrupt comes out as an error of that code's.
            return 128 + number
        return report(error, arguments)


def _run(argv: list[str]) -> int:
    try:
        options = parse(GLOBAL, argv)
    except HelpAsked:
        return _help([])
    if options.flag("version"):
        return _run(["version"])
    if not options.words:
        return _help([])
    name, rest = options.words[0], options.words[1:]
    if name == "help":
        return _help(rest)
    if name == "__complete":
        from compose.cli.completion import complete

        return complete(rest)
    if name == "docker-cli-plugin-metadata":
        from compose.cli.version import plugin_metadata

        return plugin_metadata()
    return _run_command(name, rest, options)


def _run_command(name: str, rest: list[str], options: Args) -> int:
    from compose.cli.context import Context

    module = command_module(name)
    command: Command = module.COMMAND
    try:
        # Docker Compose takes this one of the global options after the command too.
        args = parse(command.with_option(DRY_RUN), rest)
    except HelpAsked:
        return _help([name])
    except UnknownOption as error:
        if any(error.name in option.names for option in GLOBAL.options):
            error.hint = f"it goes before the command: umiak {error.name} … {name}"
        raise
    if args.words and not command.words:
        raise InvalidInput(f'{name} takes no "{args.words[0]}"', hint=f"see: umiak {name} --help")
    if args.flag("dry-run"):
        options.add(DRY_RUN, "true")
    if options.flag("dry-run") and not command.can_run_dry:
        raise InvalidInput(f"{name} has no dry run", hint="run it without --dry-run to really do it")
    code: int = module.run(Context(options), args)
    return code


def _help(words: list[str]) -> int:
    from compose.cli.help import show

    return show(words)


if __name__ == "__main__":
    sys.exit(main())
