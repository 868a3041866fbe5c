"""`umiak completion bash|zsh|fish`: the script that makes a shell complete commands, options, services and containers.

The script asks `umiak __complete WORD…` at each Tab: commands and options come from the commands' tables, services from a quick
look at the Compose file's text, containers from the engine's database. Nothing heavy is imported for it: no YAML parser, no
models, no typer.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from compose.cli.commands import COMMANDS, GLOBAL, command_module
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput, UmiakError

if TYPE_CHECKING:
    from compose.cli.context import Context

COMMAND = Command("completion", "Print a shell's completion script", words="bash|zsh|fish", options=[])

FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_SCRIPTS = {
    "bash": """\
_umiak() {
    local IFS=$' \\t\\n' line="${COMP_LINE:0:COMP_POINT}" found word
    local -a words
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    IFS=$'\\n'
    COMPREPLY=($(umiak __complete "${words[@]:1}" 2>/dev/null))
    # What stands before the last = or : is a word of its own to bash, and stays.
    word="${words[-1]}"
    found="${word%"${word##*[=:]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$found"}")
    [[ "${COMPREPLY[0]}" == *[=:] ]] && compopt -o nospace
}
complete -o default -F _umiak umiak
[[ "${BASH_ALIASES[docker-compose]-}" != *umiak* ]] || complete -o default -F _umiak docker-compose
""",
    "zsh": """\
#compdef umiak
_umiak() {
    local -a found
    found=("${(@f)$(umiak __complete "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
    [[ -n "${found[1]}" ]] || { _files; return }
    [[ "${found[1]}" == *[=:] ]] && compadd -S "" -- "${found[@]}" || compadd -- "${found[@]}"
}
compdef _umiak umiak
""",
    "fish": """\
function __umiak
    set -l words (commandline -opc) (commandline -ct)
    umiak __complete $words[2..-1] 2>/dev/null
end
complete -c umiak -f -a '(__umiak)'
""",
}
_TOP_KEY = re.compile(r"^([\w.-]+|\"[^\"]+\"|'[^']+')\s*:")
_KEY = re.compile(r"^( +)([\w.-]+|\"[^\"]+\"|'[^']+')\s*:")


def run(_context: Context, args: Args) -> int:
    """Print it."""
    shell = args.words[0] if args.words else ""
    if shell not in _SCRIPTS:
        hint = 'for example: eval "$(umiak completion bash)" in ~/.bashrc'
        raise InvalidInput(f'there is no completion for "{shell}"' if shell else "completion needs a shell", hint=hint)
    print(_SCRIPTS[shell], end="")
    return 0


def complete(words: Sequence[str]) -> int:
    """Print what the last word may become, one a line."""
    *before, current = words or [""]
    if before[:1] == ["compose"]:
        del before[0]
    try:
        found = sorted({word for word in _candidates(before, current) if word.startswith(current)})
    except (UmiakError, OSError, ImportError):
        return 0  # a shell that completes is no place for errors
    sys.stdout.write("".join(f"{word}\n" for word in found))
    return 0


def _candidates(before: Sequence[str], current: str) -> Iterator[str]:
    options, rest, wanted = _read(GLOBAL, before)
    if wanted:
        yield from wanted.choices
    elif not rest:
        yield from _option_names(GLOBAL, current) if current.startswith("-") else COMMANDS
    elif rest[0] == "image" or rest[0] not in COMMANDS:
        return
    else:
        command: Command = command_module(rest[0]).COMMAND
        _, words, wanted = _read(command, rest[1:])
        if wanted:
            yield from services(options) if wanted.metavar == "SERVICE" else wanted.choices
        elif current.startswith("-"):
            yield from _option_names(command, current)
        elif rest[0] == "completion":
            yield from _SCRIPTS
        elif rest[0] == "container":
            yield from _containers() if words else ("ls", "inspect", "commit", "rm", "prune")
        elif "SERVICE" in command.words and not (command.stops_at_word and words):
            ending = {"cp": ":", "scale": "="}.get(rest[0], "")
            yield from (f"{service}{ending}" for service in services(options))


def _option_names(command: Command, current: str) -> Iterator[str]:
    """The long names, or, where `--name=` is written already, that with each value it may have."""
    named = current.partition("=")[0] if "=" in current else None
    for option in command.options:
        if named in option.names:
            yield from (f"{named}={choice}" for choice in option.choices)
        elif named is None and not option.hidden:
            yield from (name for name in option.names if name.startswith("--"))


def _read(command: Command, words: Sequence[str]) -> tuple[dict[str, list[str]], list[str], Option | None]:
    """What options and words there are so far, and the option whose value comes next."""
    values: dict[str, list[str]] = {}
    named = {name: option for option in command.options for name in option.names}
    rest = list(words)
    found: list[str] = []
    while rest:
        word = rest.pop(0)
        option = named.get(word.partition("=")[0])
        if option and option.metavar and "=" not in word:
            if not rest:
                return values, found, option
            values.setdefault(option.key, []).append(rest.pop(0))
        elif option and "=" in word:
            values.setdefault(option.key, []).append(word.partition("=")[2])
        elif not word.startswith("-"):
            found.append(word)
            if command.stops_at_word:
                return values, found + rest, None
    return values, found, None


def services(options: dict[str, list[str]]) -> list[str]:
    """The names below `services:` in the Compose file, read as text: enough for block style, which nearly all files have."""
    paths = options.get("file") or os.environ.get("COMPOSE_FILE", "").split(":")
    found: list[str] = []
    for path in filter(None, paths) if any(paths) else _nearest_file(options):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found += _service_names(file)
        except OSError:
            continue
    return found


def _nearest_file(options: dict[str, list[str]]) -> Iterator[str]:
    directory = os.path.abspath((options.get("project-directory") or ["."])[0])
    while True:
        for name in FILES:
            if os.path.exists(f"{directory}/{name}"):
                yield f"{directory}/{name}"
                return
        if directory == "/":
            return
        directory = os.path.dirname(directory)


def _service_names(lines: Iterable[str]) -> Iterator[str]:
    inside, indent = False, ""
    for line in lines:
        if match := _TOP_KEY.match(line):
            inside, indent = match[1].strip("\"'") == "services", ""
        elif inside and (match := _KEY.match(line)):
            indent = indent or match[1]
            if match[1] == indent:
                yield match[2].strip("\"'")


def _containers() -> list[str]:
    """Names from the engine's database, read without the engine."""
    import sqlite3

    from engine.paths import Paths

    path = Paths.from_environment().database
    if not os.path.exists(path):
        return []
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.05)
    try:
        return [row[0] for row in database.execute("SELECT name FROM containers WHERE NOT removing")]
    except sqlite3.Error:
        return []
    finally:
        database.close()
