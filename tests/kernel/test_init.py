"""Containers started for real: what their process sees, may do and cannot reach."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.kernel import mounts, process
from engine.kernel.libc import NUMBERS
from engine.runtime import init
from engine.runtime.cgroup import CgroupV2, Hierarchies
from engine.runtime.init import LaunchError
from tests.images import busybox_rootfs
from tests.kernel.launcher import CAPABILITIES, CONFIG, Launcher, changed, mount_entry

pytestmark = pytest.mark.needs("root", "overlay", "cgroup", "netns")


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    made = Launcher()
    yield made
    made.close()


def test_a_container_has_its_own_hostname_processes_and_mounts(launcher: Launcher) -> None:
    output = launcher.sh("hostname; echo $$; ls /; wc -l < /proc/net/dev")
    host, pid, *entries, interfaces = output.split()
    assert (host, pid) == ("kayak", "1")
    assert "proc" in entries
    assert int(interfaces) == 3, "two heading lines and lo"


def test_exit_codes_and_signals_come_back_as_a_shell_reports_them(launcher: Launcher) -> None:
    assert launcher.run("sh", "-c", "exit 42")[0] == 42
    running = launcher.start("sleep", "60")
    running.signal(signal.SIGKILL)
    assert running.wait() == 137


def test_a_container_that_handles_a_signal_ends_as_it_likes(launcher: Launcher) -> None:
    running = launcher.start("sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    running.read_until("ready")
    running.signal(signal.SIGTERM)
    assert running.wait() == 3
    assert "bye" in running.output


def test_no_signal_is_ignored_or_blocked(launcher: Launcher) -> None:
    # Python itself ignores SIGPIPE and SIGXFSZ, and children inherit that.
    _, output = launcher.run("grep", "-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status")
    assert [line.split()[1] for line in output.splitlines()] == ["0" * 16] * 3


def test_capabilities_and_seccomp_are_as_configured(launcher: Launcher) -> None:
    output = launcher.sh("grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status")
    status = dict(line.split(":\t") for line in output.splitlines())
    assert status["CapBnd"] == status["CapEff"] == status["CapPrm"] == "00000000a80425fb"
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "0"


def test_no_new_privileges_is_set_and_seccomp_still_loaded(launcher: Launcher) -> None:
    output = launcher.sh("grep -E '^(NoNew|Seccomp:)' /proc/self/status", process={"noNewPrivileges": True})
    assert output.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]


def test_a_privileged_container_has_all_that_the_host_has(launcher: Launcher) -> None:
    everything = init.steps.capabilities.to_names((1 << 64) - 1)
    output = launcher.sh(
        "grep -E '^(CapEff|Seccomp:)' /proc/self/status; touch /sys/x 2>&1; mount -t tmpfs t /tmp && echo mounted",
        process={"capabilities": dict.fromkeys(("bounding", "effective", "permitted"), everything)},
        linux={"seccomp": None, "maskedPaths": [], "readonlyPaths": []},
    )
    assert f"{init.steps.capabilities.bounding_set():016x}" in output
    assert "Seccomp:\t0" in output
    assert "mounted" in output


def test_an_ordinary_container_cannot_mount_or_see_kernel_secrets(launcher: Launcher) -> None:
    output = launcher.sh(
        "mount -t tmpfs t /tmp || echo refused; cat /proc/timer_list | wc -c; ls /proc/acpi | wc -l;"
        " echo 1 > /proc/sys/kernel/panic || echo ro; touch /sys/fs/cgroup/x || echo ro"
    )
    lines = [line for line in output.splitlines() if line in ("refused", "0", "ro")]
    assert lines == ["refused", "0", "0", "ro", "ro"]


def test_the_devices_are_the_usual_ones_and_no_other(launcher: Launcher) -> None:
    output = launcher.sh(
        "cd /dev; ls; echo x > null && head -c4 zero | wc -c; mknod /tmp/sda b 8 0 && head -c1 /tmp/sda"
    )
    names = output.split("\n4\n")[0].split()
    expected = {"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm"}
    assert set(names) == expected | {"stderr", "stdin", "stdout", "tty", "urandom", "zero"}
    assert "Operation not permitted" in output, "the device cgroup forbids the disk"


def test_limits_can_be_read_back_from_inside(launcher: Launcher) -> None:
    launcher.cgroup.remove()
    launcher.cgroup.create(
        {"memory": {"limit": 64 << 20}, "pids": {"limit": 17}, "cpu": {"quota": 50000, "period": 100000}}
    )
    output = launcher.sh(
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max pids/pids.max pids.max 2>/dev/null"
    )
    assert output.split() == [str(64 << 20), "17"]
    assert launcher.sh("sort -u /proc/self/cgroup | grep memory | cut -d: -f3").strip() in ("/", "")


def test_an_out_of_memory_kill_is_recorded(launcher: Launcher) -> None:
    launcher.cgroup.remove()
    launcher.cgroup.create({"memory": {"limit": 16 << 20}})
    assert not launcher.cgroup.oom_killed()
    code, _ = launcher.run("sh", "-c", "head -c 64m /dev/zero | tail | wc -c; exit 9")
    assert code == 9, "only the offender is killed"
    assert launcher.cgroup.oom_killed()
    assert not launcher.cgroup.oom_killed(), "it is told once"


def test_no_descriptor_of_ours_is_left_open(launcher: Launcher) -> None:
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        output = launcher.sh("cd /proc/self/fd; echo *")
    finally:
        os.close(leak)
    assert output.split() in (["0", "1", "2"], ["0", "1", "2", "3"]), "3 is the shell's own"
    assert "host" not in launcher.sh("ls -l /proc/1/fd /proc/1/cwd")


def test_a_working_directory_through_a_descriptor_is_refused(launcher: Launcher) -> None:
    for number in range(3, 16):  # CVE-2024-21626
        with pytest.raises(LaunchError) as caught:
            launcher.start("pwd", process={"cwd": f"/proc/self/fd/{number}"})
        assert caught.value.step in ("Chdir", "MakeCwd")


def test_the_interpreter_cannot_be_reached_through_proc(launcher: Launcher) -> None:
    # CVE-2019-5736: the entry point asks for whatever runs it.
    with pytest.raises(LaunchError) as caught:
        launcher.start("/proc/self/exe", "-c", "pass")
    assert caught.value.exit_code in (126, 127)


@pytest.mark.parametrize("place", ["proc", "dev", "sys"])
def test_an_image_whose_kernel_directories_are_links_is_refused(launcher: Launcher, place: str) -> None:
    victim = launcher.base / "host"
    (launcher.top / place).symlink_to(victim)
    with pytest.raises(LaunchError, match=f"/{place}"):
        launcher.start("true")
    assert list(victim.iterdir()) == []


def test_links_in_the_image_lead_to_places_in_the_image(launcher: Launcher) -> None:
    victim = launcher.base / "host"
    (victim / "hosts").write_text("the host's\n")
    (launcher.base / "mine").write_text("the container's\n")
    (launcher.top / "etc").symlink_to(victim)  # an absolute link to a directory of the host
    (launcher.top / "srv").symlink_to("../../../../../../../../" + str(victim))
    bound = [
        mount_entry("/etc/hosts", "bind", "rbind", source=str(launcher.base / "mine")),
        mount_entry("/srv/deep/data", "bind", "rbind", source=str(victim)),
    ]
    output = launcher.sh(f"cat {victim}/hosts; cat /srv/deep/data/hosts", mounts=[*CONFIG["mounts"], *bound])
    assert output == "the container's\nthe host's\n"
    assert (victim / "hosts").read_text() == "the host's\n"
    assert sorted(path.name for path in victim.iterdir()) == ["hosts"]


def test_nothing_can_be_mounted_over_parts_of_proc(launcher: Launcher) -> None:
    for destination in ("/proc", "/proc/sys/kernel", "/innocent/kernel"):
        (launcher.top / "innocent").unlink(missing_ok=True)
        (launcher.top / "innocent").symlink_to("/proc/sys")
        bind = mount_entry(destination, "bind", "rbind", source=str(launcher.base / "host"))
        with pytest.raises(LaunchError, match="proc"):
            launcher.start("true", mounts=[*CONFIG["mounts"], bind])


def test_binds_show_files_and_directories_and_obey_read_only(launcher: Launcher) -> None:
    host = launcher.base / "host"
    (host / "sub").mkdir()
    (host / "note").write_text("hello")
    mounts_ = [
        *CONFIG["mounts"],
        mount_entry("/data/a", "bind", "rbind", source=str(host)),
        mount_entry("/data/b", "bind", "rbind", "ro", source=str(host)),
        mount_entry("/etc/note", "bind", "bind", "ro", source=str(host / "note")),
    ]
    output = launcher.sh(
        "cat /etc/note; touch /data/a/new; touch /data/b/no || echo ro; echo x > /etc/note || echo ro", mounts=mounts_
    )
    assert output.startswith("hello")
    assert output.count("\nro") + output.count("ro\n") >= 2
    assert (host / "new").exists()
    assert not (host / "no").exists()
    assert (host / "note").read_text() == "hello"


def test_a_bind_whose_source_is_missing_is_explained(launcher: Launcher) -> None:
    bind = mount_entry("/x", "bind", "rbind", source="/nowhere/at/all")
    with pytest.raises(LaunchError, match='"/nowhere/at/all"') as caught:
        launcher.start("true", mounts=[*CONFIG["mounts"], bind])
    assert caught.value.kind == "not_found"
    assert caught.value.hint


def test_a_tmpfs_takes_its_size_and_mode(launcher: Launcher) -> None:
    tmpfs = mount_entry("/scratch", "tmpfs", "size=1m", "mode=1770", "noexec")
    output = launcher.sh("stat -c %a /scratch; grep ' /scratch ' /proc/mounts", mounts=[*CONFIG["mounts"], tmpfs])
    assert output.startswith("1770")
    assert "size=1024k" in output
    assert "noexec" in output


def test_the_root_can_be_read_only_while_mounts_are_not(launcher: Launcher) -> None:
    tmpfs = mount_entry("/tmp", "tmpfs")
    output = launcher.sh(
        "touch /no 2>/dev/null || echo ro; touch /tmp/yes && echo rw",
        root={"readonly": True},
        mounts=[*CONFIG["mounts"], tmpfs],
    )
    assert output.split() == ["ro", "rw"]


def test_a_single_layer_without_a_writable_one_is_shown_as_it_is(launcher: Launcher) -> None:
    busybox_rootfs(launcher.lower)
    rootfs = {"lowerdirs": [str(launcher.lower)], "upperdir": None, "workdir": None}
    assert "ro" in launcher.sh("touch /no 2>/dev/null || echo ro", rootfs=rootfs)
    two = {"lowerdirs": [str(launcher.top), str(launcher.lower)], "upperdir": None, "workdir": None}
    assert "ro" in launcher.sh("touch /no 2>/dev/null || echo ro", rootfs=two)


def test_the_higher_layer_wins_and_the_writable_one_holds_the_changes(launcher: Launcher) -> None:
    (launcher.lower / "which").write_text("lower")
    (launcher.top / "which").write_text("top")
    assert launcher.sh("cat /which; echo new > /made; rm /which") == "top"
    upper = launcher.base / "upper"
    assert (upper / "made").read_text() == "new\n"
    assert (upper / "which").is_char_device(), "a whiteout"


@pytest.mark.parametrize("count", [120, 300])
def test_old_kernels_overlay_by_mount_works_with_many_long_layers(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Docker allows 127 layers. 300 do not fit in a page by their full names in /proc."""
    monkeypatch.setattr(mounts, "overlay", lambda *_args, **_options: None)
    layers = []
    for number in range(count):
        layer = launcher.base / ("x" * 100 + str(number))
        layer.mkdir()
        (layer / f"from{number}").touch()
        layers.append(str(layer))
    rootfs = {**launcher.rootfs(), "lowerdirs": [*layers, str(launcher.busybox)]}
    assert launcher.sh("ls -d /from* | wc -l; touch /w && echo ok", rootfs=rootfs).split() == [str(count), "ok"]


