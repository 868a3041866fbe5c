"""What options `docker compose` has: reads its help, and keeps the table that the command line's test compares with.

python tests/dockers/options.py path/to/docker-compose > tests/dockers/options.json
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

_COMMAND = re.compile(r"^  ([a-z]+) {2,}")
_OPTION = re.compile(r"^ {2,6}(?:(-\w), )?(--[\w-]+)(?: ([A-Za-z]+))?(?: {2,}|$)")


def options(text: str) -> dict[str, dict[str, object]]:
    """Long name → the short one, and whether it takes a value, from one help text."""
    found = (_OPTION.match(line) for line in text.splitlines())
    return {match[2]: {"short": match[1], "value": bool(match[3])} for match in found if match}


def commands(text: str) -> list[str]:
    """The commands that the top help text lists."""
    _, _, listed = text.partition("\nCommands:\n")
    return [match[1] for line in listed.splitlines() if (match := _COMMAND.match(line))]


def table(client: str) -> dict[str, dict[str, dict[str, object]]]:
    """Command → its options; "" has those before the command."""

    def helped(*words: str) -> str:
        return subprocess.run([client, *words, "--help"], check=True, capture_output=True, text=True).stdout

    top = helped()
    return {"": options(top)} | {name: options(helped(name)) for name in commands(top)}


if __name__ == "__main__":
    json.dump(table(sys.argv[1]), sys.stdout, indent=1, sort_keys=True)
    print()
