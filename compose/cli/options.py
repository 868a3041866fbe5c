"""What a command takes, as a table, and the parser for it.

Every command module has one `Command` table. The parser reads it in microseconds, so that `ps` or `exec` need not import
typer (60 ms); `help.py` turns the same tables into the typer application that prints help and completes words.
The grammar is that of Docker's command line: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-abc`, `--flag=false`, `--`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from engine.errors import InvalidInput

_TRUE = ("true", "1", "t")
_FALSE = ("false", "0", "f")


def is_true(variable: str) -> bool:
    """Whether an environment variable is set to something true."""
    return os.environ.get(variable, "").lower() in _TRUE


class UnknownOption(InvalidInput):
    """A command does not have an option; `name` is what was given."""

    def __init__(self, name: str, command: str, hint: str) -> None:
        super().__init__(f"unknown option {name} of {command}", hint=hint)
        self.name = name


class Option:
    """One option: its names (`-d`, `--detach`), and what its value is called (`metavar`; "" for a flag that takes none).

    `variable` is the environment variable that gives the value where the command line does not.
    """

    __slots__ = ("choices", "default", "help", "hidden", "many", "metavar", "names", "variable")

    def __init__(
        self,
        *names: str,
        help: str,
        metavar: str = "",
        many: bool = False,
        default: str | None = None,
        choices: Sequence[str] = (),
        hidden: bool = False,
        variable: str | None = None,
    ) -> None:
        self.names = names
        self.help = help
        self.metavar = metavar
        self.many = many
        self.default = default
        self.choices = tuple(choices)
        self.hidden = hidden
        self.variable = variable

    @property
    def key(self) -> str:
        """The long name without dashes."""
        return max(self.names, key=len).lstrip("-")


class Command:
    """One command: its name, a line about it, its options, and its words as usage text (`[SERVICE...]`).

    `can_run_dry` is False for what changes something and has no plan to show instead.
    With `stops_at_word` everything after the first word is words too, as `exec SERVICE COMMAND [ARG...]` needs.
    """

    __slots__ = ("can_run_dry", "name", "options", "stops_at_word", "summary", "words")

    def __init__(
        self,
        name: str,
        summary: str,
        *,
        options: Iterable[Option] = (),
        words: str = "",
        stops_at_word: bool = False,
        can_run_dry: bool = True,
    ) -> None:
        self.name = name
        self.summary = summary
        self.options = tuple(options)
        self.words = words
        self.stops_at_word = stops_at_word
        self.can_run_dry = can_run_dry

    def with_option(self, option: Option) -> Command:
        """The same command, which takes this option too."""
        return Command(
            self.name,
            self.summary,
            options=(*self.options, option),
            words=self.words,
            stops_at_word=self.stops_at_word,
            can_run_dry=self.can_run_dry,
        )

    def option(self, name: str) -> Option:
        """The option of that name. Raise UnknownOption, hinting at the nearest name, where there is none."""
        for option in self.options:
            if name in option.names:
                return option
        from difflib import get_close_matches

        near = get_close_matches(name, [long for option in self.options for long in option.names], n=1)
        hint = f"did you mean {near[0]}?" if near else f"see: umiak {self.name} --help".replace("umiak umiak", "umiak")
        raise UnknownOption(name, self.name, hint)


class Args:
    """What was given: values by the option's long name, and the words."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._values: dict[str, list[str]] = {}
        self.words: list[str] = []

    def add(self, option: Option, value: str) -> None:
        """Record a value. Raise InvalidInput where it is not one of the choices, or not a truth value for a flag."""
        if option.choices and value not in option.choices:
            raise InvalidInput(
                f'option --{option.key} cannot be "{value}"',
                hint=f"use one of: {', '.join(c for c in option.choices if c)}",
            )
        if not option.metavar and value.lower() not in _TRUE + _FALSE:
            raise InvalidInput(f'option --{option.key} cannot be "{value}"', hint="use true or false")
        values = self._values.setdefault(option.key, [])
        if not option.many:
            values.clear()
        values.append(value)

    def given(self, key: str) -> bool:
        """Whether the option was on the command line."""
        return key in self._values

    def flag(self, key: str) -> bool:
        """A flag's value."""
        values = self._values.get(key)
        text = values[-1] if values else self._of_environment(key)
        return text is not None and text.lower() in _TRUE

    def text(self, key: str) -> str | None:
        """An option's value, or its default."""
        values = self._values.get(key)
        return values[-1] if values else self._of_environment(key) or self._option(key).default

    def many(self, key: str) -> list[str]:
        """All values of an option that may be repeated."""
        assert self._option(key).many, f"--{key} is not declared as one that may be repeated"
        return list(self._values.get(key, ()))

    def number(self, key: str) -> int | None:
        """An option's value as a whole number."""
        text = self.text(key)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f'{self._source(key)} cannot be "{text}"', hint="use a whole number") from None

    def _of_environment(self, key: str) -> str | None:
        variable = next((option.variable for option in self._command.options if option.key == key), None)
        return os.environ.get(variable) or None if variable else None

    def _source(self, key: str) -> str:
        """Where a value came from, for messages."""
        return f"option --{key}" if self.given(key) else self._option(key).variable or f"option --{key}"

    def _option(self, key: str) -> Option:
        return next(option for option in self._command.options if option.key == key)


class HelpAsked(Exception):
    """`--help` stood where an option may stand."""


def parse(command: Command, argv: Sequence[str], *, stops_at_word: bool | None = None) -> Args:
    """Read `argv` by a command's table. Raise InvalidInput for what it does not know, HelpAsked at `--help`."""
    args = Args(command)
    stops = command.stops_at_word if stops_at_word is None else stops_at_word
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            args.words += rest
            break
        if word == "-" or not word.startswith("-"):
            args.words.append(word)
            if stops:
                args.words += rest
                break
        elif word.startswith("--"):
            _take_long(command, args, word, rest)
        else:
            _take_short(command, args, word, rest)
    return args


def _take_long(command: Command, args: Args, word: str, rest: list[str]) -> None:
    name, equals, value = word.partition("=")
    if name == "--help":
        raise HelpAsked
    option = command.option(name)
    if equals:
        args.add(option, value)
    elif not option.metavar:
        args.add(option, "true")
    else:
        args.add(option, _value_of(name, rest))


def _take_short(command: Command, args: Args, word: str, rest: list[str]) -> None:
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        if name == "-h":
            raise HelpAsked
        option = command.option(name)
        if option.metavar:
            args.add(option, letters.removeprefix("=") if letters else _value_of(name, rest))
            return
        if letters.startswith("="):
            args.add(option, letters[1:])
            return
        args.add(option, "true")


def _value_of(name: str, rest: list[str]) -> str:
    if not rest:
        raise InvalidInput(f"option {name} needs a value")
    return rest.pop(0)