@pytest.mark.parametrize("name", ["clone3", "fsopen", "open_tree", "move_mount", "mount_setattr", "openat2"])
def test_a_kernel_that_lacks_a_call_is_told(launcher: Launcher, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(NUMBERS, name, 100_000)
    with pytest.raises(LaunchError) as caught:
        launcher.start("true")
    assert caught.value.errno == errno.ENOSYS
    assert "Linux 5.12" in caught.value.hint
    assert launcher.cgroup.pids() == []


def test_the_user_and_groups_are_taken_on_for_good(launcher: Launcher) -> None:
    user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o077}
    capabilities = {"bounding": CAPABILITIES, "effective": [], "permitted": []}
    output = launcher.sh(
        "id -u; id -g; id -G; umask; grep ^CapEff /proc/self/status; echo hi > /dev/stdout; cat /etc/shadow0",
        process={"user": user, "capabilities": capabilities},
    )
    lines = output.splitlines()
    assert lines[:4] == ["1000", "1001", "1001 5 7", "0077"]
    assert lines[4].endswith("0" * 16)
    assert "hi" in lines


def test_ambient_capabilities_reach_a_user_that_is_not_root(launcher: Launcher) -> None:
    names = ["CAP_NET_BIND_SERVICE"]
    sets = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), names)
    output = launcher.sh("grep ^CapEff /proc/self/status", process={"user": {"uid": 1, "gid": 1}, "capabilities": sets})
    assert output.split()[1] == f"{1 << 10:016x}"


