"""Builds with real layers and overlays. Commands run by a stand-in for the engine's containers: unshare and chroot."""

from __future__ import annotations

import os
import stat
import tarfile
import threading
import time
from pathlib import Path

import pytest

from engine.errors import InvalidInput, NotFound
from engine.images.build import perform
from engine.images.build.builder import BuildRequest, build
from engine.images.build.cancel import Cancellation, Cancelled
from engine.images.build.perform import BuildFailed
from engine.images.build.prune import prune
from engine.images.store import ImageStore
from engine.kernel import mounts
from engine.prune import images as prune_images
from engine.state import State
from engine.types import Image
from tests.workshop import Workshop, owner

pytestmark = pytest.mark.needs("root", "mount", "overlay")


def test_steps_become_layers_and_settings(workshop: Workshop) -> None:
    workshop.write("app/main.sh", "echo hello", 0o755)
    image = workshop.build(
        """
        FROM busybox
        ENV NAME=world
        RUN echo "hello $NAME" > /greeting && rm /etc/group
        WORKDIR /srv/app
        COPY app .
        USER nobody
        CMD ["./main.sh"]
        """,
        tags=["app:1"],
        labels={"a": "b"},
    )
    assert workshop.read(image, "/greeting") == "hello world\n"
    assert workshop.files(image).keys() == {"/greeting", "/srv", "/srv/app", "/srv/app/main.sh"}
    assert image.tags == ("app:1",)
    assert (image.config.cmd, image.config.user, image.config.working_dir) == (("./main.sh",), "nobody", "/srv/app")
    assert image.config.labels == {"a": "b"}
    assert len(image.layers) == 4
    with workshop.mounted(image) as root, pytest.raises(FileNotFoundError):
        os.stat("etc/group", dir_fd=root)


def test_the_history_tells_each_step_and_which_made_a_layer(workshop: Workshop) -> None:
    image = workshop.build("FROM busybox\nARG V=1\nRUN echo > /a\nRUN true\nEXPOSE 80")
    history = workshop.store.config_json(image.id)["history"][-4:]
    assert [(item["created_by"], item.get("empty_layer", False)) for item in history] == [
        ("ARG V=1", True),
        ("RUN |1 V=1 /bin/sh -c echo > /a", False),
        ("RUN |1 V=1 /bin/sh -c true", True),
        ("EXPOSE 80", True),
    ]
    assert sum(not item.get("empty_layer") for item in workshop.store.config_json(image.id)["history"]) == len(
        image.layers
    )


def test_a_second_build_runs_nothing_and_gives_the_same_image(workshop: Workshop) -> None:
    workshop.write("a")
    text = "FROM busybox\nRUN echo > /x\nWORKDIR /w\nCOPY a .\nLABEL l=1"
    first = workshop.build(text, tags=["t"])
    assert workshop.kinds() == ["started", "done"] * 3
    os.utime(workshop.context / "a", (1, 1))
    start = time.monotonic()
    assert workshop.build(text, tags=["t"]) == first
    assert time.monotonic() - start < 0.3
    assert workshop.kinds() == ["cached"] * 3
    assert len(workshop.runner.commands) == 1


def test_a_change_of_a_file_builds_again_from_where_it_is_copied(workshop: Workshop) -> None:
    workshop.write("a", "1")
    text = "FROM busybox\nRUN echo > /x\nCOPY a /\nRUN cat /a > /b"
    workshop.build(text)
    workshop.write("a", "2")
    image = workshop.build(text)
    assert workshop.kinds() == ["cached", "started", "done", "started", "done"]
    assert workshop.read(image, "/b") == "2"


def test_a_change_of_settings_alone_runs_nothing(workshop: Workshop) -> None:
    first = workshop.build("FROM busybox\nLABEL v=1\nRUN echo > /x")
    second = workshop.build("FROM busybox\nLABEL v=2\nRUN echo > /x")
    assert workshop.kinds() == ["cached"]
    assert second.layers == first.layers
    assert second.id != first.id


def test_no_cache_builds_all_again(workshop: Workshop) -> None:
    text = "FROM busybox\nRUN echo $$ > /x"
    first = workshop.build(text)
    assert workshop.build(text, no_cache=True).layers != first.layers
    assert len(workshop.runner.commands) == 2


def test_the_cache_is_no_image_of_the_user_s(workshop: Workshop) -> None:
    image = workshop.build("FROM busybox\nRUN echo > /x\nRUN echo > /y", tags=["t"])
    assert {item.id for item in workshop.store.all()} == {image.id, workshop.store.resolve("busybox").id}
    workshop.store.remove("t")
    workshop.store.collect_garbage()
    assert workshop.build("FROM busybox\nRUN echo > /x\nRUN echo > /y").layers == image.layers
    assert workshop.kinds() == ["cached", "cached"]


