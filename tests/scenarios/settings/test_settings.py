"""What the file says about a process is what the process sees."""

from __future__ import annotations

import json
import time

import pytest

from tests.stack import Stack, json_values


def test_the_process_sees_its_settings(stack: Stack) -> None:
    stack.up()
    environment = dict(line.partition("=")[::2] for line in stack.sh("web", "env").splitlines())
    assert environment["PLAIN"] == "text"
    assert environment["FROM_DOTENV"] == "hello from .env"
    assert environment["FROM_FILE"] == "two words"
    assert environment["DOLLAR"] == "$HOME"
    assert stack.sh("web", "hostname; pwd; id -u") == "webserver\n/srv/app\n1234"
    assert "192.0.2.7\tprinter" in stack.sh("web", "cat /etc/hosts")
    assert "127.0.0.11" in stack.sh("web", "cat /etc/resolv.conf")
    assert stack.sh("web", "cat /proc/1/comm") != "sleep", "init: true puts a reaper in front"


def test_the_stop_signal_and_the_grace_period_are_obeyed(stack: Stack) -> None:
    stack.up()
    started = time.monotonic()
    stack.umiak("stop")
    assert time.monotonic() - started < 8
    assert stack.status("stopper")["exit_code"] == 9
    assert stack.status("stubborn")["exit_code"] == 137


def test_config_prints_the_file_resolved(stack: Stack) -> None:
    printed = json.loads(stack.umiak("config", "--format", "json").stdout)
    assert printed["name"] == "settings"
    assert printed["services"]["web"]["environment"]["FROM_DOTENV"] == "hello from .env"
    again = stack.umiak("-f", "-", "config", "--format", "json", stdin=json.dumps(printed)).stdout
    assert json.loads(again)["services"] == printed["services"]


def test_ps_carries_dockers_labels(stack: Stack) -> None:
    stack.up()
    (entry,) = json_values(stack.umiak("ps", "--format", "json", "web").stdout)
    labels = entry["Labels"]
    assert "com.docker.compose.project=settings" in labels
    assert "com.docker.compose.service=web" in labels
    assert "org.example.team=blue" in labels


@pytest.mark.umiak("it is another program's version")
def test_version_is_printed(stack: Stack) -> None:
    assert "0.1.0" in stack.umiak("version").stdout


def test_compatibility_names_containers_as_compose_v1_did(stack: Stack) -> None:
    stack.umiak("--compatibility", "up", "-d", "web")
    names = stack.umiak("ps", "--format", "{{.Name}}").stdout.split()
    assert names == ["settings_web_1"]
    assert stack.sh("web", "hostname") == "webserver"
    stack.umiak("down")
    assert stack.umiak("ps", "-aq").stdout == ""