def test_resource_limits_are_set_or_clamped_with_a_warning(launcher: Launcher) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    rlimits = [
        {"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1 << 40},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    running = launcher.start("sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c", process={"rlimits": rlimits})
    assert running.wait() == 0
    soft, told_hard, core = running.output.split()
    assert (soft, core) == ("512", "0")
    if told_hard == str(hard):
        assert any("nofile" in warning for warning in running.warnings)


def test_sysctls_of_its_own_namespaces_are_set_and_others_refused(launcher: Launcher) -> None:
    sysctl = {"net.ipv4.ip_unprivileged_port_start": "0", "kernel.msgmax": "9000"}
    output = launcher.sh(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", linux={"sysctl": sysctl}
    )
    assert output.split() == ["0", "9000"]
    for name in ("kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern"):
        with pytest.raises(LaunchError) as caught:
            launcher.start("true", linux={"sysctl": {name: "x"}})
        assert caught.value.kind == "invalid"


def test_devices_asked_for_are_made(launcher: Launcher) -> None:
    device = {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o640, "uid": 3, "gid": 4}
    output = launcher.sh("stat -c '%a %u %g %t:%T' /dev/net/tun", linux={"devices": [device]})
    assert output.split() == ["640", "3", "4", "a:c8"]


def test_a_terminal_is_the_containers_own(launcher: Launcher) -> None:
    running = launcher.start(
        "sh", "-c", "tty; stty size < /dev/console; ps -o tty,args | tail -2; exit 4", process={"terminal": True}
    )
    assert running.console_fd is not None
    assert running.wait() == 4
    assert "/dev/pts/0" in running.output


def test_an_absent_command_is_code_127(launcher: Launcher) -> None:
    with pytest.raises(LaunchError, match='cannot start "foo": no such file in the image\'s PATH') as caught:
        launcher.start("foo")
    assert (caught.value.exit_code, caught.value.kind) == (127, "not_found")
    with pytest.raises(LaunchError, match="no such file in the image") as caught:
        launcher.start("/bin/foo")
    assert caught.value.exit_code == 127


def test_a_file_that_is_not_executable_is_code_126(launcher: Launcher) -> None:
    with pytest.raises(LaunchError) as caught:
        launcher.start("/etc/passwd")
    assert caught.value.exit_code == 126
    with pytest.raises(LaunchError) as caught:
        launcher.start("/etc")
    assert caught.value.exit_code == 126


def program(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


def test_what_is_wrong_with_a_program_is_explained(launcher: Launcher) -> None:
    aarch64 = bytearray((launcher.busybox / "bin" / "busybox").read_bytes()[:4096])
    aarch64[18:20] = (183).to_bytes(2, "little")
    program(launcher.top / "no-interpreter", b"#!/usr/bin/perl5\n")
    program(launcher.top / "windows", b"#!/bin/sh\r\necho hi\r\n")
    program(launcher.top / "text", b"just words\n")
    program(launcher.top / "foreign", bytes(aarch64))
    for name, message, code in (
        ("no-interpreter", 'interpreter "/usr/bin/perl5" is not in the image', 127),
        ("windows", "interpreter", 127),
        ("text", "neither a program nor a script", 126),
        ("foreign", "a program for aarch64", 126),
    ):
        with pytest.raises(LaunchError, match=message) as caught:
            launcher.start(f"/{name}")
        assert caught.value.exit_code == code
        assert caught.value.hint


def test_a_failed_start_leaves_no_process_and_no_mount(launcher: Launcher) -> None:
    before = _mounts_of(launcher)
    fds = len(os.listdir("/proc/self/fd"))
    children = _children()
    for _ in range(3):
        with pytest.raises(LaunchError):
            launcher.start("no-such-thing")
    assert launcher.cgroup.pids() == []
    assert _mounts_of(launcher) == before
    assert len(os.listdir("/proc/self/fd")) == fds
    assert _children() == children


def test_mounts_of_a_container_do_not_reach_the_host(launcher: Launcher) -> None:
    before = _mounts_of(launcher)
    running = launcher.start("sh", "-c", "echo up; sleep 60")
    running.read_until("up")
    assert _mounts_of(launcher) == before


def _mounts_of(launcher: Launcher) -> list[str]:
    """Mounts on this host that have to do with the container: others come and go meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(launcher.base) in line]


def _children() -> set[str]:
    """This process's children, zombies included."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[1]) == os.getpid():
            found.add(path.parent.name)
    return found


def test_our_own_reaper_forwards_signals_reaps_orphans_and_passes_the_code_on(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "find_static_init", lambda: None)
    script = "trap 'echo got; exit 5' USR1; (sleep 0.01 & echo orphan $!.); echo ready $$; while :; do sleep 0.05; done"
    running = launcher.start("sh", "-c", script, annotations={init.INIT_ANNOTATION: "1"})
    running.read_until("ready 2")
    orphan = running.output.partition("orphan ")[2].partition(".")[0]
    reaped = f"while [ -e /proc/{orphan} ]; do sleep 0.02; done"
    listing = launcher.enter(
        running, "sh", "-c", f"{reaped}; cat /proc/[0-9]*/status | grep -E '^(CapEff|Seccomp:)'; echo reaped"
    )
    listing.wait()
    assert "reaped" in listing.output
    assert set(listing.output.split("CapEff:\t")[1:][0].split()[:1]) == {"00000000a80425fb"}
    assert "Seccomp:\t0" not in listing.output, "the reaper is under the filter too"
    running.signal(signal.SIGUSR1)
    assert running.wait() == 5
    assert "got" in running.output


def test_a_static_init_of_the_host_becomes_process_one(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = launcher.base / "tini"
    program(stand_in, b'#!/bin/sh\nshift\n"$@"\n')
    monkeypatch.setattr(init, "find_static_init", lambda: str(stand_in))
    output = launcher.sh("echo $$; cat /proc/1/cmdline | tr '\\0' ' '", annotations={init.INIT_ANNOTATION: "1"})
    assert "/sbin/docker-init -- sh -c" in output
    assert output.split()[0] != "1"
    with pytest.raises(LaunchError) as caught:
        launcher.start("no-such-thing", annotations={init.INIT_ANNOTATION: "1"})
    assert caught.value.exit_code == 127


def test_namespaces_can_be_shared_with_another_container(launcher: Launcher) -> None:
    first = launcher.start("sleep", "60")
    joined = [
        {"type": "mount"},
        {"type": "pid", "path": f"/proc/{first.pid}/ns/pid"},
        {"type": "ipc", "path": f"/proc/{first.pid}/ns/ipc"},
        {"type": "uts", "path": f"/proc/{first.pid}/ns/uts"},
        {"type": "network", "path": f"/proc/{first.pid}/ns/net"},
    ]
    upper, work = launcher.base / "upper2", launcher.base / "work2"
    upper.mkdir()
    work.mkdir()
    rootfs = {**launcher.rootfs(), "upperdir": str(upper), "workdir": str(work)}
    output = launcher.sh("ps; readlink /proc/self/ns/net", linux={"namespaces": joined}, rootfs=rootfs)
    assert "sleep 60" in output
    assert os.readlink(f"/proc/{first.pid}/ns/net") in output
    assert os.readlink("/proc/self/ns/pid_for_children") == os.readlink("/proc/self/ns/pid"), "we are back home"


def test_the_network_namespace_given_is_used(launcher: Launcher) -> None:
    first = launcher.start("sleep", "60")
    netns_fd = os.open(f"/proc/{first.pid}/ns/net", os.O_RDONLY)
    first.signal(signal.SIGKILL)
    first.wait()
    try:
        output = launcher.sh("readlink /proc/self/ns/net; ls /sys/class/net", netns_fd=netns_fd)
        inode = os.fstat(netns_fd).st_ino
    finally:
        os.close(netns_fd)
    assert output.split() == [f"net:[{inode}]", "lo"]


def test_the_plan_describes_itself_before_anything_is_done(launcher: Launcher) -> None:
    what = init.plan(CONFIG, launcher.rootfs(), netns_fd=None, cgroup=launcher.cgroup)
    text = what.describe()
    assert "mount the root file system (3 layers)" in text
    assert text.index("mount proc on /proc") < text.index("change to the new root") < text.index("become user 0:0")


def test_code_of_the_image_is_never_imported(launcher: Launcher) -> None:
    # Were anything imported after the root has changed, these would run as root of the host.
    for name in ("encodings", "traceback", "linecache", "warnings", "json"):
        for folder in ("", "usr/lib/python3", "usr/lib/python3.11"):
            place = launcher.top / folder
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{name}.py").write_text("open('/owned', 'w').close()\n")
    with pytest.raises(LaunchError):
        launcher.start("missing", process={"cwd": "/"})
    launcher.run("true")
    assert not (launcher.base / "upper" / "owned").exists()


def test_on_v2_the_process_is_cloned_into_its_cgroup_and_sees_only_that() -> None:
    mount = Hierarchies.of_host().unified
    if mount is None:
        pytest.skip("no cgroup2 is mounted")
    launcher = Launcher(CgroupV2(f"umiak-test/v2-{os.getpid()}", mount))
    try:
        running = launcher.start("sh", "-c", "grep ^0:: /proc/self/cgroup; grep cgroup /proc/mounts; sleep 60")
        running.read_until("cgroup2")
        assert "0::/\n" in running.output
        assert "/sys/fs/cgroup cgroup2 ro," in running.output
        entered = launcher.enter(running, "sleep", "60")
        assert {running.pid, entered.pid} <= set(launcher.cgroup.pids())
        launcher.cgroup.kill()
        assert (entered.wait(), running.wait()) == (137, 137)
    finally:
        launcher.close()
    assert not launcher.cgroup.exists()


def test_without_descriptors_it_gets_the_hosts_null_device(launcher: Launcher) -> None:
    (launcher.top / "dev").mkdir()
    os.mkfifo(launcher.top / "dev" / "null")
    config = changed(CONFIG, {"process": {"args": ["sh", "-c", "readlink /proc/self/fd/1 > /told; cat"]}})
    config["mounts"] = [entry for entry in config["mounts"] if not entry["destination"].startswith("/dev")]
    launched = init.launch(
        config,
        launcher.rootfs(),
        rootfs_mountpoint=str(launcher.base / "mnt"),
        netns_fd=None,
        cgroup=launcher.cgroup,
        stdio=None,
    )
    assert process.wait_exit(launched.pidfd) == 0
    os.close(launched.pidfd)
