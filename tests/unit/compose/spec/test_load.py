from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose.errors import ComposeError, ComposeErrors, Place, snippet
from compose.spec.load import LoadOptions, discover, load_tree
from compose.spec.render import render, render_tree
from tests.unit.compose.spec.files import loaded, problems, write


@pytest.fixture(autouse=True)
def _in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_file_is_found_upwards_with_its_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(compose_yaml="services: {web: {image: a}}", compose_override_yml="services: {web: {image: b}}")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    project = loaded()
    assert project.services["web"].image == "b"
    assert project.working_dir == str(tmp_path)
    assert project.name == tmp_path.name.lower().replace(".", "")


def test_no_file_is_an_error_with_a_hint() -> None:
    with pytest.raises(ComposeError) as caught:
        loaded()
    assert str(caught.value) == "no configuration file provided: not found"
    assert caught.value.hint


def test_several_candidates_warn_and_the_first_wins() -> None:
    write(compose_yaml="services: {web: {image: a}}", compose_yml="services: {web: {image: b}}")
    project = loaded()
    assert project.services["web"].image == "a"
    assert "Found multiple config files" in project.warnings[0].message


def test_the_project_name_comes_from_flag_then_environment_then_file_then_directory() -> None:
    text = "name: ${WHO:-infile}\nservices: {}\n"
    assert loaded(text, project_name="flag", environment={"COMPOSE_PROJECT_NAME": "env"}).name == "flag"
    assert loaded(text, environment={"COMPOSE_PROJECT_NAME": "env"}).name == "env"
    assert loaded(text).name == "infile"
    assert loaded("name: My Proj\nservices: {}\n").name == "myproj"
    assert problems(text, project_name="Bad!")[0].code == "E060"


def test_discovery_is_cheap_and_knows_name_files_and_directory(tmp_path: Path) -> None:
    write(compose_yaml="name: shop # the shop\nservices: {web: {image: a}}\n", _env="COMPOSE_PROFILES=debug,x\n")
    script = (
        "import sys; from compose.spec.load import LoadOptions, discover; found = discover(LoadOptions());"
        "print(found.name, found.profiles, [m for m in ('pydantic', 'yaml', 'networkx') if m in sys.modules])"
    )
    root = str(Path(__file__).parents[4])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": root})
    assert done.stdout == "shop ('debug', 'x') []\n", done.stderr
    assert discover(LoadOptions(environment={})).working_dir == str(tmp_path)


def test_dotenv_of_the_project_serves_interpolation_and_the_environment_wins() -> None:
    write(_env="TAG=1\nWHO=env\n")
    project = loaded("services: {web: {image: 'a:$TAG-$WHO'}}", environment={"WHO": "shell"})
    assert project.services["web"].image == "a:1-shell"


def test_all_mistakes_are_told_at_once_with_places() -> None:
    found = problems(
        'services:\n  web:\n    image: 1\n    port: ["80:80"]\n    cgroup: hots\n  db:\n    restart: true\nservces: {}\n'
    )
    assert [(error.code, error.at.line, error.at.column) for error in found if error.at] == [
        ("E011", 3, 12),
        ("E012", 4, 5),
        ("E013", 5, 13),
        ("E011", 7, 14),
        ("E012", 8, 1),
    ]
    assert [error.suggestion for error in found] == [None, "ports", "host", None, "services"]