def test_what_a_build_without_cache_replaces_stays_hidden_and_is_pruned(workshop: Workshop) -> None:
    text = "FROM busybox\nRUN date +%N > /x\nRUN date +%N > /y"
    images = [workshop.build(text, tags=[name], no_cache=True).id for name in ("a", "b", "c")]
    busybox = workshop.store.resolve("busybox").id
    assert {item.id for item in workshop.store.all()} == {*images, busybox}
    prune(workshop.store)
    assert {row["id"] for row in workshop.store.state.rows("SELECT id FROM images")} == {*images, busybox}


def test_pruning_spares_what_images_have_and_what_is_asked_to_be_kept(workshop: Workshop) -> None:
    text = "FROM busybox\nRUN echo > /x\nRUN echo > /y"
    workshop.build(text, tags=["t"])
    gone = workshop.build("FROM busybox\nRUN yes | head -c 100000 > /z")
    store = workshop.store
    store.remove(gone.id)
    assert prune(store, everything=False, before=time.time() - 3600) == (0, 0)
    assert prune(store, everything=False, keep_bytes=1 << 20) == (0, 0)
    removed, freed = prune(store, everything=False)
    assert (removed, freed >= 100_000) == (1, True)
    workshop.build(text, tags=["t"])
    assert workshop.kinds() == ["cached"] * 2
    prune(store)
    workshop.build(text, tags=["t"])
    assert workshop.kinds() == ["started", "done"] * 2


def test_pruning_all_beside_a_build_takes_nothing_from_it(workshop: Workshop) -> None:
    workshop.write("f", "file")
    other = ImageStore(workshop.paths, State(workshop.paths.database))
    workshop.build("FROM busybox AS a\nRUN echo 1 > /a")
    pruned: list[int] = []

    def prune_all(*_: object) -> None:
        prune(other)
        pruned.append(len(prune_images(other, everything=True).removed))

    workshop.runner.before = prune_all
    text = """
        FROM busybox AS a
        RUN echo 1 > /a
        RUN echo 2 >> /a
        FROM busybox
        COPY --link f /f
        COPY --from=a /a /b
        RUN cat /b /f > /c
        """
    request = BuildRequest(str(workshop.context), dockerfile_inline=text, tags=["t"])
    image = build(workshop.store, workshop.runner, request, prune_all)
    assert sum(pruned) > 0
    assert workshop.read(image, "/c") == "1\n2\nfile"
    with pytest.raises(NotFound):
        workshop.store.resolve("busybox")
    prune_all()
    workshop.store.collect_garbage()
    assert list(workshop.store.layers.all()) == []
    other.close()


def test_a_command_that_fails_is_told_with_its_line_its_code_and_its_output(workshop: Workshop) -> None:
    found = workshop.fails("FROM busybox\nRUN echo fine > /x\n\n  RUN echo one; echo two >&2; exit 3\n")
    assert isinstance(found, BuildFailed)
    assert str(found) == ("dockerfile_inline:4:3: RUN echo one; echo two >&2; exit 3: exit code 3\n  one\n  two")
    assert found.output == "one\ntwo"
    assert workshop.kinds()[-1] == "failed"


def test_what_a_command_writes_comes_as_it_is_written(workshop: Workshop) -> None:
    workshop.build("FROM busybox\nRUN printf 'a\\n\\377'")
    assert b"".join(event.output for event in workshop.events) == b"a\n\xff"


def test_only_the_end_of_a_long_output_is_kept(workshop: Workshop) -> None:
    found = workshop.fails("FROM busybox\nRUN seq 100000; exit 1")
    assert isinstance(found, BuildFailed)
    assert found.output.splitlines() == [str(number) for number in range(100001 - perform.LAST_LINES, 100001)]


def test_nothing_is_left_when_a_build_is_interrupted(workshop: Workshop) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    workshop.runner.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        workshop.build("FROM busybox\nRUN echo > /x")
    assert workshop.leftovers() == []


