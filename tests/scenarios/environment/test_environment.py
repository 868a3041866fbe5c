"""Which value of a variable wins: the option's, then environment, then env_file, then the image's."""

from __future__ import annotations

from tests.stack import Stack

ASK = "echo $A $B $C $D $E $F"


def test_the_nearest_value_wins(stack: Stack) -> None:
    stack.env["F"] = "shell"
    stack.up()
    assert stack.sh("web", ASK) == "image file own own image shell"
    said = stack.umiak("exec", "-T", "-e", "D=option", "web", "sh", "-c", ASK).stdout.strip()
    assert said == "image file own option image shell"
    said = stack.umiak("run", "--rm", "-T", "-e", "D=option", "-e", "E=option", "web", "sh", "-c", ASK).stdout.strip()
    assert said == "image file own option option shell"