def test_an_error_shows_the_line_and_a_caret() -> None:
    error = problems('services:\n  web:\n    image: a\n    port: "8080:80"\n')[0]
    assert snippet(error).splitlines()[:4] == [
        'error[E012]: unknown key "port" in service "web"',
        "  --> compose.yaml:4:5",
        ' 4 |     port: "8080:80"',
        '   |     ^^^^ did you mean "ports"?',
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("services:\n  a:\n    image: x\n    ports:\n      - '80:http'\n", 5, r'"http" is not a valid container port'),
        ("services:\n  a:\n    image: x\n    volumes:\n      - 'nope:/d'\n", 5, "undefined volume nope"),
        ("services:\n  a:\n    image: x\n    depends_on:\n      - b\n", 5, "undefined service"),
        ("services:\n  a:\n    image: x\n    stop_grace_period: 10\n", 4, "must be a string, not 10"),
        ("services:\n  a:\n    image: x\n    stop_grace_period: '10'\n", 4, "cannot read '10' as a duration"),
        ("services:\n  a:\n    image: x\n    mem_limit: 12parsecs\n", 4, "as a size in bytes"),
        ("services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n", 3, "dependency cycle"),
        ("services:\n  a:\n    hostname: x\n", 2, "neither an image nor a build"),
        ("services:\n  a:\n    image: '${X:?set it}'\n", 3, "required variable X is missing a value: set it"),
        ("services:\n  a:\n    image: '${X'\n", 3, "invalid interpolation format"),
        ("services:\n  a:\n    image: x\n    env_file: nope.env\n", 4, "env file .*nope.env not found"),
        ("services:\n  a:\n    extends: nope\n", 3, "not found"),
        ("services:\n  a:\n    extends: a\n", 3, "circular reference"),
        ("include: [nope.yaml]\n", 1, "no such file"),
        ("include: [compose.yaml]\n", 1, "include cycle"),
        ("- a\n", 1, "must be a mapping"),
        ("", 1, "empty compose file"),
    ],
)
def test_a_mistake_names_its_line(text: str, line: int, message: str) -> None:
    error = problems(text)[0]
    assert error.at is not None
    assert error.at.line == line
    assert re.search(message, error.message), error.message


def test_a_place_is_known_for_every_node_of_the_project() -> None:
    project = loaded("services:\n  web:\n    image: a\n    ports: ['80-81:80-81']\n    environment: [A=1]\n")
    file = project.compose_files[0]
    assert project.place(("services", "web", "ports", 1)) == Place(file, 4, 13)
    assert project.place("services.web.environment.A") == Place(file, 5, 19)


def test_places_survive_merging() -> None:
    write(
        a_yaml="services:\n  web:\n    image: a\n    ports: ['80:80']\n",
        b_yaml="services:\n  web:\n    ports: ['81:81']\n",
    )
    project = loaded(files=("a.yaml", "b.yaml"))
    assert [str(project.place(("services", "web", "ports", i))) for i in (0, 1)] == ["a.yaml:4:13", "b.yaml:3:13"]


def test_reset_and_override_in_a_second_file() -> None:
    write(
        a_yaml="services: {web: {image: a, ports: ['80:80'], dns: [1.1.1.1], environment: {A: 1, B: 2}}}",
        b_yaml="services: {web: {ports: !override ['81:81'], dns: !reset [], environment: {A: !reset x}}}",
    )
    web = loaded(files=("a.yaml", "b.yaml")).services["web"]
    assert [port.published for port in web.ports] == ["81"]
    assert web.dns == ()
    assert web.environment == {"B": "2"}


def test_reset_beside_a_merge_key_of_the_same_file() -> None:
    write(
        compose_yaml="x-b: &b {image: a, environment: {A: '1'}}\n"
        "services: {web: {<<: *b, environment: {A: !reset null}}, other: {<<: *b, environment: {A: !reset null, B: '2'}}}",
    )
    services = loaded().services
    assert services["web"].environment == {}
    assert services["other"].environment == {"B": "2"}


def test_a_second_file_may_leave_required_keys_to_the_first() -> None:
    write(
        a_yaml="services: {a: {image: x, depends_on: {b: {condition: service_healthy}}}, b: {image: x}}",
        b_yaml="services: {a: {depends_on: {b: {restart: true}}}}",
    )
    dependency = loaded(files=("a.yaml", "b.yaml")).services["a"].depends_on["b"]
    assert (dependency.condition, dependency.restart) == ("service_healthy", True)
    write(b_yaml="services: {a: {depends_on: {c: {restart: true}}}, c: {image: x}}")
    with pytest.raises(ComposeError, match='lacks the key "condition"'):
        loaded(files=("a.yaml", "b.yaml"))


