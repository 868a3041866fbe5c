from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import UmiakError
from engine.images.build.modes import ModeChange
from engine.images.build.work import CopyWork, FromContext, FromStage, MakeDirectoryWork, RunWork
from engine.images.config import host_architecture
from tests.unit.engine.images.build.fakes import DEBIAN, FakeStore, solved, solver


def config(text: str, context: Path, **options: Any) -> dict[str, Any]:
    return solved(text, context, **options).settings.config


def run_of(text: str, context: Path, **options: Any) -> RunWork:
    """The last RUN of a Dockerfile."""
    works = [step.work for step in solved(text, context, **options).steps if isinstance(step.work, RunWork)]
    return works[-1]


def error(text: str, context: Path, **options: Any) -> UmiakError:
    with pytest.raises(UmiakError) as caught:
        solved(text, context, **options)
    return caught.value


def test_the_configuration_is_written_as_docker_writes_it(tmp_path: Path) -> None:
    text = """
        FROM debian
        ENV A=1 LANG="de DE"
        LABEL x.y=z
        USER app:staff
        WORKDIR /srv
        WORKDIR app
        EXPOSE 80 53/udp 8000-8001
        VOLUME /data "/more"
        STOPSIGNAL SIGQUIT
        HEALTHCHECK --interval=5s CMD curl localhost
        SHELL ["/bin/bash", "-c"]
        CMD serve
    """
    assert config(text, tmp_path) == {
        "Env": ["PATH=/usr/bin:/bin", "LANG=de DE", "A=1"],
        "Labels": {"from": "base", "x.y": "z"},
        "User": "app:staff",
        "WorkingDir": "/srv/app",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}},
        "Volumes": {"/data": {}, "/more": {}},
        "StopSignal": "SIGQUIT",
        "Healthcheck": {"Test": ["CMD-SHELL", "curl localhost"], "Interval": 5 * 10**9},
        "Shell": ["/bin/bash", "-c"],
        "Cmd": ["/bin/bash", "-c", "serve"],
    }


def test_scratch_has_a_path_and_a_working_directory(tmp_path: Path) -> None:
    found = config("FROM scratch", tmp_path)
    assert found["Env"][0].startswith("PATH=/usr/local/sbin:")
    assert found["WorkingDir"] == "/"


@pytest.mark.parametrize(
    ("lines", "cmd"),
    [
        ("", ["bash"]),
        ("ENTRYPOINT e", None),
        ("CMD a\nENTRYPOINT e", ["/bin/sh", "-c", "a"]),
        ('ENTRYPOINT e\nCMD ["a"]', ["a"]),
    ],
)
def test_an_entrypoint_drops_the_cmd_of_the_base_image(tmp_path: Path, lines: str, cmd: list[str] | None) -> None:
    assert config(f"FROM debian\n{lines}", tmp_path).get("Cmd") == cmd


def test_an_environment_line_sees_the_variables_as_they_were_before_it(tmp_path: Path) -> None:
    found = config("FROM debian\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc", tmp_path)
    assert found["Env"][2:] == ["abc=bye", "def=hello", "ghi=bye"]


@pytest.mark.parametrize(
    ("args", "base", "value"),
    [({}, "debian", "1"), ({"V": "2"}, "debian", "2"), ({"B": "other"}, "other", "1"), ({"V": None}, "debian", "1")],
)
def test_an_argument_has_its_default_unless_it_is_given(
    tmp_path: Path, args: dict[str, str | None], base: str, value: str
) -> None:
    store = FakeStore({"debian": DEBIAN, "other": DEBIAN})
    stage = solved("ARG B=debian\nARG V=1\nFROM $B\nARG V\nLABEL v=$V b=$B.", tmp_path, args, store=store)
    assert stage.base is not None
    assert stage.base.id == base
    assert stage.settings.config["Labels"] == {"from": "base", "v": value, "b": "."}


def test_the_environment_goes_before_an_argument(tmp_path: Path) -> None:
    run = run_of("FROM debian\nARG A=arg B=b\nENV A=env\nRUN x", tmp_path)
    assert run.env == ("B=b", "PATH=/usr/bin:/bin", "LANG=C", "A=env")


def test_a_command_gets_the_shell_the_user_and_the_directory(tmp_path: Path) -> None:
    run = run_of('FROM debian\nUSER app\nWORKDIR /w\nSHELL ["sh", "-ec"]\nRUN a $B', tmp_path)
    assert (run.argv, run.user, run.cwd) == (("sh", "-ec", "a $B"), "app", "/w")


def test_a_platform_argument_must_be_asked_for(tmp_path: Path) -> None:
    text = "FROM --platform=$BUILDPLATFORM debian\nRUN a\nARG TARGETARCH\nRUN b"
    first, second = (step.work for step in solved(text, tmp_path).steps if step.work)
    assert isinstance(first, RunWork)
    assert isinstance(second, RunWork)
    assert not any(item.startswith("TARGETARCH") for item in first.env)
    assert f"TARGETARCH={host_architecture()}" in second.env


