from __future__ import annotations

import pytest

from compose.cli.commands import COMMANDS, GLOBAL, command_module
from compose.cli.help import markdown
from compose.cli.options import Args, Command, HelpAsked, Option, UnknownOption, parse
from engine.errors import InvalidInput

COMMAND = Command(
    "try",
    "Try",
    options=[
        Option("-d", "--detach", help=""),
        Option("-q", "--quiet", help=""),
        Option("-n", "--tail", metavar="N", default="all", help=""),
        Option("-e", "--env", metavar="KEY=VALUE", many=True, help=""),
        Option("--format", metavar="FORMAT", choices=("table", "json"), help=""),
    ],
)


def read(*argv: str, stops: bool = False) -> Args:
    return parse(COMMAND, argv, stops_at_word=stops)


def test_options_are_read_in_all_of_dockers_forms() -> None:
    args = read("-dq", "--tail=5", "-e", "A=1", "--env", "B=2", "-eC=3", "web", "--format", "json")
    assert (args.flag("detach"), args.flag("quiet")) == (True, True)
    assert args.number("tail") == 5
    assert args.many("env") == ["A=1", "B=2", "C=3"]
    assert args.text("format") == "json"
    assert args.words == ["web"]


def test_what_is_not_given_has_its_default() -> None:
    args = read()
    assert args.text("tail") == "all"
    assert not args.given("tail")
    assert not args.flag("detach")


def test_a_flag_can_be_switched_off() -> None:
    assert not read("-d", "--detach=false").flag("detach")


def test_after_the_first_word_or_two_dashes_all_is_words() -> None:
    assert read("web", "ls", "-d", stops=True).words == ["web", "ls", "-d"]
    assert read("--", "-d").words == ["-d"]
    assert read("-").words == ["-"]


def test_an_unknown_option_hints_at_the_nearest() -> None:
    with pytest.raises(UnknownOption) as caught:
        read("--detatch")
    assert caught.value.hint == "did you mean --detach?"


@pytest.mark.parametrize("argv", [["--tail"], ["--format", "xml"], ["--detach=maybe"]])
def test_a_bad_value_is_refused(argv: list[str]) -> None:
    with pytest.raises(InvalidInput):
        read(*argv)


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tail"):
        read("-n", "many").number("tail")


def test_help_can_be_asked_for_anywhere_before_a_command_of_its_own() -> None:
    with pytest.raises(HelpAsked):
        read("web", "--help")
    assert read("web", "ls", "--help", stops=True).words == ["web", "ls", "--help"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_table_without_ambiguous_names(name: str) -> None:
    command = command_module(name).COMMAND
    names = [one for option in command.options for one in option.names]
    assert len(names) == len(set(names))
    assert callable(command_module(name).run)


def test_global_options_go_before_the_command() -> None:
    options = parse(GLOBAL, ["-f", "a.yaml", "-f", "b.yaml", "-p", "x", "ps", "-a"])
    assert options.many("file") == ["a.yaml", "b.yaml"]
    assert options.words == ["ps", "-a"]


def test_the_reference_of_the_command_line_is_not_stale() -> None:
    from pathlib import Path

    path = Path(__file__).parents[4] / "docs" / "cli.md"
    assert path.read_text() == markdown(), "make it anew: python -m compose.cli.help > docs/cli.md"
