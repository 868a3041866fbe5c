from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compose.cli.commands import COMMANDS, DOCKERS_OWN, GLOBAL, command_module
from compose.cli.help import markdown
from compose.cli.options import Args, Command, HelpAsked, Option, UnknownOption, parse
from engine.errors import InvalidInput, Unsupported

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


DOCKERS: dict[str, dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parents[3] / "dockers" / "options.json").read_text()
)


def test_every_command_of_docker_compose_is_there_or_says_what_to_do_instead() -> None:
    assert set(DOCKERS) - {""} - set(COMMANDS) <= set(DOCKERS_OWN)
    with pytest.raises(Unsupported) as raised:
        command_module("publish")
    assert "config --lock-image-digests" in str(raised.value.hint)


@pytest.mark.parametrize("name", sorted(set(DOCKERS) - set(DOCKERS_OWN)))
def test_every_option_of_docker_compose_is_there_and_in_the_help(name: str) -> None:
    command: Command = command_module(name).COMMAND if name else GLOBAL
    ours = {long: option for option in command.options for long in option.names}
    theirs = {long: row for long, row in DOCKERS[name].items() if not name or long != "--dry-run"}
    assert set(theirs) <= set(ours)
    for long, row in theirs.items():
        option = ours[long]
        assert bool(option.metavar) == row["value"], long
        assert row["short"] is None or row["short"] in option.names, long
        assert not option.hidden, long


def test_a_variable_of_the_environment_gives_what_the_command_line_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command(
        "try",
        "Try",
        options=[
            Option("--remove-orphans", variable="COMPOSE_REMOVE_ORPHANS", help=""),
            Option("--parallel", metavar="N", variable="COMPOSE_PARALLEL_LIMIT", help=""),
        ],
    )
    monkeypatch.setenv("COMPOSE_REMOVE_ORPHANS", "1")
    monkeypatch.setenv("COMPOSE_PARALLEL_LIMIT", "three")
    assert parse(command, []).flag("remove-orphans")
    assert not parse(command, ["--remove-orphans=false"]).flag("remove-orphans")
    assert parse(command, ["--parallel", "4"]).number("parallel") == 4
    with pytest.raises(InvalidInput, match="COMPOSE_PARALLEL_LIMIT"):
        parse(command, []).number("parallel")
