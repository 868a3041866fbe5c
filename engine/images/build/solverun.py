"""What a RUN comes to: its command, what it sees beside its root, and what it depends on."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.errors import Denied, InvalidInput, NotFound
from engine.images.build import instructions as ins
from engine.images.build.context import Context, Match
from engine.images.build.imageconfig import DEFAULT_PATH
from engine.images.build.mounts import SHARING, MountOption, number, size_bytes, truth
from engine.images.build.solvecopy import files_of
from engine.images.build.surroundings import HOST_NETWORK, INSECURE
from engine.images.build.work import FromContext, RunMount, RunWork, Source

if TYPE_CHECKING:
    from engine.images.build.solve import StageSolver

PROXY_ARGS = frozenset(
    name
    for plain in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (plain, plain.upper())
)
SCRIPT_DIRECTORY = "/dev/pipes"
SECRET_DIRECTORY = "/run/secrets"
AGENT_TARGET = "/run/buildkit/ssh_agent"


def run_work(stage: StageSolver, instruction: ins.Run) -> tuple[RunWork, tuple[object, ...], str]:
    """The work of a RUN, what it depends on, and how the image's history tells it."""
    script = (instruction.script.name, instruction.script.content) if instruction.script else None
    argv = [f"{SCRIPT_DIRECTORY}/{script[0]}"] if script else stage.settings.argv(instruction.command)
    if not argv or not argv[0]:
        raise InvalidInput("RUN has no command", hint="for example RUN make install")
    env = stage.settings.env
    declared = {name: value for name, value in stage.args.items() if value is not None and name not in env}
    visible = {**declared, **env}
    visible.setdefault("PATH", DEFAULT_PATH)
    proxies = {name: value for name, value in _proxies(stage.solver.build_args).items() if name not in visible}
    found = [_mount(stage, instruction, option, number) for number, option in enumerate(instruction.mounts)]
    _refuse_equal_targets([mount for mount, _ in found])
    network = _network(stage, instruction)
    work = RunWork(
        tuple(argv),
        _env_list({**visible, **proxies}),
        stage.settings.working_dir,
        stage.settings.user,
        tuple(mount for mount, _ in found),
        network,
        _is_privileged(stage, instruction),
        script,
    )
    key: tuple[object, ...] = ("run", argv, _env_list(visible), work.cwd, work.user)
    further = ([key for _, key in found], network if network != "default" else "", work.privileged, script)
    if any(further):
        key += further
    shown = f"|{len(declared)} {' '.join(_env_list(declared))} " if declared else ""
    return work, key, f"RUN {shown}{' '.join(argv)}"


def _network(stage: StageSolver, instruction: ins.Run) -> str:
    rules = stage.solver.surroundings
    wanted = instruction.network or rules.network
    if instruction.network == "default":
        wanted = rules.network
    if instruction.network == "host" and HOST_NETWORK not in rules.entitlements and rules.network != "host":
        raise Denied(
            "RUN --network=host needs the caller's leave",
            hint=f"build with --allow {HOST_NETWORK}, or add it to build.entitlements",
        )
    return wanted


def _is_privileged(stage: StageSolver, instruction: ins.Run) -> bool:
    if instruction.security != "insecure":
        return False
    if INSECURE not in stage.solver.surroundings.entitlements:
        raise Denied(
            "RUN --security=insecure needs the caller's leave",
            hint=f"build with --allow {INSECURE}, or add it to build.entitlements",
        )
    return True


def _mount(stage: StageSolver, instruction: ins.Run, option: MountOption, index: int) -> tuple[RunMount, object]:
    """One `--mount`, checked, and its part of the key: what is in a cache or a secret has none."""
    words = {key: stage.expand(value, instruction) for key, value in option.words.items()}
    option = MountOption(option.type, words)
    for name in ("required", "readonly", "readwrite"):
        truth(option, name)
    for name, base in (("uid", 10), ("gid", 10), ("mode", 8)):
        number(words.get(name), name, 0, base)
    size_bytes(words.get("size"))
    if words.get("sharing", SHARING[0]) not in SHARING:
        raise InvalidInput(f"--mount: sharing cannot be {words['sharing']!r}", hint=f"use one of: {', '.join(SHARING)}")
    target = _target(stage, option, index)
    source: Source | None = None
    source_key: object = None
    if option.type == "bind" or (option.type == "cache" and "from" in words):
        source, source_key = _source(stage, words)
    read_only = not truth(option, "readwrite") if option.type == "bind" else truth(option, "readonly")
    shown = sorted((key, value) for key, value in words.items() if key not in ("target", "from", "source"))
    return RunMount(option.type, target, words, source, read_only), (option.type, target, shown, source_key)


def _target(stage: StageSolver, option: MountOption, index: int) -> str:
    """Where a mount goes. A secret that is a variable only goes nowhere ("")."""
    written = option.words.get("target")
    if option.type == "secret":
        if not (option.words.get("id") or option.words.get("source") or written):
            raise InvalidInput("--mount=type=secret needs an id", hint="for example --mount=type=secret,id=token")
        if not written and "env" in option.words:
            return ""
        written = written or f"{SECRET_DIRECTORY}/{posixpath.basename(secret_id(option.words))}"
    if option.type == "ssh":
        written = written or f"{AGENT_TARGET}.{index}"
    if not written:
        raise InvalidInput(f"--mount=type={option.type} needs a target", hint="write target=/path")
    target = stage.absolute(written)
    if target == "/":
        raise InvalidInput("--mount cannot have / as its target", hint="name a directory below it")
    return target


def secret_id(words: Mapping[str, str]) -> str:
    """The name of the secret that a mount asks for: its id, else the name of its source or target."""
    return words.get("id") or posixpath.basename(words.get("source") or words.get("target", ""))


def _source(stage: StageSolver, words: Mapping[str, str]) -> tuple[Source, object]:
    path = words.get("source") or "/"
    found = files_of(stage, words.get("from"), [path])
    if not isinstance(found, Context):
        return found
    inside = found.follow(path)
    if next(found.walk(inside), None) is None:
        raise NotFound(
            f"--mount: there is no {path} in the build context {found.directory}", hint="source counts from the context"
        )
    return FromContext(found, (Match(posixpath.basename(inside), inside),)), found.digest(inside)


def _proxies(given: Mapping[str, str]) -> dict[str, str]:
    """The build arguments that name proxies, each in both spellings, as programs read either."""
    named = {name: value for name, value in given.items() if name in PROXY_ARGS}
    return {name.swapcase(): value for name, value in named.items()} | named


def _refuse_equal_targets(mounts: list[RunMount]) -> None:
    targets = [mount.target for mount in mounts if mount.target]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidInput(f"--mount: two mounts have the target {target}", hint="give each a target of its own")


def _env_list(env: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in env.items())
