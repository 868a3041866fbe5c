"""A published port that somebody has already: the error names who, and the stack can be brought up when it is free."""

from __future__ import annotations

import os
import socket

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.umiak("Docker does not name who holds a port")


def test_the_process_that_holds_a_port_is_named(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        stack.env["PORT"] = str(holder.getsockname()[1])
        failed = stack.up(exit_code=1)
        assert stack.env["PORT"] in failed.stderr
        assert str(os.getpid()) in failed.stderr
        assert stack.states().get("port_in_use-web-1", "created") == "created"

    stack.up()
    assert stack.states()["port_in_use-web-1"] == "running"


def test_a_container_that_holds_a_port_is_named(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        stack.env["PORT"] = str(holder.getsockname()[1])
    stack.up()
    failed = stack.umiak("-p", "second", "up", "-d", exit_code=1)
    assert "port_in_use-web-1" in failed.stderr
    stack.umiak("-p", "second", "down", "-v")
