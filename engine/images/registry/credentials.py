"""Who we are to a registry: Docker's own file, `~/.docker/config.json` (or in `DOCKER_CONFIG`), and its credential helpers."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import Denied, InvalidInput, NotFound, TimedOut, Unavailable
from engine.images.reference import DEFAULT_REGISTRY

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_TIMEOUT_S = 60.0
_MAX_FILE_BYTES = 4 << 20
_NOT_FOUND = "credentials not found"

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user's name and password, or a token that stands for both."""

    username: str = ""
    password: str = ""
    identity_token: str = ""


class CredentialStore:
    """The credentials in one Docker configuration directory."""

    def __init__(self, directory: str | None = None) -> None:
        self.path = os.path.join(directory or _directory(), "config.json")

    def get(self, registry: str, warn: Warn) -> Credentials | None:
        """The credentials for a registry, None for going anonymous. A helper that is missing or fails is warned of."""
        document = self._read()
        key = server_key(registry)
        helper = _helper(document, key, registry)
        if helper:
            found = _from_helper(helper, key, warn)
            if found is not None:
                return found
        entry = _entry(_mapping(document, "auths", self.path), key, registry)
        return _from_entry(entry, self.path, registry) if entry is not None else None

    def put(self, registry: str, credentials: Credentials) -> str:
        """Store credentials; return where they are, for people."""
        document = self._read()
        key = server_key(registry)
        helper = _helper(document, key, registry)
        if helper:
            token = credentials.identity_token
            _call_helper(
                helper,
                "store",
                json.dumps(
                    {
                        "ServerURL": key,
                        "Username": "<token>" if token else credentials.username,
                        "Secret": token or credentials.password,
                    }
                ),
            )
            self._write(document | {"auths": {**_mapping(document, "auths", self.path), key: {}}})
            return f"docker-credential-{helper}"
        pair = f"{credentials.username}:{credentials.password}".encode()
        entry = {"auth": base64.b64encode(pair).decode()}
        if credentials.identity_token:
            entry["identitytoken"] = credentials.identity_token
        self._write(document | {"auths": {**_mapping(document, "auths", self.path), key: entry}})
        return self.path

    def remove(self, registry: str) -> bool:
        """Forget credentials; tell whether there were some."""
        document = self._read()
        key = server_key(registry)
        helper = _helper(document, key, registry)
        had = False
        if helper:
            try:
                _call_helper(helper, "erase", key)
                had = True
            except NotFound:
                pass
        auths = _mapping(document, "auths", self.path)
        kept = {name: entry for name, entry in auths.items() if _normal(name) != _normal(key)}
        if len(kept) < len(auths):
            self._write(document | {"auths": kept})
            had = True
        return had

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                document = json.loads(file.read(_MAX_FILE_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except PermissionError as error:
            raise Denied(f"cannot read {self.path}: permission denied") from error
        except (ValueError, OSError, RecursionError) as error:
            raise InvalidInput(
                f"cannot read {self.path}: {error}", hint="it must be JSON, as Docker writes it"
            ) from error
        if not isinstance(document, dict):
            raise InvalidInput(f"{self.path} is not a JSON object")
        return document

    def _write(self, document: Mapping[str, Any]) -> None:
        """Replace the file, readable by its owner alone; a link to it (dotfiles) stays one."""
        target = os.path.realpath(self.path)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        temporary = f"{target}.{os.urandom(4).hex()}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(document, file, indent="\t", ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(fd)
        os.rename(temporary, target)


def server_key(registry: str) -> str:
    """What Docker calls a registry in its file."""
    return DOCKER_HUB_KEY if registry == DEFAULT_REGISTRY else registry


def _directory() -> str:
    return os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")


def _normal(key: str) -> str:
    """A key of `auths` without scheme and path: old files have `https://host/v1/`."""
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


def _mapping(document: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{path}: {key} is not an object")
    return value


def _helper(document: Mapping[str, Any], key: str, registry: str) -> str:
    """The helper in charge of a registry. Its name becomes a program's, so it must not lead elsewhere."""
    helpers = document.get("credHelpers")
    named = (helpers.get(registry) or helpers.get(key)) if isinstance(helpers, dict) else None
    name = named or document.get("credsStore") or ""
    if not isinstance(name, str) or "/" in name or "\0" in name:
        raise InvalidInput(f"cannot read {name!r} as the name of a credential helper")
    return name


def _entry(auths: Mapping[str, Any], key: str, registry: str) -> Mapping[str, Any] | None:
    exact = auths.get(key) or auths.get(registry)
    if exact is None:
        exact = next((entry for name, entry in auths.items() if _normal(name) == _normal(key)), None)
    return exact if isinstance(exact, dict) and exact else None


def _from_entry(entry: Mapping[str, Any], path: str, registry: str) -> Credentials | None:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            pair = base64.b64decode(str(entry["auth"]), validate=True).decode().rstrip("\0")
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(
                f"{path}: cannot read the login of {registry}", hint=f"log in anew: umiak login {registry}"
            ) from error
        username, _, password = pair.partition(":")
    found = Credentials(username, password, str(entry.get("identitytoken") or ""))
    return found if found.username or found.identity_token else None


def _from_helper(helper: str, key: str, warn: Warn) -> Credentials | None:
    try:
        answer = _call_helper(helper, "get", key)
        document = json.loads(answer)
        username, secret = str(document["Username"]), str(document["Secret"])
    except NotFound:
        return None
    except (Unavailable, TimedOut) as error:
        warn(f"{error.message}; going on without a login")
        return None
    except (ValueError, KeyError, TypeError):
        warn(f"docker-credential-{helper} gave an unreadable answer; going on without a login")
        return None
    return Credentials(identity_token=secret) if username == "<token>" else Credentials(username, secret)


def _call_helper(helper: str, action: str, stdin: str) -> str:
    """Run a credential helper (docker-credential-helpers, README). NotFound: it runs, and knows of no such login."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, action], input=stdin.encode(), capture_output=True, timeout=_HELPER_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise Unavailable(
            f"the credential helper {program} is not installed",
            hint="install it, or remove credsStore and credHelpers from Docker's config.json",
        ) from error
    except OSError as error:
        raise Unavailable(f"cannot run the credential helper {program}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"the credential helper {program} did not answer in {_HELPER_TIMEOUT_S:.0f} s") from error
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        said = (output.strip() or done.stderr.decode(errors="replace").strip())[:200]
        if _NOT_FOUND in said:
            raise NotFound(said)
        raise Unavailable(f"the credential helper {program} failed: {said or f'exit code {done.returncode}'}")
    return output