def test_extends_of_another_file_takes_its_paths_from_there(tmp_path: Path) -> None:
    write(sub__common_yaml="services: {base: {image: b, volumes: ['./data:/d'], env_file: e.env}}", sub__e_env="E=1\n")
    web = loaded("services: {web: {extends: {file: sub/common.yaml, service: base}, image: a}}").services["web"]
    assert web.image == "a"
    assert web.volumes[0].source == str(tmp_path / "sub" / "data")
    assert web.environment == {"E": "1"}


def test_an_included_project_has_its_own_directory_and_env_and_may_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "compose.yaml").write_text("services: {db: {image: 'pg:$TAG', volumes: ['./data:/d']}}\n")
    (tmp_path / "db" / ".env").write_text("TAG=16\n")
    project = loaded(
        "include: [db/compose.yaml]\nservices: {db: {restart: always}, web: {image: a, depends_on: [db]}}\n"
    )
    db = project.services["db"]
    assert (db.image, db.restart, db.volumes[0].source) == ("pg:16", "always", str(tmp_path / "db" / "data"))


def test_profiles_enable_services_and_naming_one_enables_its_own() -> None:
    text = "services: {a: {image: x}, b: {image: x, profiles: [debug], depends_on: [a]}, c: {image: x}}"
    assert set(loaded(text).services) == {"a", "c"}
    assert set(loaded(text).disabled_services) == {"b"}
    assert set(loaded(text, profiles=("debug",)).services) == {"a", "b", "c"}
    assert set(loaded(text, services=("b",)).services) == {"a", "b"}
    assert problems(text, services=("d",))[0].code == "E061"


def test_a_dependency_on_a_disabled_service_names_its_profile() -> None:
    error = problems("services: {a: {image: x, depends_on: [b]}, b: {image: x, profiles: [debug]}}")[0]
    assert "--profile debug" in (error.hint or "")


def test_unused_resources_are_dropped_unless_asked_for() -> None:
    text = "services: {a: {image: x, volumes: ['used:/d']}}\nvolumes: {used: , unused: }\n"
    assert set(loaded(text).volumes) == {"used"}
    assert set(loaded(text, all_resources=True).volumes) == {"used", "unused"}


def test_warnings_point() -> None:
    project = loaded("version: '3'\nservices:\n  a:\n    image: x\n    command: echo a | b\n    init: 'yes'\n")
    assert [str(warning).split(": ")[0] for warning in project.warnings] == [
        "compose.yaml:6:11",
        "compose.yaml:1:1",
        "compose.yaml:5:14",
    ]


def test_a_dollar_in_a_password_is_pointed_at_with_the_way_to_write_it() -> None:
    project = loaded(
        'services:\n  a:\n    image: x\n    environment:\n      DB_PASSWORD: "abc$ecret"\n      B: >-\n        one\n        two ${Y}\n'
    )
    first, second = project.warnings
    assert str(first).startswith('compose.yaml:5:24: The "ecret" variable is not set.')
    assert "escape any $ with another $" in first.message
    assert second.place == Place(str(Path.cwd() / "compose.yaml"), 8, 13)
    assert "escape" not in second.message


def test_an_override_that_publishes_a_port_again_is_told() -> None:
    write(a_yaml="services:\n  web:\n    image: x\n    ports: ['8080:80']\n")
    write(b_yaml="services:\n  web:\n    ports: ['8080:81', '8081:80']\n")
    (warning,) = loaded(files=("a.yaml", "b.yaml")).warnings
    assert str(warning).startswith("b.yaml:3:13: services.web.ports[1] publishes port 8080 of the host")
    assert "at a.yaml:4:13" in warning.message


def test_an_error_tells_the_warnings_before_it() -> None:
    (error,) = problems("version: '3'\nservices: {a: {image: x$A, networks: [n]}}")
    assert [warning.place.line for warning in error.warnings if warning.place] == [2, 1]
    assert error.warnings[1].as_dict() == {
        "message": error.warnings[1].message,
        "file": str(Path.cwd() / "compose.yaml"),
        "line": 1,
        "column": 1,
    }


