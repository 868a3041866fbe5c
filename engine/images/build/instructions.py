"""What each statement of a Dockerfile means: one frozen value per instruction, variables not yet replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from engine.errors import InvalidInput, Unsupported
from engine.frozen import frozen
from engine.images.build.mounts import MountOption, read_mount
from engine.images.build.parse import Heredoc, Place, Statement, heredoc_name, located, parse, split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*$")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


@frozen
class Command:
    """A command line: in exec form its arguments, in shell form one string that a shell is to read."""

    words: tuple[str, ...]
    shell: bool


@frozen
class Instruction:
    """What all instructions have. `text` is the statement as one line."""

    place: Place
    text: str
    escape: str


@frozen
class From(Instruction):
    image: str
    name: str | None
    platform: str | None


@frozen
class Arg(Instruction):
    pairs: tuple[tuple[str, str | None], ...]


@frozen
class Env(Instruction):
    pairs: tuple[tuple[str, str], ...]


@frozen
class Label(Instruction):
    pairs: tuple[tuple[str, str], ...]


@frozen
class Run(Instruction):
    """`script` is a here-document that names its own interpreter (`#!`): it is run as a program."""

    command: Command
    mounts: tuple[MountOption, ...] = ()
    network: str | None = None
    security: str | None = None
    script: Heredoc | None = None


@frozen
class Copy(Instruction):
    """COPY, or ADD where `is_add`. A source that names one of `heredocs` stands for its text."""

    is_add: bool
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...]
    from_: str | None
    chown: str | None
    chmod: str | None
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str | None = None
    keep_git_dir: bool = False
    unpack: bool | None = None


@frozen
class Onbuild(Instruction):
    """What images built on this one do first; `trigger` is the instruction's text."""

    trigger: str


@frozen
class Cmd(Instruction):
    command: Command


@frozen
class Entrypoint(Instruction):
    command: Command


@frozen
class Shell(Instruction):
    words: tuple[str, ...]


@frozen
class Workdir(Instruction):
    path: str


@frozen
class User(Instruction):
    user: str


@frozen
class Expose(Instruction):
    ports: tuple[str, ...]


@frozen
class Volume(Instruction):
    paths: tuple[str, ...]


@frozen
class StopSignal(Instruction):
    signal: str


@frozen
class Maintainer(Instruction):
    author: str


@frozen
class Healthcheck(Instruction):
    """`test` None is NONE. Times are nanoseconds as in the image configuration, 0: the default."""

    test: Command | None
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


def read(statement: Statement) -> Instruction:
    """Turn a statement into its instruction. Raise InvalidInput or Unsupported with the statement's place."""
    with located(statement.place):
        reader = _READERS.get(statement.keyword)
        if reader is None:
            raise InvalidInput(f'unknown instruction "{statement.keyword}"', hint=_instruction_hint(statement.keyword))
        known = _FLAGS.get(statement.keyword, frozenset())
        for name, _ in statement.flags:
            if name not in known:
                raise _flag_error(statement.keyword, name, known)
        if not statement.rest and statement.keyword != "MAINTAINER":
            raise InvalidInput(
                f"{statement.keyword} needs an argument", hint="write it behind the instruction, on the same line"
            )
        return reader(statement)


