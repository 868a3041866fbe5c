"""Which files make up the project, where it lives and what it is called: the cheap part of loading.

`ps`, `logs` and `down` need no more than this, so nothing here imports pydantic, and yaml only where a file's `name:`
is not plain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field

from compose.errors import ComposeError, Warning, display_path
from compose.spec import source
from compose.spec.limits import MAX_BYTES
from engine.frozen import frozen

FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_NAMES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PLAIN_NAME = re.compile(r"(?m)^name:[ \t]+([A-Za-z0-9_-]+)[ \t]*(?:#.*)?$")
_ANY_NAME = re.compile(r"(?m)^(?:[\"']?name[\"']?[ \t]*:|[ \t]*\{|\? )")


@frozen
class LoadOptions:
    """What the command line and the environment say about the project.

    `services` are those named on the command line: they and what they depend on are enabled. `compatibility` makes names with
    underscores, as COMPOSE_COMPATIBILITY does. The flags at the end are those of `config`.
    """

    files: tuple[str, ...] = ()
    project_name: str | None = None
    project_directory: str | None = None
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    services: tuple[str, ...] = ()
    all_resources: bool = False
    compatibility: bool = False
    interpolate: bool = True
    normalize: bool = True
    resolve_paths: bool = True
    check_consistency: bool = True
    resolve_environment: bool = True


@frozen
class Discovered:
    """A project before its files are understood.

    `environment` is what interpolation sees; `is_named` tells that the name was given from outside the files.
    """

    name: str
    working_dir: str
    files: tuple[str, ...]
    environment: dict[str, str]
    env_files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    is_named: bool = False
    warnings: tuple[Warning, ...] = ()


def normalize_name(text: str) -> str:
    """A project name made of any text, as Docker makes it of a directory's name."""
    return re.sub(r"[^a-z0-9_-]", "", text.lower()).lstrip("_-")


def discover(options: LoadOptions, *, need_files: bool = True) -> Discovered:
    """Find the project. With `need_files` false a named project may have no file at all."""
    finder = _Finder(options)
    finder.load_env_files()
    finder.find_files(need_files=need_files and not (options.project_name and not options.files))
    finder.load_env_files()
    return finder.result()


class _Finder:
    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self._environment = dict(options.environment)
        self._cwd = _current_directory()
        self._files: list[str] = [self._compose_file(path) for path in options.files]
        self._env_files: list[str] = []
        self._warnings: list[Warning] = []

    def _absolute(self, path: str) -> str:
        return path if path == "-" else os.path.normpath(os.path.join(self._cwd, os.path.expanduser(path)))

    def _compose_file(self, path: str) -> str:
        file = self._absolute(path)
        if source.is_remote(path) and not source.kind(file):
            raise source.remote_file("open", path)
        return file

    def working_dir(self) -> str:
        if self._options.project_directory:
            return self._absolute(self._options.project_directory)
        local = next((path for path in self._files if path != "-"), None)
        return os.path.dirname(local) if local else self._cwd

    def load_env_files(self) -> None:
        """Add what the env files say and the environment does not; call again once the files are known."""
        named = list(self._options.env_files)
        if not named and (listed := self._environment.get("COMPOSE_ENV_FILES")):
            named = [path for path in listed.split(",") if path]
        if not named:
            default = os.path.join(self.working_dir(), ".env")
            is_off = self._environment.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "true", "yes", "on")
            if is_off or default in self._env_files or source.kind(default) != "file":
                return
            named = [default]
        paths = [self._absolute(path) for path in named]
        if paths == self._env_files:
            return
        from compose.spec import dotenv

        values = dotenv.load_files(paths, self._environment, self._warnings)
        self._environment = {**values, **self._environment}
        self._env_files = paths

    def find_files(self, *, need_files: bool) -> None:
        if not self._files and (listed := self._environment.get("COMPOSE_FILE")):
            separator = self._environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
            self._files = [self._compose_file(path) for path in listed.split(separator) if path]
        if self._files:
            for path in self._files:
                if path != "-" and not source.kind(path):
                    raise source.no_such_file(path)
            return
        directory = self.working_dir()
        while True:
            found = [name for name in FILE_NAMES if source.kind(os.path.join(directory, name))]
            if found:
                break
            parent = os.path.dirname(directory)
            if parent == directory:
                if need_files:
                    hint = f"create {FILE_NAMES[0]} here, or name a file with -f"
                    raise ComposeError("E001", "no configuration file provided: not found", hint=hint)
                return
            directory = parent
        self._warn_of_several(found, directory)
        self._files = [os.path.join(directory, found[0])]
        overrides = [name for name in OVERRIDE_NAMES if source.kind(os.path.join(directory, name))]
        self._warn_of_several(overrides, directory)
        self._files += [os.path.join(directory, name) for name in overrides[:1]]

    def _warn_of_several(self, names: list[str], directory: str) -> None:
        if len(names) > 1:
            chosen = display_path(os.path.join(directory, names[0]))
            message = f"Found multiple config files with supported names: {', '.join(names)}. Using {chosen}"
            self._warnings.append(Warning(None, message))

    def result(self) -> Discovered:
        name, is_named = self._name()
        profiles = self._options.profiles
        if not profiles:
            profiles = tuple(p for p in self._environment.get("COMPOSE_PROFILES", "").split(",") if p)
        self._environment["COMPOSE_PROJECT_NAME"] = name
        return Discovered(
            name,
            self.working_dir(),
            tuple(self._files),
            self._environment,
            tuple(self._env_files) if self._options.env_files else (),
            profiles,
            is_named,
            tuple(self._warnings),
        )

    def _name(self) -> tuple[str, bool]:
        given = self._options.project_name or self._environment.get("COMPOSE_PROJECT_NAME")
        if given:
            if not _NAME.fullmatch(given):
                message = f'invalid project name "{given}": must consist only of lowercase alphanumeric characters, '
                message += "hyphens, and underscores as well as start with a letter or number"
                raise ComposeError("E060", message, hint=f'for example "{normalize_name(given) or "app"}"')
            return given, True
        for path in reversed(self._files):
            if text := _name_in_file(path, self._environment):
                return normalize_name(text), False
        return normalize_name(os.path.basename(self.working_dir())), False


def _current_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        hint = "change to a directory that exists"
        raise ComposeError("E001", "the current directory no longer exists", hint=hint) from None


def _name_in_file(path: str, environment: Mapping[str, str]) -> str | None:
    """The top-level `name:` of a file, without understanding the rest of it where that can be avoided."""
    # A pipe can be read only once, and that is the loader's turn.
    if path == "-" or source.kind(path) != "file":
        return None
    try:
        text = source.read_bytes(path)[:MAX_BYTES].decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None  # loading the file says what is wrong with it
    if not _ANY_NAME.search(text):
        return None
    plain = _PLAIN_NAME.findall(text)
    if len(plain) == 1 and len(_ANY_NAME.findall(text)) == 1:
        return str(plain[0])
    return _parsed_name(text, path, environment)


def _parsed_name(text: str, path: str, environment: Mapping[str, str]) -> str | None:
    from compose.spec import document
    from compose.spec.interpolate import substitute

    try:
        names = [tree.get("name") for tree in document.parse(text, path, errors=[]) if isinstance(tree, document.Map)]
        named = next((name for name in reversed(names) if isinstance(name, str)), None)
        return substitute(named, environment.get, lambda _: None) if named else None
    except (ComposeError, ValueError):
        return None  # loading the file says what is wrong with it