@pytest.mark.parametrize("stages", [1, 2])
def test_a_cancelled_build_ends_its_silent_commands(workshop: Workshop, stages: int) -> None:
    cancellation = Cancellation()
    running = threading.Barrier(stages + 1, timeout=20)
    workshop.runner.before = running.wait  # type: ignore[assignment]
    text = "".join(f"FROM busybox AS s{number}\nRUN sleep 10{number}\n" for number in range(stages))
    text += "FROM scratch\n" + "".join(f"COPY --from=s{number} /x /\n" for number in range(stages))

    def cancel() -> None:
        running.wait()
        cancellation.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    start = time.monotonic()
    assert isinstance(workshop.fails(text, cancellation=cancellation), Cancelled)
    canceller.join()
    assert time.monotonic() - start < 20


def test_a_cancelled_build_does_not_begin(workshop: Workshop) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    assert isinstance(workshop.fails("FROM busybox\nRUN true", cancellation=cancellation), Cancelled)
    assert workshop.runner.commands == []


def test_what_a_killed_build_left_is_removed_by_the_next(workshop: Workshop) -> None:
    abandoned = workshop.base / "root/build/0123456789abcdef"
    (abandoned / "upper/a/b").mkdir(parents=True)
    workshop.build("FROM busybox")
    assert workshop.leftovers() == []


def test_a_living_build_s_directory_is_left_to_it(workshop: Workshop) -> None:
    def build_another() -> None:
        workshop.runner.before = lambda: None
        build(workshop.store, workshop.runner, BuildRequest("/", dockerfile_inline="FROM busybox"), lambda _: None)

    workshop.runner.before = build_another
    image = workshop.build("FROM busybox\nRUN echo > /x")
    assert "/x" in workshop.files(image)


def test_stages_copy_from_one_another(workshop: Workshop) -> None:
    image = workshop.build(
        """
        FROM busybox AS make
        RUN mkdir /out && echo built > /out/program && chown 7:8 /out/program && chmod 4711 /out/program
        FROM scratch
        COPY --from=make /out /bin
        COPY --from=busybox /etc/passwd /etc/
        """
    )
    with workshop.mounted(image) as root:
        found = os.stat("bin/program", dir_fd=root)
    assert (owner(found), stat.S_IMODE(found.st_mode)) == ((7, 8), 0o4711)
    assert workshop.read(image, "/etc/passwd").startswith("root:")
    assert len(image.layers) == 2


def test_a_target_ends_the_build_early(workshop: Workshop) -> None:
    text = "FROM busybox AS one\nRUN echo > /one\nFROM one AS two\nRUN echo > /two\nFROM busybox AS three\nRUN exit 1"
    assert workshop.files(workshop.build(text, target="two")).keys() == {"/one", "/two"}
    assert workshop.files(workshop.build(text, target="0")).keys() == {"/one"}
    assert len(workshop.runner.commands) == 2