def _instruction_hint(keyword: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(keyword, _READERS, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"the instructions are {', '.join(sorted(_READERS))}"


def _flag_error(keyword: str, name: str, known: frozenset[str]) -> InvalidInput | Unsupported:
    if keyword == "RUN" and name == "device":
        return Unsupported("RUN --device is not supported by this version of umiak")
    hint = (
        f"{keyword} knows {', '.join(f'--{flag}' for flag in sorted(known))}" if known else f"{keyword} takes no flags"
    )
    return InvalidInput(f"unknown flag --{name} for {keyword}", hint=hint)


def _flag(statement: Statement, name: str) -> str | None:
    values = [value for flag, value in statement.flags if flag == name]
    if len(values) > 1:
        raise InvalidInput(f"--{name} given twice", hint="keep one of them")
    if values and not values[0]:
        raise InvalidInput(f"--{name} needs a value", hint=f"write --{name}=…")
    return values[0] if values else None


def _flags(statement: Statement, name: str) -> tuple[str, ...]:
    """The values of a flag that may be repeated."""
    values = tuple(value for flag, value in statement.flags if flag == name)
    if not all(values):
        raise InvalidInput(f"--{name} needs a value", hint=f"write --{name}=…")
    return values


def _truth(statement: Statement, name: str) -> bool | None:
    """A flag that stands alone or with true or false; None where it is not given."""
    values = [value for flag, value in statement.flags if flag == name]
    if len(values) > 1:
        raise InvalidInput(f"--{name} given twice", hint="keep one of them")
    if not values:
        return None
    if values[0].lower() not in ("", "true", "false", "1", "0"):
        raise InvalidInput(f"--{name}={values[0]} is neither true nor false", hint="write true or false")
    return values[0].lower() in ("", "true", "1")


def _read_from(statement: Statement) -> Instruction:
    words = statement.rest.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise InvalidInput(
            "FROM takes an image and perhaps AS and a name", hint="write FROM image or FROM image AS name"
        )
    name = words[2].lower() if len(words) == 3 else None
    if name is not None and not _STAGE_NAME.match(name):
        raise InvalidInput(
            f"cannot use {words[2]!r} as the name of a stage",
            hint="a name starts with a letter and holds letters, digits, '_', '-' and '.'",
        )
    return From(*_common(statement), words[0], name, _flag(statement, "platform"))


def _read_arg(statement: Statement) -> Instruction:
    pairs: list[tuple[str, str | None]] = []
    for word in split_words(statement.rest, statement.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidInput(f"ARG has no name in {word!r}", hint="for example ARG VERSION=1")
        pairs.append((name, value if equals else None))
    return Arg(*_common(statement), tuple(pairs))


def _read_env(statement: Statement) -> Instruction:
    return Env(*_common(statement), _pairs(statement))


def _read_label(statement: Statement) -> Instruction:
    return Label(*_common(statement), _pairs(statement))


def _pairs(statement: Statement) -> tuple[tuple[str, str], ...]:
    """`name=value …`, or the old form `name rest of the line`."""
    words = split_words(statement.rest, statement.escape)
    if "=" not in words[0]:
        name, *rest = statement.rest.split(None, 1)
        if not rest:
            raise InvalidInput(
                f"{statement.keyword} {name} has no value", hint=f"write {statement.keyword} {name}=value"
            )
        return ((name, rest[0]),)
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise InvalidInput(
                f"cannot read {word!r}: {statement.keyword} needs name=value",
                hint="put a value that holds spaces into double quotes",
            )
        pairs.append((name, value))
    return tuple(pairs)


def _read_run(statement: Statement) -> Instruction:
    docs = statement.heredocs
    mounts = tuple(read_mount(text) for text in _flags(statement, "mount"))
    network = _one_of(statement, "network", ("default", "none", "host"))
    security = _one_of(statement, "security", ("sandbox", "insecure"))
    script = None
    if not docs:
        command = _command(statement.rest)
    elif len(docs) == 1 and heredoc_name(statement.rest) is not None:
        script = docs[0] if docs[0].content.startswith("#!") else None
        command = Command((docs[0].content,), shell=True)
    else:
        text = "\n".join([statement.rest, *(f"{doc.content}{doc.name}" for doc in docs)])
        command = Command((text,), shell=True)
    return Run(*_common(statement), command, mounts, network, security, script)


def _one_of(statement: Statement, name: str, choices: tuple[str, ...]) -> str | None:
    value = _flag(statement, name)
    if value is not None and value not in choices:
        raise InvalidInput(f"--{name} cannot be {value!r}", hint=f"use one of: {', '.join(choices)}")
    return value


def _read_cmd(statement: Statement) -> Instruction:
    return Cmd(*_common(statement), _command(statement.rest))


def _read_entrypoint(statement: Statement) -> Instruction:
    return Entrypoint(*_common(statement), _command(statement.rest))


def _command(rest: str) -> Command:
    words = _json_words(rest)
    return Command((rest,), shell=True) if words is None else Command(words, shell=False)


def _json_words(rest: str) -> tuple[str, ...] | None:
    """The words of an exec form; None where the text is no JSON array of strings, which makes it a shell form."""
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in words):
        return None
    if any("\0" in word or _has_surrogate(word) for word in words):
        raise InvalidInput("a word holds a character that cannot be passed to a program")
    return tuple(words)


def _has_surrogate(word: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in word)


def _words(rest: str) -> tuple[str, ...]:
    """A JSON array, or words between spaces (quotes do not join them here, as in Docker)."""
    words = _json_words(rest)
    return tuple(rest.split()) if words is None else words


def _read_shell(statement: Statement) -> Instruction:
    words = _json_words(statement.rest)
    if not words:
        raise InvalidInput("SHELL needs a JSON array", hint='write SHELL ["/bin/bash", "-c"]')
    return Shell(*_common(statement), words)


def _read_copy(statement: Statement) -> Instruction:
    words = _words(statement.rest)
    keyword = statement.keyword
    if len(words) < 2:
        raise InvalidInput(
            f"{keyword} needs at least one source and a destination", hint=f"write {keyword} source destination"
        )
    *sources, destination = words
    return Copy(
        *_common(statement),
        keyword == "ADD",
        tuple(sources),
        destination,
        statement.heredocs,
        _flag(statement, "from"),
        _flag(statement, "chown"),
        _flag(statement, "chmod"),
        _truth(statement, "link") or False,
        _truth(statement, "parents") or False,
        _flags(statement, "exclude"),
        _flag(statement, "checksum"),
        _truth(statement, "keep-git-dir") or False,
        _truth(statement, "unpack"),
    )


def _read_workdir(statement: Statement) -> Instruction:
    return Workdir(*_common(statement), statement.rest)


def _read_user(statement: Statement) -> Instruction:
    return User(*_common(statement), statement.rest)


def _read_expose(statement: Statement) -> Instruction:
    return Expose(*_common(statement), tuple(statement.rest.split()))


def _read_volume(statement: Statement) -> Instruction:
    paths = _words(statement.rest)
    if not paths or not all(path.strip() for path in paths):
        raise InvalidInput("VOLUME needs a path", hint='for example VOLUME /data or VOLUME ["/data", "/log"]')
    return Volume(*_common(statement), paths)


def _read_stopsignal(statement: Statement) -> Instruction:
    return StopSignal(*_common(statement), statement.rest)


def _read_maintainer(statement: Statement) -> Instruction:
    return Maintainer(*_common(statement), statement.rest)


def _read_healthcheck(statement: Statement) -> Instruction:
    kind, *rest = statement.rest.split(None, 1)
    if kind.upper() == "NONE":
        if rest or statement.flags:
            raise InvalidInput(
                "HEALTHCHECK NONE takes nothing else", hint="write HEALTHCHECK NONE alone, or HEALTHCHECK CMD command"
            )
        return Healthcheck(*_common(statement), None)
    if kind.upper() != "CMD" or not rest:
        raise InvalidInput(
            f"cannot read HEALTHCHECK {kind}", hint="write HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE"
        )
    command = _command(rest[0])
    if not command.words:
        raise InvalidInput(
            "HEALTHCHECK CMD has no command", hint="for example HEALTHCHECK CMD curl -f http://localhost/"
        )
    interval, timeout, start_period, start_interval = (
        _duration_ns(statement, name) for name in ("interval", "timeout", "start-period", "start-interval")
    )
    retries = _retries(_flag(statement, "retries"))
    return Healthcheck(*_common(statement), command, interval, timeout, start_period, start_interval, retries)


def _duration_ns(statement: Statement, flag: str) -> int:
    text = _flag(statement, flag)
    if text is None or text == "0":
        return 0
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidInput(f"cannot read --{flag}={text} as a time", hint="write for example 500ms, 30s or 1m30s")
    total = round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))
    if not 10**6 <= total < 2**63:
        raise InvalidInput(f"--{flag}={text} is outside of what Docker allows", hint="give 0 or at least 1ms")
    return total