def test_flags_of_config_leave_out_phases(tmp_path: Path) -> None:
    write(e_env="E=1\n")
    text = "services: {a: {image: x, volumes: ['./d:/d'], env_file: e.env, build: {}, depends_on: [nope]}}\n"
    with pytest.raises(ComposeError, match="undefined service"):
        loaded(text)
    assert loaded(check_consistency=False).services["a"].environment == {"E": "1"}
    assert loaded(check_consistency=False, resolve_environment=False).services["a"].environment == {}
    assert loaded(check_consistency=False, resolve_paths=False).services["a"].volumes[0].source == "./d"
    bare = loaded(check_consistency=False, normalize=False).services["a"]
    assert bare.networks == {}
    assert bare.build is not None
    assert bare.build.dockerfile is None


def test_without_interpolation_variables_stay_as_they_are_written() -> None:
    Path("compose.yaml").write_text(
        "services: {a: {image: 'x:${TAG:-1}', cpus: '${C}', ports: ['${P}:80'], environment: [A=$A], build: .}}\n"
    )
    printed = render_tree(load_tree(LoadOptions(environment={}, interpolate=False)).tree)
    for expected in ("x:${TAG:-1}", "cpus: ${C}", "- ${P}:80", "- A=$A", "dockerfile: Dockerfile"):
        assert expected in printed


def test_secret_values_are_loaded_and_never_printed() -> None:
    project = loaded(
        "services: {a: {image: x, secrets: [s], environment: {DB_PASSWORD: hunter2}}}\nsecrets: {s: {environment: S}}\n",
        environment={"S": "swordfish"},
    )
    assert project.secrets["s"].content == "swordfish"
    assert "swordfish" not in render(project)
    assert "hunter2" in render(project)


def test_a_file_of_1500_lines_loads_within_100_ms() -> None:
    lines = ["services:"]
    for i in range(100):
        lines += [f"  s{i}:", f"    image: 'nginx:${{TAG:-{i}}}'", "    restart: unless-stopped", "    environment:"]
        lines += [f"      V{j}: value {j}" for j in range(4)]
        lines += ["    ports:", f"      - '{8000 + i}:80'", "    volumes:", "      - ./a:/a:ro", "    healthcheck:"]
        lines += ["      test: [CMD, 'true']", "      interval: 10s"]
    assert len(lines) > 1500
    loaded("\n".join(lines))
    best = min(_seconds() for _ in range(5))
    assert best < 0.1


def _seconds() -> float:
    started = time.process_time()
    loaded()
    return time.process_time() - started


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {a: {image: '" + "${A:-" * 3000 + "}" * 3000 + "'}}", "invalid interpolation"),
        (
            "services:\n" + "".join(f"  s{i}: {{extends: s{i + 1}}}\n" for i in range(500)) + "  s500: {image: x}\n",
            "in a row",
        ),
        ("services: {a: {image: x, ports: [" + ", ".join(["'1-65535:1-65535'"] * 9) + "]}}", "more than 20000 ports"),
        ("x-0: &a0 {k: v}\n" + "".join(f"x-{i}: &a{i} {{k: *a{i - 1}}}\n" for i in range(1, 500)), "levels deep"),
        ("---\na: 1\n" * 2000, "more than 1000 documents"),
    ],
    ids=["variables", "extends", "ports", "aliases", "documents"],
)
def test_what_grows_without_bound_is_refused(text: str, message: str) -> None:
    assert message in problems(text)[0].message


WORDS = st.sampled_from(
    (
        *(
            "services",
            "web",
            "image",
            "build",
            "ports",
            "volumes",
            "environment",
            "depends_on",
            "networks",
            "x-a",
            "name",
        ),
        *(
            "extends",
            "include",
            "$A",
            "${A",
            "${A:-b}",
            "80:80",
            "a:/b",
            "null",
            "true",
            "1",
            "-1",
            "1.5",
            "[]",
            "{}",
            "[a]",
        ),
        *(
            "{a: b}",
            "''",
            "&",
            "*",
            "!",
            "%",
            "@",
            "-",
            ":",
            "?",
            "|",
            ">",
            "#",
            "<<",
            "*a",
            "&a",
            "!reset",
            "!override",
        ),
        *("2020-01-01", "~", "\t"),
    )
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4), WORDS, WORDS), max_size=12))
def test_no_text_makes_the_loader_fail_otherwise_than_with_a_compose_error(lines: list[tuple[int, str, str]]) -> None:
    text = "".join(f"{'  ' * indent}{key}: {value}\n" for indent, key, value in lines)
    with contextlib.suppress(ComposeError):
        loaded(text)


NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(WORDS, NODES, max_size=4), NODES)
def test_no_shape_of_service_makes_the_loader_fail_otherwise(service: dict[str, Any], extra: Any) -> None:
    text = json.dumps({"services": {"web": {"image": "x", **service}}, "volumes": extra, "x-a": extra})
    with contextlib.suppress(ComposeError):
        render(loaded(text))


def test_unknown_keys_that_docker_ignores_are_warned_of() -> None:
    write(base_yaml="services: {b: {image: x}}", other_yaml="services: {}")
    project = loaded("""
include: [{path: other.yaml, enviroment: x}, null, {path: }]
services:
  web: {extends: {file: base.yaml, service: b, servise: c}, gpus: [{cuont: 1}]}
secrets: {s: {external: {nmae: x}}}
""")
    told = [warning.message for warning in project.warnings]
    for key in ("enviroment", "servise", "cuont", "nmae"):
        assert any(f'unknown key "{key}"' in message and "is ignored" in message for message in told), told
    assert any("cuont" in message and "did you mean count?" in message for message in told)
    assert sum("includes nothing" in message for message in told) == 2


def test_a_label_file_sees_no_environment_and_an_env_file_has_a_known_format() -> None:
    write(l_env="A=1\nB=$A-$C\n", e_env="X=1\n")
    project = loaded("services: {web: {image: x, label_file: l.env}}", environment={"C": "c"})
    assert project.services["web"].labels == {"A": "1", "B": "1-"}
    [error] = problems("services: {web: {image: x, env_file: [{path: e.env, format: toml}]}}")
    assert error.code == "E013"
    assert (
        loaded("services: {web: {image: x, env_file: [{path: nope, required: 'no'}]}}").services["web"].environment
        == {}
    )


def test_paths_that_docker_resolves_and_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    project = loaded(
        """
services:
  web:
    build: {context: "me@host:x", additional_contexts: {a: "target:x", b: "service:web", c: "docker-image://x"}}
    volumes: ["~you/x:/x", "v:/v", "w:/w"]
  win: {build: 'C:\\x'}
volumes:
  v1: {driver: local, driver_opts: {o: bind, device: x}}
  w1: {driver_opts: {o: bind, device: ./x}}
""",
        all_resources=True,
    )
    build = project.services["web"].build
    assert build is not None
    assert build.context == f"{tmp_path}/me@host:x"
    assert build.additional_contexts == {"a": f"{tmp_path}/target:x", "b": "service:web", "c": "docker-image://x"}
    assert project.services["web"].volumes[0].source == "/home/me/you/x"
    assert project.volumes["v1"].driver_opts["device"] == f"{tmp_path}/x"
    assert project.volumes["w1"].driver_opts["device"] == "./x"


def test_free_data_prints_as_go_prints_it() -> None:
    text = "services: {}\nx-a: {e: [], d: 2024-1-2, t: 2024-01-02 10:00:00.50, z: 2024-01-02T10:00:00+02:00}\n"
    data = {"e": None, "d": "2024-01-02T00:00:00Z", "t": "2024-01-02T10:00:00.5Z", "z": "2024-01-02T10:00:00+02:00"}
    assert json.loads(render(loaded(text), "json"))["x-a"] == data
    printed = render(loaded(text))
    assert "d: 2024-01-02T00:00:00Z" in printed
    assert render(loaded(printed)) == printed
    with pytest.raises(ComposeError, match="infinite"):
        render(loaded("services: {}\nx-a: .inf\n"), "json")


