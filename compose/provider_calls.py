"""Call the programs that stand in for services, and keep a record of those called with `up`: `down` so knows whom to call without
a file, and a plan what they said.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from compose.plan import Provider
from engine.errors import InvalidInput, NotFound, Unavailable

Tell = Callable[[str], None]
_PLUGIN_PLACES = tuple(
    f"{place}/docker/cli-plugins" for place in ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")
)


def call(provider: Provider, project: str, verb: str, tell: Tell) -> dict[str, str]:
    """Call a provider; return the variables that it sets for its dependents. Raise Unavailable with what it said last."""
    program = _program(provider)
    known = _parameters(_metadata(program, provider), verb)
    options = [
        f"--{name}={value}"
        for name, values in provider.options.items()
        for value in values
        if known is None or name in known
    ]
    argv = [program, "compose", f"--project-name={project}", verb, *options, provider.service]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv,
            cwd=provider.directory if os.path.isdir(provider.directory) else None,
            env=dict(provider.environment) or None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        with process:
            answers, said = _listen(process.stdout or (), provider, tell)
        if process.returncode != 0:
            errors.seek(0)
            last = said or errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise Unavailable(
                f'provider {provider.type} of service "{provider.service}" could not do {verb}: '
                f"{last or f'it exited with code {process.returncode}'}",
                hint=f"try it by hand: {' '.join(argv)}",
                place=provider.place,
            )
    return answers


def _listen(lines: Iterable[bytes], provider: Provider, tell: Tell) -> tuple[dict[str, str], str]:
    """Take in what a provider says; return the variables that it sets and its last error."""
    found: dict[str, str] = {}
    error = ""
    for line in lines:
        kind, message = _message(line, provider)
        if kind in ("setenv", "rawsetenv"):
            key, equals, value = message.partition("=")
            if not equals or not key:
                raise _unreadable(line, provider)
            found[key if kind == "rawsetenv" else f"{provider.service.upper()}_{key}"] = value
        elif kind == "error":
            error = message
        elif kind == "info":
            tell(message)
        elif kind != "debug":
            raise _unreadable(line, provider)
    return found, error


def _message(line: bytes, provider: Provider) -> tuple[str, str]:
    try:
        said = json.loads(line)
        return str(said["type"]), str(said["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(line, provider) from error


def _unreadable(line: bytes, provider: Provider) -> InvalidInput:
    text = line.decode(errors="replace").strip()[:200]
    return InvalidInput(
        f'provider {provider.type} of service "{provider.service}" said what cannot be understood: {text}',
        hint='each line must be like {"type": "info", "message": "text"}',
        place=provider.place,
    )


def _program(provider: Provider) -> str:
    """The program: Docker's plugin of that name, else one on the PATH. Raise NotFound."""
    places = (os.path.expanduser("~/.docker/cli-plugins"), *_PLUGIN_PLACES)
    plugins = (f"{place}/docker-{provider.type}" for place in places)
    found = next((path for path in plugins if os.access(path, os.X_OK)), None)
    found = found or shutil.which(provider.type, path=provider.environment.get("PATH"))
    if found is None:
        raise NotFound(
            f'there is no program "{provider.type}", which is to provide service "{provider.service}"',
            hint="install it on the PATH, or as a Docker plugin",
            place=provider.place,
        )
    return found


def can_stop(provider: Provider) -> bool:
    """Whether a provider says that it can stop what it provides without giving it up."""
    try:
        return "stop" in _metadata(_program(provider), provider)
    except NotFound:
        return False


def _metadata(program: str, provider: Provider) -> dict[str, Any]:
    """What a provider says of itself; nothing where it does not."""
    asked = subprocess.run(
        [program, "compose", "metadata"],
        env=dict(provider.environment) or None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        said = json.loads(asked.stdout)
    except ValueError:
        return {}
    return said if asked.returncode == 0 and isinstance(said, dict) else {}


def _parameters(metadata: Mapping[str, Any], verb: str) -> set[str] | None:
    """The options that a verb has; None where that is not said."""
    try:
        return {str(parameter["name"]) for parameter in metadata[verb]["parameters"]}
    except (KeyError, TypeError):
        return None


# ------------------------------------------------------------------------------------------ the record


def recorded(root: str, project: str) -> list[Provider]:
    """The providers that were called with `up`, and not with `down` since."""
    try:
        with open(_record(root, project), encoding="utf-8") as file:
            return [_provider(entry) for entry in json.load(file)]
    except FileNotFoundError:
        return []


def record(root: str, project: str, providers: Iterable[Provider]) -> None:
    """Keep the record of these providers and their answers, for us alone to read; none removes it."""
    path = _record(root, project)
    entries = [
        {
            "service": p.service,
            "type": p.type,
            "options": dict(p.options),
            "directory": p.directory,
            "answers": dict(p.answers),
            "after": list(p.after),
        }
        for p in providers
    ]
    if not entries:
        if os.path.exists(path):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(entries, file)
    os.rename(temporary, path)


def _record(root: str, project: str) -> str:
    return f"{root}/projects/{project}.providers"


def _provider(entry: dict[str, Any]) -> Provider:
    return Provider(**{**entry, "options": _options(entry["options"]), "after": tuple(entry.get("after", ()))})


def _options(options: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in options.items()}
