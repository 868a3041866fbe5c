"""How things look: the table and the JSON of `ps` as Docker prints them, plain lines, the live region, lines of logs, errors."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose.cli.errors import render
from compose.cli.view import listing
from compose.cli.view.base import Muted
from compose.cli.view.jsonlines import JsonLines
from compose.cli.view.plain import Plain, line_of
from compose.cli.view.table import columns
from compose.cli.view.template import go_json
from compose.cli.view.tty import Live
from compose.failure import NotReady
from engine.errors import Conflict, InvalidInput
from engine.events import Event
from engine.types import ContainerInfo, ContainerSpec, ContainerStatus, Health, Mount, PublishedPort


def container(**changes: Any) -> ContainerInfo:
    now = time.time()
    fields: dict[str, Any] = {
        "id": "5ac00fa1cb4c9e0a34e6df0f083215557164ca12f7e4402bd59220acd52bb741",
        "name": "cmap-web-1",
        "created_at": now - 3.2,
        "image_id": "sha256:73",
        "labels": {"com.docker.compose.project": "cmap", "com.docker.compose.service": "web"},
        "spec": ContainerSpec("cmap-web-1", "alpine"),
        "argv": ("sh", "-c", "echo out; echo err >&2"),
        "status": ContainerStatus("running", pid=1, started_at=now - 0.3, health=Health("starting")),
        "endpoints": (),
        "ports": (PublishedPort("127.0.0.1", 32789, 80, "tcp"),),
        "volumes": {},
    }
    return ContainerInfo(**(fields | changes))


def test_the_table_is_dockers_to_the_space() -> None:
    assert listing.table([container(argv=("sleep", "60"))]) == [
        "NAME         IMAGE     COMMAND      SERVICE   CREATED         STATUS                                     PORTS",
        (
            'cmap-web-1   alpine    "sleep 60"   web       3 seconds ago   Up Less than a second (health: starting)'
            "   127.0.0.1:32789->80/tcp"
        ),
    ]


def test_a_command_shows_which_words_hold_spaces_and_mounts_are_cut() -> None:
    spoken = container(argv=("sh -x", "-c", 'echo "a b"\n', "one"))
    assert listing.command(spoken, full=True) == '"sh -x -c \'echo \\"a b\\"\\n\' one"'
    mounted = container(spec=ContainerSpec("x", "alpine", mounts=(Mount("volume", "/data", ""),)))
    mounted = replace(mounted, volumes={"/data": "5ac00fa1cb4c9e0a34e6df0f083215557164ca12"})
    assert listing.record(mounted, "cmap")["Mounts"] == "5ac00fa1cb4c9e…"
    assert listing.record(mounted, "cmap", full=True)["Mounts"] == "5ac00fa1cb4c9e0a34e6df0f083215557164ca12"


def test_the_json_stream_has_dockers_two_keys_where_docker_has_the_event() -> None:
    stream = io.StringIO()
    view = JsonLines(stream)
    view.sink(Event("container", "started", "cmap-web-1", "cmap", "web"))
    view.sink(Event("summary", "done", project="cmap"))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["id"], first["status"]) == ("Container cmap-web-1", "Started")
    assert "id" not in second


def test_what_is_muted_still_warns() -> None:
    stream = io.StringIO()
    view = Muted(Plain(stream), ("pull",))
    view.sink(Event("pull", "pulling", "alpine"))
    view.sink(Event("pull", "warning", "alpine", data={"message": "slow"}))
    view.sink(Event("network", "created", "cmap_default"))
    assert stream.getvalue() == "warning: slow\n Network cmap_default  Created\n"


def test_an_empty_table_has_its_heading() -> None:
    assert listing.table([]) == ["NAME      IMAGE     COMMAND   SERVICE   CREATED   STATUS    PORTS"]


def test_json_has_dockers_keys_in_order_and_gos_escapes() -> None:
    line = go_json(listing.record(container(), "cmap"))
    assert '"Ports":"127.0.0.1:32789-\\u003e80/tcp"' in line
    assert '"Command":"\\"sh -c \'echo out; ec…\\""' in line
    record = json.loads(line)
    assert list(record) == sorted(record)
    assert record["Publishers"] == [{"URL": "127.0.0.1", "TargetPort": 80, "PublishedPort": 32789, "Protocol": "tcp"}]
    assert record["Status"] == "Up Less than a second (health: starting)"
    assert (record["State"], record["Health"], record["ExitCode"]) == ("running", "starting", 0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (180, "3 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"),
        (90 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_times_are_told_in_dockers_words(seconds: float, words: str) -> None:
    assert listing.duration(seconds) == words


def test_states_are_told_in_dockers_words() -> None:
    now = time.time()
    assert listing.status(ContainerStatus("created"), now) == "Created"
    exited = ContainerStatus("exited", finished_at=now - 2.5, exit_code=3)
    assert listing.status(exited, now) == "Exited (3) 2 seconds ago"
    restarting = ContainerStatus("restarting", finished_at=now - 1.5, exit_code=1)
    assert listing.status(restarting, now) == "Restarting (1) 1 second ago"


def test_wide_characters_keep_columns_aligned() -> None:
    assert columns([("名前", "x"), ("ab", "y")]) == ["名前      x", "ab        y"]


def test_plain_lines_are_dockers_with_the_time_it_took() -> None:
    assert line_of(Event("container", "creating", "p-web-1")) == " Container p-web-1  Creating"
    event = Event("container", "started", "p-web-1", data={"seconds": 0.0312})
    assert line_of(event) == " Container p-web-1  Started  0.03s"
    assert line_of(Event("probe", name="p-web-1")) == ""


def test_plain_output_prints_changes_only() -> None:
    stream = io.StringIO()
    view = Plain(stream)
    probe = {"exit": 1, "ms": 4, "output": "refused"}
    for event in (
        Event("container", "waiting", "p-db-1"),
        Event("probe", name="p-db-1", data={"probe": probe, "number": 1}),
        Event("container", "healthy", "p-db-1", data={"seconds": 1.0}),
    ):
        view.sink(event)
    view.close()
    assert stream.getvalue() == " Container p-db-1  Waiting\n Container p-db-1  Healthy  1.00s\n"


def test_json_lines_are_versioned_and_numbered() -> None:
    stream = io.StringIO()
    view = JsonLines(stream)
    view.sink(Event("network", "created", "p_default", "p"))
    view.sink(Event("container", "started", "p-web-1", "p", "web", {"seconds": 0.1}))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["v"], first["seq"], first["kind"], first["network"]) == (1, 1, "network", "p_default")
    assert (second["seq"], second["service"], second["container"], second["seconds"]) == (2, "web", "p-web-1", 0.1)


def test_the_live_region_shows_each_thing_and_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    view = Live(stream, "up shop")
    probe = {"exit": 7, "ms": 4, "output": "connection\x1b[2J refused"}
    view.sink(Event("network", "created", "shop_default", data={"seconds": 0.01}))
    view.sink(Event("container", "waiting", "shop-db-1"))
    view.sink(Event("probe", name="shop-db-1", data={"probe": probe, "number": 3}))
    view.sink(Event("container", "started", f"shop-{'long' * 30}-1"))
    view.close()
    stream.seek(0)
    frame = stream.read().split("\x1b[?2026h")[-1]
    lines = frame.replace("\x1b[K", "").lstrip("\r").split("\n")
    assert "up shop  2/3" in lines[0]
    assert lines[1].startswith("✓ Network shop_default")
    assert "◐ Container shop-db-1" in lines[2]
    assert "probe 3: connection[2J" in lines[2], "no escape of a container reaches the terminal"
    assert all(len(line) <= 80 for line in lines[1:4])


def test_an_error_shows_place_line_caret_details_and_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("compose.yaml").write_text("services:\n\tweb:\n\t\timage: none\n")
    error = Conflict("cannot publish port 80", hint="change 'ports'", place="compose.yaml:3:3")
    assert render(error) == (
        "error: cannot publish port 80\n"
        "  --> compose.yaml:3:3\n"
        " 3 | \t\timage: none\n"
        "   | \t\t^^^^^\n"
        "   = help: change 'ports'"
    )
    assert render(NotReady("x is unhealthy", details=("last probe",), hint="try")) == (
        "error: x is unhealthy\n   | last probe\n   = help: try"
    )


def test_a_place_that_cannot_be_read_is_shown_without_its_line() -> None:
    assert render(InvalidInput("bad", place="gone.yaml:3:1")) == "error: bad\n  --> gone.yaml:3:1"
    assert render(InvalidInput("bad", place="-:3:1")) == "error: bad\n  --> -:3:1"


def test_an_unexpected_exception_is_one_line_and_a_way_to_learn_more() -> None:
    assert render(KeyError("x")) == (
        "error: umiak itself failed: KeyError: 'x'\n"
        "   = help: this is a defect of umiak; UMIAK_DEBUG=1 shows where it happened"
    )
