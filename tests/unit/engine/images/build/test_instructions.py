from __future__ import annotations

import pytest

from engine.errors import InvalidInput, UmiakError, Unsupported
from engine.images.build import instructions as ins
from engine.images.build.instructions import Command, read
from engine.images.build.parse import parse


def one(text: str) -> ins.Instruction:
    (statement,) = parse(text, "Dockerfile")
    return read(statement)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN a && b", Command(("a && b",), shell=True)),
        ('RUN ["a", "b c"]', Command(("a", "b c"), shell=False)),
        ("RUN ['a']", Command(("['a']",), shell=True)),
        ("RUN [ -f a ]", Command(("[ -f a ]",), shell=True)),
        ("RUN <<EOF\na\nb\nEOF\n", Command(("a\nb\n",), shell=True)),
        ("RUN python3 <<EOF\na\nEOF\n", Command(("python3 <<EOF\na\nEOF",), shell=True)),
    ],
)
def test_a_command_is_in_exec_form_or_for_a_shell(text: str, command: Command) -> None:
    run = one(text)
    assert isinstance(run, ins.Run)
    assert run.command == command


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV a=b", (("a", "b"),)),
        ('ENV a="b c" d=e\\ f', (("a", '"b c"'), ("d", "e\\ f"))),
        ("ENV a b  c=d", (("a", "b  c=d"),)),
        ("ENV a=", (("a", ""),)),
    ],
)
def test_env_takes_pairs_or_the_old_form(text: str, pairs: tuple[tuple[str, str], ...]) -> None:
    env = one(text)
    assert isinstance(env, ins.Env)
    assert env.pairs == pairs


def test_arg_takes_several_names_with_and_without_defaults() -> None:
    arg = one("ARG a b=c d=")
    assert isinstance(arg, ins.Arg)
    assert arg.pairs == (("a", None), ("b", "c"), ("d", ""))


def test_from_takes_a_platform_and_a_name() -> None:
    from_ = one("FROM --platform=linux/amd64 debian:12 as Base")
    assert isinstance(from_, ins.From)
    assert (from_.image, from_.name, from_.platform) == ("debian:12", "base", "linux/amd64")


def test_copy_takes_flags_and_several_sources() -> None:
    copy = one('COPY --from=a --chown=b:c --chmod=644 ["d e", "f", "/g/"]')
    assert isinstance(copy, ins.Copy)
    assert (copy.sources, copy.destination) == (("d e", "f"), "/g/")
    assert (copy.from_, copy.chown, copy.chmod, copy.is_add) == ("a", "b:c", "644", False)


def test_healthcheck_times_are_nanoseconds() -> None:
    check = one("HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1.5s --retries=4 CMD curl x")
    assert isinstance(check, ins.Healthcheck)
    assert (check.interval_ns, check.timeout_ns, check.start_period_ns) == (90 * 10**9, 5 * 10**8, 15 * 10**8)
    assert (check.retries, check.test) == (4, Command(("curl x",), shell=True))


def test_healthcheck_none_has_no_test() -> None:
    check = one("HEALTHCHECK NONE")
    assert isinstance(check, ins.Healthcheck)
    assert check.test is None


def test_an_unknown_instruction_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(InvalidInput) as caught:
        [read(statement) for statement in parse("FROM a\nRUN b\n\nCOPPY c d", "Dockerfile")]
    assert str(caught.value) == 'Dockerfile:4:1: unknown instruction "COPPY"'
    assert caught.value.hint == "did you mean COPY?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN", "RUN needs an argument"),
        ("FROM a b", "FROM takes an image and perhaps AS and a name"),
        ("FROM a AS 1b", "cannot use '1b' as the name of a stage"),
        ("COPY a", "COPY needs at least one source and a destination"),
        ("COPY --form=a b c", "unknown flag --form for COPY"),
        ("COPY --from= b c", "--from needs a value"),
        ("RUN --mount=type=cach,target=/x a", "--mount cannot be of type 'cach'"),
        ("RUN --mount=type=cache,targt=/x a", "--mount=type=cache does not know 'targt'"),
        ("RUN --mount=target=/x,ro,rw a", "--mount cannot be readonly and readwrite at once"),
        ("RUN --mount=target a", "--mount: 'target' is not of the form name=value"),
        ("RUN --network=other a", "--network cannot be 'other'"),
        ("RUN --security=none a", "--security cannot be 'none'"),
        ("COPY --link=perhaps a b", "--link=perhaps is neither true nor false"),
        ("USER --x a", "unknown flag --x for USER"),
        ("ENV a", "ENV a has no value"),
        ("ENV a=b c", "cannot read 'c': ENV needs name=value"),
        ("ARG =a", "ARG has no name in '=a'"),
        ("SHELL /bin/bash", "SHELL needs a JSON array"),
        ("VOLUME []", "VOLUME needs a path"),
        ("HEALTHCHECK curl x", "cannot read HEALTHCHECK curl"),
        ("HEALTHCHECK --interval=3 CMD a", "cannot read --interval=3 as a time"),
        ("HEALTHCHECK --interval=1us CMD a", "--interval=1us is outside of what Docker allows"),
        ("HEALTHCHECK --retries=-1 CMD a", "cannot read --retries=-1 as a count"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes nothing else"),
        ("ONBUILD ONBUILD RUN a", "ONBUILD cannot hold ONBUILD"),
        ("ONBUILD FROM a", "ONBUILD cannot hold FROM"),
        ("ONBUILD RUM a", 'unknown instruction "RUM"'),
    ],
)
def test_a_wrong_instruction_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UmiakError) as caught:
        one(text)
    assert str(caught.value) == f"Dockerfile:1:1: {message}"


def test_what_only_special_hardware_has_is_unsupported_rather_than_wrong() -> None:
    with pytest.raises(Unsupported):
        one("RUN --device=vendor/gpu a")


def test_a_mount_is_read_with_its_short_words() -> None:
    run = one("RUN --mount=type=bind,src=/a,dst=/b,rw --mount=type=secret,id=x,required a")
    assert isinstance(run, ins.Run)
    assert [(mount.type, mount.words) for mount in run.mounts] == [
        ("bind", {"source": "/a", "target": "/b", "readwrite": "true"}),
        ("secret", {"id": "x", "required": "true"}),
    ]


def test_an_onbuild_keeps_its_instruction_as_it_is_written() -> None:
    found = one("ONBUILD RUN <<EOF\n  a\nEOF")
    assert isinstance(found, ins.Onbuild)
    assert found.trigger == "RUN <<EOF\n  a\nEOF"
