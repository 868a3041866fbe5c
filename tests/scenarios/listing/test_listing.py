"""The commands that list give what scripts pick from `docker compose`: its JSON, its templates, its filters, bare IDs and names."""

from __future__ import annotations

import json
import re

import pytest

from tests.stack import Stack, json_values


@pytest.fixture
def running(stack: Stack) -> Stack:
    """Two replicas of `web` that run, and `job`, which has exited with 3."""
    stack.up("--scale", "web=2")
    stack.wait_until_state("job", "exited")
    return stack


def printed(stack: Stack, *words: str, exit_code: int = 0) -> list[str]:
    return stack.umiak(*words, exit_code=exit_code).stdout.splitlines()


def test_ps_selects_by_state_and_service(running: Stack) -> None:
    assert len(printed(running, "ps", "-q")) == 2
    assert len(printed(running, "ps", "-aq")) == 3
    assert printed(running, "ps", "--services") == ["web"]
    assert sorted(printed(running, "ps", "-a", "--services")) == ["job", "web"]
    assert printed(running, "ps", "--status", "exited", "--format", "{{.Service}}") == ["job"]
    assert printed(running, "ps", "--filter", "status=exited", "--format", "{{.Service}}") == ["job"]
    assert printed(running, "ps", "--status", "exited", "--status", "running", "-q").__len__() == 3
    assert printed(running, "ps", "job", "-q") == []
    assert "no such service: nothing" in running.umiak("ps", "nothing", exit_code=1).stderr


def test_ps_prints_templates_and_tables_of_fields(running: Stack) -> None:
    names = [f"listing-web-{number}" for number in (1, 2)]
    assert printed(running, "ps", "--format", "{{.Name}}") == names
    assert printed(running, "ps", "--format", "{{.Names}}:{{.State}}") == [f"{name}:running" for name in names]
    heading, *rows = printed(running, "ps", "--format", "table {{.Name}}\t{{.State}}")
    assert heading.split() == ["NAME", "STATE"]
    assert [row.split() for row in rows] == [[name, "running"] for name in names]
    codes = printed(
        running, "ps", "-a", "job", "--format", "{{.ExitCode}} {{.Project}} {{.Image}}{{if .Health}}!{{end}}"
    )
    assert codes == ["3 listing busybox"]
    ids = printed(running, "ps", "--no-trunc", "--format", "{{.ID}}")
    assert ids == printed(running, "ps", "-q")
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in ids)


def test_ps_as_json_has_dockers_fields(running: Stack) -> None:
    first = json_values(running.umiak("ps", "--format", "json").stdout)[0]
    assert list(first) == sorted(first)
    assert {"Command", "CreatedAt", "ExitCode", "Health", "ID", "Image", "Labels", "Mounts", "Name"} <= set(first)
    assert first["Mounts"] == "listing_data"
    assert "role=front" in first["Labels"].split(",")
    by_protocol = {port["Protocol"]: port for port in first["Publishers"]}
    assert by_protocol["tcp"]["TargetPort"] == 80
    assert by_protocol["udp"]["TargetPort"] == 53
    assert by_protocol["tcp"]["URL"] == "127.0.0.1"


def test_ls_lists_projects_with_their_states(running: Stack) -> None:
    [project] = json.loads(running.umiak("ls", "-a", "--format", "json", "--filter", "name=^listing$").stdout)
    assert project == {
        "Name": "listing",
        "Status": "exited(1), running(2)",
        "ConfigFiles": str(running.file),
    }
    assert printed(running, "ls", "-q", "--filter", "name=list") == ["listing"]
    running.umiak("stop", "-t", "0")
    assert "listing" not in printed(running, "ls", "-q")
    assert "listing" in printed(running, "ls", "-aq")


def test_images_and_volumes_list_what_the_project_uses(running: Stack) -> None:
    images = json_values(running.umiak("images", "--format", "json").stdout)
    assert sorted(one["ContainerName"] for one in images) == ["listing-job-1", "listing-web-1", "listing-web-2"]
    assert {(one["Repository"], one["Tag"]) for one in images} == {("busybox", "latest")}
    assert images[0]["Size"] > 0
    [only] = printed(running, "images", "-q")
    assert images[0]["ID"] == f"sha256:{only}"

    assert printed(running, "volumes", "-q") == ["listing_data"]
    assert printed(running, "volumes", "-q", "job") == []
    [volume] = json_values(running.umiak("volumes", "--format", "json").stdout)
    assert (volume["Driver"], volume["Name"], volume["Scope"]) == ("local", "listing_data", "local")
    assert printed(running, "volumes", "--format", "{{.Name}} {{.Driver}}") == ["listing_data local"]


@pytest.mark.umiak("Docker knows table and json alone")
def test_images_takes_templates(running: Stack) -> None:
    assert printed(running, "images", "job", "--format", "{{.ContainerName}}") == ["listing-job-1"]


def test_port_tells_where_each_replica_is_published(running: Stack) -> None:
    shown = [printed(running, "port", "--index", str(number), "web", "80")[0] for number in (1, 2)]
    published = [
        port["PublishedPort"]
        for one in running.replicas("web")
        for port in one["Publishers"]
        if port["Protocol"] == "tcp"
    ]
    assert shown == [f"127.0.0.1:{port}" for port in published]
    assert len(set(shown)) == 2
    assert printed(running, "port", "--protocol", "udp", "web", "53")[0].startswith("127.0.0.1:")
    assert "no port 81/tcp" in running.umiak("port", "web", "81", exit_code=1).stderr
    assert "not running" in running.umiak("port", "job", "80", exit_code=1).stderr


def test_top_shows_the_processes_as_this_host_sees_them(running: Stack) -> None:
    heading, *rows = printed(running, "top", "web")
    assert heading.split() == ["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    cells = [row.split(None, 9) for row in rows]
    assert [(row[0], row[1], row[9]) for row in cells] == [("web", "1", "sleep 600"), ("web", "2", "sleep 600")]
    assert [int(row[3]) for row in cells] == [running.status("web", index)["pid"] for index in (1, 2)]
    assert printed(running, "top", "job") == []


def test_stats_show_once_what_containers_use(running: Stack) -> None:
    records = json_values(running.umiak("stats", "--no-stream", "--format", "json").stdout)
    assert sorted(one["Name"] for one in records) == ["listing-web-1", "listing-web-2"]
    assert set(records[0]) == {
        "BlockIO",
        "CPUPerc",
        "Container",
        "ID",
        "MemPerc",
        "MemUsage",
        "Name",
        "NetIO",
        "PIDs",
    }
    assert records[0]["PIDs"] == "1"
    assert records[0]["CPUPerc"].endswith("%")
    template = printed(running, "stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web")
    assert sorted(template) == ["listing-web-1 1", "listing-web-2 1"]
    assert len(printed(running, "stats", "--no-stream", "-a")) == 4
