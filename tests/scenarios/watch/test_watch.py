"""What changes on this host reaches the containers: copied, restarted with, or built anew."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.stack import Stack

pytestmark = pytest.mark.umiak("Docker's initial sync takes only files newer than the image; this looks below /proc")


class Watched:
    """`umiak watch` on a stack, from the moment that it watches. `web` is the root of that service's container."""

    def __init__(self, stack: Stack, *arguments: str) -> None:
        self.child = stack.start(*(arguments or ("watch",)))
        stack.wait_until(lambda: "watch-web-1" in stack.states(), "a container", 30)
        stack.wait_until_state("web", "running")
        self.web = Path(f"/proc/{stack.status('web')['pid']}/root")
        stack.wait_until(lambda: read(self.web / "srv/src/one.txt") == "one\n", "the first sync", 20)

    def end(self) -> str:
        """Interrupt it as Ctrl-C does; return all that was printed."""
        os.killpg(self.child.pid, signal.SIGINT)
        out, _ = self.child.communicate(timeout=30 * PATIENCE)
        assert self.child.returncode == 130, out
        return out


def read(path: Path) -> str:
    """A file's text, "" where it is not there."""
    return path.read_text() if path.exists() else ""


def test_files_are_synced_deleted_and_ignored(stack: Stack) -> None:
    watched = Watched(stack)
    source, synced = stack.directory / "src", watched.web / "srv/src"
    assert read(synced / "deep/deep.txt") == "deep\n"
    assert not (synced / "noise.log").exists()
    (source / "more.log").write_text("noise")
    (source / "new").mkdir()
    (source / "new" / "two.txt").write_text("two\n")
    stack.wait_until(lambda: read(synced / "new/two.txt") == "two\n", "a new file", 20)
    (source / "one.txt").unlink()
    shutil.rmtree(source / "deep")
    stack.wait_until(lambda: os.listdir(synced) == ["new"], "deleted files to go", 20)
    (source / "two.new").write_text("edited\n")
    (source / "two.new").rename(source / "new" / "two.txt")
    stack.wait_until(lambda: read(synced / "new/two.txt") == "edited\n", "the edited file", 20)
    watched.end()
    assert stack.states() == {"watch-web-1": "running", "watch-job-1": "running"}


def test_a_sync_can_be_followed_by_a_restart_or_a_command(stack: Stack) -> None:
    watched = Watched(stack)
    container = stack.ids()["watch-web-1"]
    (stack.directory / "templates" / "page").write_text("good day\n")
    stack.wait_until(lambda: read(watched.web / "srv/page") == "good day\n", "the command", 20)
    (stack.directory / "conf" / "other.txt").write_text("not included")
    (stack.directory / "conf" / "app.conf").write_text("colour=red\n")
    stack.wait_for_output("web", "colour=red", 20)
    assert stack.ids()["watch-web-1"] == container
    assert stack.sh("web", "ls /etc/app") == "app.conf"
    watched.end()


def test_a_rebuild_replaces_the_container_and_an_error_ends_nothing(stack: Stack) -> None:
    watched = Watched(stack)
    first = stack.ids()["watch-job-1"]
    stack.umiak("kill", "web")
    (stack.directory / "templates" / "page").write_text("to nobody\n")
    (stack.directory / "job" / "ignored.tmp").write_text("")
    (stack.directory / "job" / "text").write_text("second\n")
    stack.wait_until(lambda: stack.ids().get("watch-job-1", first) != first, "another container", 30)
    stack.wait_until_state("job", "running")
    assert stack.sh("job", "cat /job/text") == "second"
    dangling = ("image", "ls", "-a", "--filter", "dangling=true", "-q")
    stack.wait_until(lambda: not stack.umiak(*dangling).stdout.split(), "the image that was replaced to go", 20)
    assert "job rebuilt" in watched.end()


def test_up_can_watch_and_shows_the_output_of_what_it_starts_anew(stack: Stack) -> None:
    watched = Watched(stack, "up", "--watch", "--build")
    (stack.directory / "conf" / "app.conf").write_text("colour=green\n")
    stack.wait_for_output("web", "colour=green", 20)
    out = watched.end()
    assert out.count("web-1  | colour=green") == 1, out
    assert stack.states() == {"watch-web-1": "exited", "watch-job-1": "exited"}


def test_an_edited_file_of_the_project_is_taken_in(stack: Stack) -> None:
    watched = Watched(stack)
    first = stack.ids()
    stack.replace("target: /srv/src", "target: [")
    stack.replace("target: [", "target: /srv/src")
    stack.replace('"cat /etc/app/app.conf;', '"echo edited;')
    stack.replace(
        "{path: ./conf, action: sync+restart, target: /etc/app", "{path: ./conf, action: sync+restart, target: /etc/new"
    )
    stack.wait_until(
        lambda: stack.ids().get("watch-web-1", first["watch-web-1"]) != first["watch-web-1"], "another container", 20
    )
    stack.wait_for_output("web", "edited", 20)
    (stack.directory / "conf" / "app.conf").write_text("colour=blue\n")
    stack.wait_until(
        lambda: "app.conf" in stack.exec("web", "ls", "/etc/new", exit_code=None).stdout, "the new target", 20
    )
    assert stack.ids()["watch-job-1"] == first["watch-job-1"]
    watched.end()


def test_what_cannot_be_watched_is_said_with_its_place(stack: Stack) -> None:
    stack.replace("{path: ./src,", "{path: ./nowhere,")
    said = stack.umiak("watch", exit_code=1).stderr
    assert "nowhere: no such file or directory" in said
    assert "compose.yaml:8:" in said
    assert "none of none" in stack.umiak("watch", "--no-up", "none", exit_code=1).stderr
