"""`cp` copies files and directories both ways, as `docker cp` places them; `export` writes all of a container's files."""

from __future__ import annotations

import os
import subprocess
import tarfile

import pytest

from tests.stack import UMIAK, Stack


def ready(stack: Stack) -> None:
    stack.up("--scale", "web=2")
    stack.wait_until_state("done", "exited")
    for index in (1, 2):
        stack.sh("web", "while [ $(stat -c %u /srv/site) != 7 ]; do sleep 0.1; done", index=index)


def test_out_of_a_container(stack: Stack) -> None:
    ready(stack)
    stack.umiak("cp", "web:/srv/site", "whole")
    assert (stack.directory / "whole/index").read_text() == "index\n"
    assert os.readlink(stack.directory / "whole/link") == "index"
    assert (stack.directory / "whole/index").stat().st_uid == os.geteuid()
    (stack.directory / "into").mkdir()
    stack.umiak("cp", "web:/srv/site", "into")
    assert (stack.directory / "into/site/index").exists()
    stack.umiak("cp", "web:/srv/site/.", "into")
    stack.umiak("cp", "-L", "web:/srv/site/link", "followed")
    assert (stack.directory / "into/index").read_text() == (stack.directory / "followed").read_text() == "index\n"
    assert not (stack.directory / "followed").is_symlink()
    assert "/nothing" in stack.umiak("cp", "web:/nothing", ".", exit_code=1).stderr


@pytest.mark.umiak("Docker keeps owners only on the way in")
def test_owners_are_kept_where_asked(stack: Stack) -> None:
    ready(stack)
    stack.umiak("cp", "-a", "web:/srv/site", "whole")
    found = (stack.directory / "whole/index").stat()
    assert (found.st_uid, found.st_gid) == (7, 8)


def test_into_all_replicas_or_one_of_them_or_one_that_does_not_run(stack: Stack) -> None:
    ready(stack)
    (stack.directory / "site").mkdir()
    (stack.directory / "site/new").write_text("new\n")
    stack.umiak("cp", "site", "web:/srv")
    assert [stack.sh("web", "cat /srv/site/new; ls /srv/site/index", index=i) for i in (1, 2)] == [
        "new\n/srv/site/index"
    ] * 2
    stack.umiak("cp", "--index", "2", "site/new", "web:/data/renamed")
    assert stack.sh("web", "cat /data/renamed; stat -c %u /data/renamed") == "new\n0", "a volume of both"
    stack.umiak("cp", "site/new", "done:/etc/new")
    stack.umiak("cp", "done:/etc/new", "back")
    assert (stack.directory / "back").read_text() == "new\n"
    stack.umiak("cp", "site", "web:/no/such/place", exit_code=1)
    stack.umiak("cp", "site", "elsewhere", exit_code=1)


@pytest.mark.umiak("Docker cannot give one stream to several replicas")
def test_streams_of_tar(stack: Stack) -> None:
    ready(stack)
    environment = stack.host.environment(stack.env)
    archive = subprocess.run(
        [UMIAK, "cp", "web:/srv/site", "-"], cwd=stack.directory, env=environment, capture_output=True, check=True
    ).stdout
    (stack.directory / "site.tar").write_bytes(archive)
    with tarfile.open(stack.directory / "site.tar") as tar:
        assert sorted(tar.getnames()) == ["site", "site/index", "site/link"]
    subprocess.run([UMIAK, "cp", "-", "web:/data"], cwd=stack.directory, env=environment, input=archive, check=True)
    assert stack.sh("web", "cat /data/site/link") == "index"


@pytest.mark.umiak("Docker exports only what runs")
def test_export_writes_the_whole_root(stack: Stack) -> None:
    ready(stack)
    stack.umiak("export", "-o", "root.tar", "web")
    with tarfile.open(stack.directory / "root.tar") as tar:
        names = {name.lstrip("./") for name in tar.getnames()}
    assert {"srv/site/index", "bin/sh"} <= names
    assert not any(name.startswith("proc/") for name in names)
    stack.umiak("export", "-o", "done.tar", "done")
    stack.umiak("export", "-o", "x.tar", "nothing", exit_code=1)
    assert not (stack.directory / "x.tar").exists()