def test_independent_stages_run_side_by_side(workshop: Workshop) -> None:
    meeting = threading.Barrier(2, timeout=20)
    workshop.runner.before = meeting.wait  # type: ignore[assignment]
    image = workshop.build(
        "FROM busybox AS a\nRUN echo > /a\nFROM busybox AS b\nRUN echo > /b\n"
        "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )
    with workshop.mounted(image) as root:
        assert sorted(os.listdir(f"/proc/self/fd/{root}")) == ["a", "b"]


def test_a_step_that_two_stages_share_runs_once(workshop: Workshop) -> None:
    workshop.build(
        "FROM busybox AS a\nRUN echo > /a\nRUN echo > /x\nFROM busybox AS b\nRUN echo > /a\nRUN echo > /y\n"
        "FROM scratch\nCOPY --from=a /x /\nCOPY --from=b /y /\n"
    )
    assert len(workshop.runner.commands) == 3


def test_a_failing_stage_is_the_error_of_the_whole_build(workshop: Workshop) -> None:
    found = workshop.fails(
        "FROM busybox AS a\nRUN exit 5\nFROM busybox AS b\nRUN sleep 1; echo; echo > /b\n"
        "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )
    assert str(found).startswith("dockerfile_inline:2:1: RUN exit 5: exit code 5")


def test_copied_files_belong_to_root_unless_asked_otherwise(workshop: Workshop) -> None:
    workshop.write("a")
    os.chown(workshop.context / "a", 1000, 1000)
    files = workshop.files(
        workshop.build(
            """
            FROM busybox
            COPY a /1
            COPY --chown=nobody a /2/a
            COPY --chown=nobody:root a /3
            COPY --chown=5 a /4
            COPY --chown=5:6 --chmod=600 a /5
            """
        )
    )
    assert {path: owner(found) for path, found in files.items()} == {
        "/1": (0, 0),
        "/2": (65534, 65534),
        "/2/a": (65534, 65534),
        "/3": (65534, 0),
        "/4": (5, 5),
        "/5": (5, 6),
    }
    assert stat.S_IMODE(files["/5"].st_mode) == 0o600


def test_an_owner_whom_the_image_does_not_know_is_told(workshop: Workshop) -> None:
    workshop.write("a")
    found = workshop.fails("FROM busybox\nCOPY --chown=nobdy a /")
    assert str(found).startswith('dockerfile_inline:2:1: no user "nobdy"')


def test_copying_into_a_directory_of_the_image_keeps_its_owner_and_mode(workshop: Workshop) -> None:
    workshop.write("a")
    text = "FROM busybox\nRUN mkdir -p /d/e && chown 7:8 /d && chmod 2751 /d && chmod 1777 /d/e\nCOPY a /d/e/"
    files = workshop.files(workshop.build(text))
    assert (owner(files["/d"]), stat.S_IMODE(files["/d"].st_mode)) == ((7, 8), 0o2751)
    assert stat.S_IMODE(files["/d/e"].st_mode) == 0o1777
    image = workshop.build(text)
    top = workshop.store.layer_dir(image.layers[-1])
    assert sorted(path.relative_to(top).as_posix() for path in Path(top).rglob("*")) == ["d", "d/e", "d/e/a"]


def test_hostile_links_in_an_image_lead_nowhere_outside(workshop: Workshop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    workshop.write("a")
    image = workshop.build(
        f"FROM busybox\nRUN ln -s {outside} /abs && ln -s ../../../../..{outside} /up && ln -s /proc/1/root /magic\n"
        "COPY a /abs/\nCOPY a /up/\nCOPY a /magic/x/\nADD a /abs/b\n"
    )
    assert list(outside.iterdir()) == []
    assert f"{outside}/a" in workshop.files(image)


def test_hostile_links_in_a_stage_show_nothing_of_the_host(workshop: Workshop) -> None:
    found = workshop.fails(
        "FROM busybox AS a\nRUN ln -s /../../../../etc/hostname /leak\nFROM busybox\nCOPY --from=a /leak /leak\n"
    )
    assert isinstance(found, NotFound)
    assert str(found).startswith("dockerfile_inline:4:1: COPY /leak: no such file in stage a")


def test_a_link_in_the_context_shows_nothing_of_the_host(workshop: Workshop) -> None:
    (workshop.context / "leak").symlink_to("/etc/passwd")
    assert isinstance(workshop.fails("FROM busybox\nCOPY leak /leak"), NotFound)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_add_unpacks_a_local_archive_whatever_its_name(workshop: Workshop, compression: str) -> None:
    source = workshop.write("tree/sub/file", "content", 0o640)
    os.utime(source, (5, 5))
    os.chown(source, 7, 8)
    with tarfile.open(workshop.context / "data", f"w:{compression}") as tar:
        tar.add(workshop.context / "tree", ".")
    image = workshop.build(
        "FROM busybox\nADD data /in/\nADD --chown=5:6 data /out\nCOPY data /as-it-is\nADD tree /plain"
    )
    files = workshop.files(image)
    assert (owner(files["/in/sub/file"]), files["/in/sub/file"].st_mtime) == ((7, 8), 5)
    assert stat.S_IMODE(files["/in/sub/file"].st_mode) == 0o640
    assert owner(files["/out/sub/file"]) == (5, 6)
    assert stat.S_ISREG(files["/as-it-is"].st_mode)
    assert "/plain/sub/file" in files


def test_an_archive_cannot_write_outside_of_the_image(workshop: Workshop, tmp_path: Path) -> None:
    with tarfile.open(workshop.context / "evil.tar", "w") as tar:
        info = tarfile.TarInfo("../../evil")
        tar.addfile(info)
    found = workshop.fails("FROM busybox\nADD evil.tar /x/")
    assert isinstance(found, InvalidInput)
    assert "outside" in found.message


def test_a_broken_archive_is_told(workshop: Workshop) -> None:
    with tarfile.open(workshop.context / "a.tar", "w") as tar:
        tar.add("/bin/busybox", "busybox")
    data = (workshop.context / "a.tar").read_bytes()
    (workshop.context / "a.tar").write_bytes(data[:100_000])
    assert str(workshop.fails("FROM busybox\nADD a.tar /x/")).startswith("dockerfile_inline:2:1: ")


def test_here_documents_become_files_and_commands(workshop: Workshop) -> None:
    image = workshop.build(
        'FROM busybox\nENV A=1\nCOPY <<one <<"two" /d/\na=$A\none\na=$A\ntwo\n'
        "RUN <<EOF\nset -e\necho ran > /ran\nEOF\nRUN cat > /cat <<EOF\nx\nEOF\n"
    )
    assert workshop.read(image, "/d/one") == "a=1\n"
    assert workshop.read(image, "/d/two") == "a=$A\n"
    assert workshop.read(image, "/ran") == "ran\n"
    assert workshop.read(image, "/cat") == "x\n"


def test_a_working_directory_is_made_once_and_belongs_to_the_user(workshop: Workshop) -> None:
    image = workshop.build("FROM busybox\nWORKDIR /tmp\nUSER nobody\nWORKDIR /home/me\nRUN echo > here")
    files = workshop.files(image)
    assert owner(files["/home/me"]) == (65534, 65534)
    assert "/home/me/here" in files
    assert len(image.layers) == 3


def test_several_files_need_a_directory(workshop: Workshop) -> None:
    workshop.write("a1")
    workshop.write("a2")
    workshop.write("d/a3")
    for sources in ("a*", "a1 a2", "a1 d", "a1 <<a2"):
        text = f"FROM busybox\nCOPY {sources} /x\n" + "a2\n" * ("<<" in sources)
        assert "2 files are to go to /x, which is not a directory" in workshop.fails(text).message
    assert {"/tmp/a1", "/tmp/a2"} <= workshop.files(workshop.build("FROM busybox\nCOPY a1 a2 /tmp")).keys()
    assert {"/x/a1", "/x/a3"} <= workshop.files(workshop.build("FROM busybox\nCOPY d a1 /x")).keys()


def test_source_date_epoch_gives_the_same_digest_again(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    text = "FROM scratch\nWORKDIR /a/b\nCOPY a .\nCOPY <<E /e\nx\nE"
    images = []
    for _ in range(2):
        workshop.write("a")
        images.append(workshop.build(text, no_cache=True))
        time.sleep(1.1)
    assert images[0].id == images[1].id
    assert images[0].created_at == 1700000000


def test_two_builds_at_once_do_not_disturb_each_other(workshop: Workshop) -> None:
    workshop.write("a")
    images: list[Image] = []
    errors: list[BaseException] = []

    def work(number: int) -> None:
        store = ImageStore(workshop.paths, State(workshop.paths.database))
        text = f"FROM busybox\nRUN echo > /same\nCOPY a /\nRUN echo {number % 2} > /own"
        request = BuildRequest(str(workshop.context), dockerfile_inline=text, tags=[f"t{number % 2}"])
        try:
            images.append(build(store, workshop.runner, request, lambda _: None))
        except BaseException as error:
            errors.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for number in range(2):
        assert workshop.read(workshop.store.resolve(f"t{number}"), "/own") == f"{number}\n"


def test_a_file_that_changes_during_the_build_is_noticed(workshop: Workshop) -> None:
    workshop.write("a", "1")
    workshop.runner.before = lambda: (workshop.context / "a").write_text("other") and None
    found = workshop.fails("FROM busybox\nRUN true\nCOPY a /")
    assert str(found) == "dockerfile_inline:3:1: a changed while the build was running"


def test_a_layer_that_occurs_twice_is_mounted_once(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    workshop.write("a")
    image = workshop.build("FROM busybox\nCOPY a /a\nWORKDIR /w\nCOPY a /a\nRUN ls / > /w/list")
    assert "a" in workshop.read(image, "/w/list")


def test_a_dockerfile_is_found_in_its_context(workshop: Workshop) -> None:
    workshop.write("sub/Dockerfile.dev", "FROM busybox\nCOPY sub/x /\n")
    workshop.write("sub/x")
    request = BuildRequest(str(workshop.context), "sub/Dockerfile.dev")
    image = build(workshop.store, workshop.runner, request, workshop.events.append)
    assert "/x" in workshop.files(image)
    assert workshop.events[0].place.endswith("sub/Dockerfile.dev:2:1")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [(None, "Dockerfile", "did you mean Dokerfile?"), ("Dokerfil", "Dokerfil", "did you mean Dokerfile?")],
)
def test_a_missing_dockerfile_is_told(workshop: Workshop, name: str | None, message: str, hint: str) -> None:
    workshop.write("Dokerfile")
    with pytest.raises(NotFound, match=message) as caught:
        build(workshop.store, workshop.runner, BuildRequest(str(workshop.context), name), lambda _: None)
    assert caught.value.hint == hint


def test_old_kernels_get_the_same_mount_another_way(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "overlay", lambda *_, **__: None)
    workshop.write("a", "A")
    assert workshop.read(workshop.build("FROM busybox\nCOPY a /x/"), "/x/a") == "A"
