"""Intent: `container commit` makes an image of what a container is: what it wrote and removed, and how it was asked to run."""

from __future__ import annotations

import json

from tests.stack import Stack

AGAIN = """
services:
  web:
    image: committed:1
    command: ["sleep", "600"]
"""


def commit(stack: Stack, *options: str) -> None:
    stack.up()
    stack.sh("web", "while ! [ -e /ready ]; do sleep 0.1; done")
    stack.umiak("container", "commit", *options, stack.container("web")["ID"], "committed:1")


def test_a_committed_container_runs_again_from_its_image(stack: Stack) -> None:
    commit(stack, "-m", "a message", "-a", "me", "-c", 'CMD ["other"]')
    assert stack.sh("web", "cat /made") == "made"  # it was let go on
    [image] = json.loads(stack.umiak("image", "inspect", "committed:1").stdout)
    assert image["Config"]["Cmd"] == ["other"]
    assert "GREETING=hello" in image["Config"]["Env"]
    assert image["Config"]["Labels"]["who"] == "me"
    assert (image["Author"], image["Comment"]) == ("me", "a message")
    assert len(image["RootFS"]["Layers"]) == 2
    stack.down()
    stack.write(AGAIN)
    stack.up()
    assert stack.sh("web", "cat /made; echo $GREETING; ls /etc/group 2>/dev/null || echo gone") == "made\nhello\ngone"

    stack.down()
    stack.umiak("image", "rm", "committed:1")


def test_an_image_in_use_stays_and_prune_takes_it_once_nothing_uses_it(stack: Stack) -> None:
    stack.up()
    refused = stack.umiak("image", "rm", "busybox", exit_code=None)
    assert refused.returncode == 1
    assert "used by container" in refused.stderr
    stack.umiak("image", "tag", "busybox", "second:1")
    stack.umiak("image", "rm", "second:1")
    assert "busybox" in stack.umiak("image", "ls").stdout
    stack.umiak("image", "prune", "-a", "-f", "--filter", "label=nobody")
    assert "busybox" in stack.umiak("image", "ls").stdout
    row = json.loads(stack.umiak("system", "df", "--format", "json").stdout.splitlines()[0])
    assert row["Active"] == "1"