def test_a_name_of_unset_variables_is_an_error() -> None:
    [error] = problems("name: ${NOPE}\nservices: {}")
    assert error.code == "E060"
    assert loaded("name: ''\nservices: {}").name


@pytest.mark.parametrize(
    ("asked", "environment", "name"),
    [
        (False, {}, "p-web"),
        (True, {}, "p_web"),
        (False, {"COMPOSE_COMPATIBILITY": "true"}, "p_web"),
        (False, {"COMPOSE_COMPATIBILITY": "yes"}, "p-web"),
    ],
)
def test_compatibility_makes_names_with_underscores(asked: bool, environment: dict[str, str], name: str) -> None:
    project = loaded("{name: p, services: {web: {build: .}}}", compatibility=asked, environment=environment)
    assert project.services["web"].image_name(project.name, project.separator) == name


def test_what_is_included_has_its_own_directory_and_environment(tmp_path: Path) -> None:
    write(
        inc__a_yaml="""
services:
  i: {image: x, build: {target: t}, environment: [FROM_DOTENV, BOTH, NO], secrets: [s]}
secrets: {s: {environment: FROM_DOTENV}}
x-own: 1
""",
        inc___env="FROM_DOTENV=1\nBOTH=inc\n",
    )
    project = loaded("{include: [inc/a.yaml], services: {}, x-top: 2}", environment={"BOTH": "main"})
    service = project.services["i"]
    assert service.environment == {"FROM_DOTENV": "1", "BOTH": "main", "NO": None}
    assert service.build is not None
    assert service.build.context == f"{tmp_path}/inc"
    assert project.secrets["s"].content == "1"
    assert project.extensions == {"x-top": 2}
    plain = loaded(resolve_paths=False, environment={}).services["i"]
    assert plain.build is not None
    assert plain.build.context == "inc"


def test_extended_files_paths_stay_relative_to_the_project_where_paths_are_not_resolved() -> None:
    write(sub__base_yaml="services: {b: {image: x, volumes: ['./d:/d'], env_file: e.env}}", sub__e_env="A=1")
    text = "services: {a: {extends: {file: sub/base.yaml, service: b}}}"
    service = loaded(text, resolve_paths=False).services["a"]
    assert service.volumes[0].source == "sub/d"
    assert service.environment == {"A": "1"}


@pytest.mark.parametrize(
    ("service", "limits", "clash"),
    [
        ("cpus: 1", "{memory: 5m}", True),
        ("mem_limit: 5m", "{}", True),
        ("mem_limit: 0", "{memory: 5m}", False),
        ("mem_limit: 9m", "{memory: 9216k}", False),
        ("pids_limit: 5", "{pids: 6}", True),
    ],
)
def test_a_limit_in_two_places_is_the_same(service: str, limits: str, clash: bool) -> None:
    text = f"services: {{a: {{image: x, {service}, deploy: {{resources: {{limits: {limits}}}}}}}}}"
    if clash:
        assert [error.code for error in problems(text)] == ["E041"]
    else:
        assert loaded(text).services


def test_services_that_are_not_asked_for_are_checked_too() -> None:
    [error] = problems("services: {a: {image: x}, b: {image: x, depends_on: [nope]}}", services=("a",))
    assert error.code == "E040"


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (
            "{provider: {type: x, options: {a: 1}}}",
            "{provider: {type: x, options: {a: 2, b: [c, 1.50]}}}",
            {"a": ("2",)},
        ),
        ("{provider: {type: x, options: {a: [1]}}}", "{provider: {type: x, options: {a: [2]}}}", {"a": ("1", "2")}),
    ],
)
def test_a_providers_options_replace_and_lists_append(first: str, second: str, merged: dict[str, Any]) -> None:
    write(a_yaml=f"services: {{s: {first}}}", b_yaml=f"services: {{s: {second}}}")
    provider = loaded(files=("a.yaml", "b.yaml")).services["s"].provider
    assert provider is not None
    assert provider.options["a"] == merged["a"]