def _retries(text: str | None) -> int:
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInput(f"cannot read --retries={text} as a count", hint="write a whole number, such as --retries=3")
    return int(text)


def _read_onbuild(statement: Statement) -> Instruction:
    bodies = "".join(f"\n{doc.content}{doc.name}" for doc in statement.heredocs)
    trigger = statement.rest + bodies
    read_trigger(trigger, statement.place, statement.escape)
    return Onbuild(*_common(statement), trigger)


def read_trigger(text: str, place: Place, escape: str = "\\") -> Instruction:
    """The instruction that an ONBUILD holds. Raise InvalidInput for one that cannot be put off."""
    statements = parse(text, place.file, escape=escape, first_line=place.line)
    if len(statements) != 1:
        raise InvalidInput("ONBUILD takes one instruction", hint="for example ONBUILD COPY . /app")
    if statements[0].keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidInput(f"ONBUILD cannot hold {statements[0].keyword}")
    return read(statements[0])


def _common(statement: Statement) -> tuple[Place, str, str]:
    return statement.place, statement.text, statement.escape


_READERS: dict[str, Callable[[Statement], Instruction]] = {
    "ADD": _read_copy,
    "ARG": _read_arg,
    "CMD": _read_cmd,
    "COPY": _read_copy,
    "ENTRYPOINT": _read_entrypoint,
    "ENV": _read_env,
    "EXPOSE": _read_expose,
    "FROM": _read_from,
    "HEALTHCHECK": _read_healthcheck,
    "LABEL": _read_label,
    "MAINTAINER": _read_maintainer,
    "ONBUILD": _read_onbuild,
    "RUN": _read_run,
    "SHELL": _read_shell,
    "STOPSIGNAL": _read_stopsignal,
    "USER": _read_user,
    "VOLUME": _read_volume,
    "WORKDIR": _read_workdir,
}

_FLAGS: dict[str, frozenset[str]] = {
    "ADD": frozenset({"chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"}),
    "COPY": frozenset({"chown", "chmod", "from", "link", "parents", "exclude"}),
    "FROM": frozenset({"platform"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
    "RUN": frozenset({"mount", "network", "security"}),
}
