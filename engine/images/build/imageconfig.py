"""The part of an image's configuration that instructions change, written as Docker writes it."""

from __future__ import annotations

import copy
import re
import signal
from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidInput
from engine.images.build.instructions import Command, Healthcheck

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")

_REAL_TIME = re.compile(r"SIGRT(MIN(\+([0-9]|1[0-5]))?|MAX(-([0-9]|1[0-4]))?)$")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?$", re.ASCII)
_MAX_PORT = 65535


class ImageSettings:
    """The `config` object of an image being built, and its author. Changed by one stage only."""

    def __init__(self, document: Mapping[str, Any] | None) -> None:
        """Start from a base image's configuration document; None starts from scratch.

        PATH is always set in what is built, as by Docker.
        """
        base = document or {}
        self.author: str = base.get("author") or ""
        self.config: dict[str, Any] = copy.deepcopy(base.get("config") or {})
        if document is None:
            self.config = {"WorkingDir": "/"}
        if "PATH" not in self.env:
            self.config["Env"] = [*(self.config.get("Env") or []), f"PATH={DEFAULT_PATH}"]
        self._has_own_cmd = False

    def copy(self) -> ImageSettings:
        """The same settings for a stage that starts from this one."""
        return ImageSettings({"author": self.author, "config": self.config})

    @property
    def env(self) -> dict[str, str]:
        """The environment, in the image's order."""
        pairs = (item.partition("=") for item in self.config.get("Env") or [])
        return {name: value for name, _, value in pairs}

    @property
    def working_dir(self) -> str:
        return self.config.get("WorkingDir") or "/"

    @property
    def user(self) -> str:
        return self.config.get("User") or ""

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.get("Shell") or DEFAULT_SHELL)

    def argv(self, command: Command) -> list[str]:
        """The arguments of a command, with the shell in front of a shell form."""
        return [*self.shell, *command.words] if command.shell else list(command.words)

    def set_env(self, name: str, value: str) -> None:
        """Set a variable where it stands, or add it at the end."""
        env = self.env
        env[name] = value
        self.config["Env"] = [f"{key}={item}" for key, item in env.items()]

    def set_cmd(self, command: Command) -> None:
        self.config["Cmd"] = self.argv(command)
        self._has_own_cmd = True

    def set_entrypoint(self, command: Command) -> None:
        """Set the entry point. A CMD that came with the base image was written for another one, so it goes."""
        self.config["Entrypoint"] = self.argv(command)
        if not self._has_own_cmd:
            self.config.pop("Cmd", None)

    def set_healthcheck(self, check: Healthcheck) -> None:
        if check.test is None:
            self.config["Healthcheck"] = {"Test": ["NONE"]}
            return
        kind = "CMD-SHELL" if check.test.shell else "CMD"
        times = {
            "Interval": check.interval_ns,
            "Timeout": check.timeout_ns,
            "StartPeriod": check.start_period_ns,
            "StartInterval": check.start_interval_ns,
            "Retries": check.retries,
        }
        self.config["Healthcheck"] = {"Test": [kind, *check.test.words]} | {k: v for k, v in times.items() if v}

    def set_stop_signal(self, text: str) -> None:
        """Set the stop signal. Raise InvalidInput for what is no signal."""
        is_number = text.isascii() and text.isdigit() and 0 < int(text[:4]) < 65
        if not is_number and not _REAL_TIME.match(text) and text not in signal.Signals.__members__:
            raise InvalidInput(f"{text!r} is no signal", hint="write a name such as SIGTERM, or a number")
        self.config["StopSignal"] = text

    def expose(self, text: str) -> None:
        """Add a port, or each of a range of ports. Raise InvalidInput."""
        found = _PORT.match(text)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        protocol = ((found and found[3]) or "tcp").lower()
        if not found or not 0 <= first <= last <= _MAX_PORT or protocol not in ("tcp", "udp", "sctp"):
            raise InvalidInput(f"cannot read {text!r} as a port", hint="write for example 80, 53/udp or 8000-8010")
        self._add("ExposedPorts", *(f"{port}/{protocol}" for port in range(first, last + 1)))

    def add_trigger(self, text: str) -> None:
        """Put an instruction off to the images that are built on this one."""
        self.config["OnBuild"] = [*(self.config.get("OnBuild") or []), text]

    def add_volume(self, path: str) -> None:
        self._add("Volumes", path)

    def set_labels(self, labels: Mapping[str, str]) -> None:
        self.config["Labels"] = {**(self.config.get("Labels") or {}), **labels}

    def _add(self, key: str, *items: str) -> None:
        self.config[key] = {**(self.config.get(key) or {}), **{item: {} for item in items}}