def test_address_pools_merge_by_subnet() -> None:
    pools = "networks: {{n: {{ipam: {{config: [{}]}}}}}}"
    write(
        a_yaml="services: {s: {image: x, networks: [n]}}\n" + pools.format("{subnet: a, gateway: g}, {subnet: b}"),
        b_yaml="services: {}\n" + pools.format("{subnet: b, ip_range: r}, {subnet: c}"),
    )
    config = loaded(files=("a.yaml", "b.yaml")).networks["n"].ipam.config
    assert [(pool.subnet, pool.gateway, pool.ip_range) for pool in config] == [("b", None, "r"), ("c", None, None)]


def test_a_template_keeps_what_is_written() -> None:
    write(
        a_yaml="services: {s: {image: x, environment: {B: 1.50, A: }, expose: [80], ports: ['80:80']}}",
        b_yaml="services: {s: {environment: [C=$C], ports: ['${P}:80'], labels: {n: 1}}}",
        b2_yaml="services: {s: {labels: {n: 2}}}",
    )
    tree = load_tree(LoadOptions(files=("a.yaml", "b.yaml", "b2.yaml"), environment={}, interpolate=False)).tree
    service = tree["services"]["s"]
    assert service["environment"] == ["A", "B=1.5", "C=$C"]
    assert service["expose"] == [80]
    assert service["ports"] == ["80:80", "${P}:80"]
    assert service["labels"] == ["n=2"]


def test_all_that_is_wrong_with_a_file_is_told_at_once() -> None:
    found = problems("""
services:
  web:
    imge: nginx
    ports: ["80:http"]
    stop_grace_period: 5x
    mem_limit: lots
    depends_on: [dbb]
    env_file: missing.env
    command: {a: b}
    networks: [front]
    volumes: ["data:/x"]
  db: {image: "${X:?set it}"}
network: {}
volumes: []
""")
    assert [(error.code, error.path) for error in found] == [
        ("E012", "services.web.imge"),
        ("E016", "services.web.ports[0]"),
        ("E016", "services.web.stop_grace_period"),
        ("E016", "services.web.mem_limit"),
        ("E040", "services.web.depends_on.dbb"),
        ("E030", ""),
        ("E011", "services.web.command"),
        ("E021", "services.db.image"),
        ("E012", "network"),
        ("E011", "volumes"),
    ]
    assert all(error.at for error in found)


def test_errors_of_several_files_are_told_together() -> None:
    write(a_yaml="services: {web: {image: 1}}", b_yaml="services: {web: {prots: []}, db: {}}")
    with pytest.raises(ComposeErrors) as caught:
        loaded(files=("a.yaml", "b.yaml"))
    assert [(error.at and Path(error.at.file).name, error.code) for error in caught.value.errors] == [
        ("a.yaml", "E011"),
        ("b.yaml", "E012"),
        ("b.yaml", "E014"),
    ]


def test_a_template_with_mistakes_is_refused_too() -> None:
    Path("compose.yaml").write_text("services: [a]")
    with pytest.raises(ComposeError, match="services must be a mapping"):
        load_tree(LoadOptions(environment={}, interpolate=False))


def test_a_circle_of_disabled_services_is_no_mistake() -> None:
    text = "services: {a: {image: x, depends_on: {b: {condition: service_started, required: false}}}, %s}"
    disabled = "b: {image: x, profiles: [p], depends_on: [c]}, c: {image: x, profiles: [p], depends_on: [b]}"
    assert list(loaded(text % disabled).services) == ["a"]
    assert [error.code for error in problems(text % disabled, profiles=("p",))] == ["E042"]


def test_tags_work_through_aliases_and_own_keys_merge() -> None:
    write(
        a_yaml="x-a: {b: 1, c: 2}\nservices: {s: {image: i, labels: {a: 1}}}",
        b_yaml="x-a: {b: 3}\nx-l: &l !override {b: 2}\nservices: {s: {labels: *l}}",
    )
    project = loaded(files=("a.yaml", "b.yaml"))
    assert project.services["s"].labels == {"b": "2"}
    assert project.extensions["x-a"] == {"b": 3, "c": 2}