def test_proxies_reach_a_command_but_not_its_key(tmp_path: Path) -> None:
    text = "FROM debian\nRUN a"
    with_proxy = solved(text, tmp_path, {"HTTP_PROXY": "http://p"})
    work = with_proxy.steps[0].work
    assert isinstance(work, RunWork)
    assert {"HTTP_PROXY=http://p", "http_proxy=http://p"} <= set(work.env)
    assert with_proxy.key == solved(text, tmp_path).key
    assert "p" not in with_proxy.steps[0].created_by.removeprefix("RUN /bin/sh -c ")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("RUN a", "RUN a", True),
        ("RUN a", "RUN b", False),
        ("RUN a", 'RUN ["a"]', False),
        ("LABEL x=y\nRUN a", "RUN a", True),
        ("ENV x=y\nRUN a", "RUN a", False),
        ("ARG x=y\nRUN a", "RUN a", False),
        ("USER x\nRUN a", "RUN a", False),
        ("WORKDIR /x\nRUN a", "WORKDIR /y\nRUN a", False),
        ("EXPOSE 80\nRUN a", "CMD x\nRUN a", True),
        ("COPY f /a", "COPY f /b", False),
        ("COPY f /a", "COPY f /a/", False),
        ("COPY f /a", "COPY --chown=1 f /a", False),
        ("COPY f /a", "COPY --chmod=644 f /a", False),
        ("COPY f /a", "COPY same /a", False),
        ("COPY f /a", "ADD f /a", False),
        ("COPY <<EOF /a\n1\nEOF", "COPY <<EOF /a\n2\nEOF", False),
    ],
)
def test_a_key_is_what_a_step_depends_on(tmp_path: Path, one: str, other: str, same: bool) -> None:
    (tmp_path / "f").write_text("content")
    (tmp_path / "same").write_text("content")
    keys = [solved(f"FROM debian\n{lines}", tmp_path).key for lines in (one, other)]
    assert (keys[0] == keys[1]) is same


def test_a_key_depends_on_the_layers_of_the_base_image_but_not_on_its_name(tmp_path: Path) -> None:
    store = FakeStore({"debian": DEBIAN, "other": DEBIAN})
    keys = {solved(f"FROM {name}\nRUN a", tmp_path, store=store).key for name in ("debian", "other")}
    assert len(keys) == 2


def test_a_copy_knows_its_sources_and_its_destination(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(name)
    stage = solved("FROM debian\nWORKDIR /w\nCOPY --chmod=0750 --chown=1:2 *.py x/", tmp_path)
    work = stage.steps[-1].work
    assert isinstance(work, CopyWork)
    assert isinstance(work.source, FromContext)
    assert [match.path for match in work.source.matches] == ["a.py", "b.py"]
    assert (work.destination, work.into_directory, work.mode, work.chown) == (
        "/w/x",
        True,
        ModeChange("0750", 0o750),
        "1:2",
    )


def test_stages_are_found_by_name_and_number_and_images_by_what_is_left(tmp_path: Path) -> None:
    text = (
        "FROM debian AS one\nRUN a\nFROM debian\nCOPY --from=One /a /a\nCOPY --from=0 /b /b\nCOPY --from=debian /c /c"
    )
    sources = [step.work.source for step in solved(text, tmp_path).steps if isinstance(step.work, CopyWork)]
    assert [source.stage for source in sources if isinstance(source, FromStage)] == [0, 0]
    assert len(sources) == 3


def test_a_stage_from_a_stage_begins_with_its_steps_and_settings(tmp_path: Path) -> None:
    stage = solved("FROM debian AS one\nENV A=1\nRUN a\nFROM one\nRUN b", tmp_path)
    assert [step.text for step in stage.steps] == ["ENV A=1", "RUN a", "RUN b"]
    assert "A=1" in stage.settings.config["Env"]


def test_stages_that_the_target_does_not_need_are_not_worked_out(tmp_path: Path) -> None:
    text = "FROM debian AS one\nFROM missing AS two\nCOPY nothing /\nFROM one"
    made, _ = solver(text, tmp_path)
    assert sorted(made.stages) == [0, 2]
    made, stage = solver(text, tmp_path, target="one")
    assert (sorted(made.stages), stage.name) == ([0], "one")


def test_a_working_directory_is_made_for_its_user(tmp_path: Path) -> None:
    steps = solved("FROM debian\nUSER app\nWORKDIR a//b/../c", tmp_path).steps
    assert steps[-1].work == MakeDirectoryWork("/a/c", "app")


def test_a_build_argument_that_nothing_asks_for_is_noticed(tmp_path: Path) -> None:
    made, _ = solver("FROM debian\nARG A", tmp_path, {"A": "1", "B": "2", "http_proxy": "x"})
    assert made.unused_args() == ["B"]


def test_a_pattern_that_matches_nothing_is_a_warning(tmp_path: Path) -> None:
    made, _ = solver("FROM debian\nCOPY no*.such /x/", tmp_path)
    assert [text for _, text in made.warnings] == ["COPY no*.such: nothing in the build context matches"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Dockerfile:1:1: the Dockerfile is empty"),
        ("# nothing\n", "Dockerfile:1:1: the Dockerfile is empty"),
        ("ARG a", "Dockerfile:1:1: the Dockerfile has no FROM"),
        ("ARG a\nRUN b\nFROM c", "Dockerfile:2:1: RUN stands above the first FROM"),
        ("FROM missing", 'Dockerfile:1:1: no image "missing"'),
        ("FROM $NONE", "Dockerfile:1:1: FROM $NONE names no image"),
        ("FROM debian\nCOPY --from=9 a b", "Dockerfile:2:1: --from=9: there is no such stage above this one"),
        ("FROM debian AS a\nCOPY --from=a b c", "Dockerfile:2:1: --from=a: this stage is not above this line"),
        ("FROM debian\nCOPY --from=gone b c", 'Dockerfile:2:1: no image "gone"'),
        ("FROM debian\nCOPY https://x/y /z", "Dockerfile:2:1: COPY https://x/y: this cannot be fetched"),
        ("FROM debian\nADD ftp://x/y /z", "Dockerfile:2:1: ADD ftp://x/y: this cannot be fetched"),
        ("FROM debian\nADD --checksum=x https://x/y /z", "Dockerfile:2:1: cannot read --checksum=x"),
        ("FROM debian\nRUN --network=host a", "Dockerfile:2:1: RUN --network=host needs the caller's leave"),
        ("FROM debian\nRUN --security=insecure a", "Dockerfile:2:1: RUN --security=insecure needs the caller's leave"),
        ("FROM debian\nRUN --mount=type=cache a", "Dockerfile:2:1: --mount=type=cache needs a target"),
        ("FROM debian\nRUN --mount=target=/x,source=/none a", "Dockerfile:2:1: --mount: there is no /none in"),
        ("FROM debian\nCOPY --chmod=u=q a /", "Dockerfile:2:1: cannot read --chmod=u=q"),
        ("FROM debian\nCOPY ../x /y", "Dockerfile:2:1: COPY ../x: this is outside of the build context"),
        ("FROM debian\nCOPY /a/../../x /y", "Dockerfile:2:1: COPY /a/../../x: this is outside of the build context"),
        ("FROM debian\nCOPY gone /y", "Dockerfile:2:1: COPY gone: no such file in the build context"),
        ("FROM debian\nCOPY a[b /y/", "Dockerfile:2:1: cannot read the pattern 'a[b': a [ is not closed"),
        ("FROM debian\nCOPY --chmod=rwx f /y", "Dockerfile:2:1: cannot read --chmod=rwx"),
        ("FROM debian\nEXPOSE http", "Dockerfile:2:1: cannot read 'http' as a port"),
        ("FROM debian\nEXPOSE 99999", "Dockerfile:2:1: cannot read '99999' as a port"),
        ("FROM debian\nSTOPSIGNAL SIGNONE", "Dockerfile:2:1: 'SIGNONE' is no signal"),
        ("FROM debian\nUSER $NONE", "Dockerfile:2:1: USER $NONE names no user"),
        ("FROM debian\nENV a=${b", "Dockerfile:2:1: '${b' has no closing brace"),
        ("FROM --platform=linux/s390x debian", "Dockerfile:1:1: cannot build for platform linux/s390x"),
        ("FROM a\n" * 101, "Dockerfile:101:1: the Dockerfile has more than 100 stages"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f").write_text("")
    found = error(text, tmp_path)
    assert str(found).startswith(message)


def test_a_file_that_is_ignored_is_told_with_the_line_that_hides_it(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("")
    (tmp_path / ".dockerignore").write_text("# logs\n*.log\n")
    found = error("FROM debian\nCOPY a.log /", tmp_path)
    assert "ignored" in found.message
    assert found.hint == f"{tmp_path}/.dockerignore:2:1 hides it with '*.log'"


def test_a_misspelt_file_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.py").write_text("")
    assert error("FROM debian\nCOPY src/mian.py /", tmp_path).hint == "did you mean src/main.py?"


def test_an_unknown_target_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    found = error("FROM debian AS build\nFROM build AS final", tmp_path, target="finl")
    assert (str(found), found.hint) == ("Dockerfile has no stage 'finl'", "did you mean final?")


def test_what_a_base_image_put_off_is_done_first_and_once(tmp_path: Path) -> None:
    store = FakeStore({"debian": {"config": {"OnBuild": ["ENV A=1", "RUN a $A"]}}})
    stage = solved("FROM debian AS one\nRUN b\nFROM one\nRUN c", tmp_path, store=store)
    assert [step.text for step in stage.steps] == ["ENV A=1", "RUN a $A", "RUN b", "RUN c"]
    assert "OnBuild" not in stage.settings.config


def test_an_onbuild_is_for_the_stages_built_on_this_one(tmp_path: Path) -> None:
    text = "FROM debian AS one\nONBUILD RUN a\nFROM one"
    assert config(text, tmp_path, target="one")["OnBuild"] == ["RUN a"]
    stage = solved(text, tmp_path)
    assert [step.text for step in stage.steps] == ["ONBUILD RUN a", "RUN a"]
    assert "OnBuild" not in stage.settings.config


def test_a_named_context_goes_before_stages_and_images(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/f").write_text("x")
    store = FakeStore({"debian": DEBIAN, "mine": {"config": {"User": "me"}}})
    named = {"debian": "docker-image://mine", "files": str(tmp_path / "other")}
    stage = solved("FROM debian\nCOPY --from=files f /", tmp_path, store=store, named=named)
    assert stage.settings.user == "me"
    work = stage.steps[-1].work
    assert isinstance(work, CopyWork)
    assert isinstance(work.source, FromContext)
    assert work.source.context.directory == str(tmp_path / "other")


def test_a_stage_without_cache_takes_all_that_depend_on_it_along(tmp_path: Path) -> None:
    text = (
        "FROM debian AS a\nRUN a\nFROM debian AS b\nRUN b\nFROM debian\nRUN c\nCOPY --from=a /x /\nRUN d\n"
        "RUN --mount=from=b,target=/b e"
    )
    made, stage = solver(text, tmp_path, no_cache_filter=frozenset({"a"}))
    assert [step.refresh for step in stage.steps] == [False, True, True, True]
    assert [step.refresh for index in (0, 1) for step in made.stages[index].steps] == [True, False]


def test_a_linked_copy_has_a_key_of_its_own_that_nothing_below_changes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    texts = [f"FROM debian\nRUN {command}\nCOPY --link a /" for command in ("one", "two")]
    steps = [solved(text, tmp_path).steps[-1] for text in texts]
    works = [step.work for step in steps if isinstance(step.work, CopyWork)]
    assert works[0].link_key == works[1].link_key is not None
    assert steps[0].key != steps[1].key


def test_secrets_and_agents_have_no_part_in_keys_but_their_names(tmp_path: Path) -> None:
    def key(mount: str) -> str:
        return solved(f"FROM debian\nRUN --mount={mount} a", tmp_path).key

    assert key("type=secret,id=a") == key("type=secret,id=a")
    assert key("type=secret,id=a") != key("type=secret,id=b")
    assert key("type=tmpfs,target=/a") != key("type=cache,target=/a")


def test_a_bound_file_of_the_context_is_part_of_the_key(tmp_path: Path) -> None:
    text = "FROM debian\nRUN --mount=source=a,target=/a cat /a"
    (tmp_path / "a").write_text("1")
    first = solved(text, tmp_path).key
    (tmp_path / "b").write_text("2")
    assert solved(text, tmp_path).key == first
    (tmp_path / "a").write_text("2")
    assert solved(text, tmp_path).key != first


LINES = st.sampled_from(
    [
        *("ARG a", "ARG a=${b:-c}", "FROM debian", "FROM debian AS x", "FROM x", "FROM scratch", "FROM $a"),
        *("COPY f /x", "COPY --from=x f /x", "COPY --from=0 f /x", "COPY . $a/", "ADD d /", "COPY <<E /x\n$a\nE"),
        *("ENV a=b", "ENV a $a$a", "ENV '=x", "LABEL $a=$b", "WORKDIR $a", "WORKDIR ..", "USER ${a:?no}"),
        *("RUN $a", "RUN []", 'RUN ["a"]', "CMD []", "ENTRYPOINT a", "EXPOSE $a", 'VOLUME [""]', 'SHELL ["a"]'),
        *("COPY --chown=${a} d d", "COPY [d /x", "COPY [a-z] /x/", "COPY [!f /x", "COPY f\\ /x", "STOPSIGNAL 9"),
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=12), st.dictionaries(st.sampled_from("ab"), st.text(max_size=4)))
def test_no_dockerfile_fails_in_another_way_than_ours(tmp_path: Path, lines: list[str], args: dict[str, str]) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "d/e").mkdir(parents=True, exist_ok=True)
    place: str | None = "none is needed"
    try:
        solved("\n".join(lines), tmp_path, args)
    except UmiakError as found:
        place = found.place
    assert place
