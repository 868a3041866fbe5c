"""What a container may do, read from its own first process."""

from __future__ import annotations

from tests.stack import Stack

DOCKER_DEFAULT = 0x00000000A80425FB
CAP_NET_ADMIN = 1 << 12
CAP_SYS_ADMIN = 1 << 21


def proc_status(stack: Stack, service: str) -> dict[str, str]:
    lines = stack.sh(service, "cat /proc/1/status").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_a_plain_container_has_dockers_capabilities_and_filter(stack: Stack) -> None:
    stack.up()
    status = proc_status(stack, "plain")
    assert int(status["CapBnd"], 16) == DOCKER_DEFAULT
    assert int(status["CapEff"], 16) == DOCKER_DEFAULT
    assert status["Seccomp"] == "2"


def test_capabilities_are_dropped_and_added_as_asked(stack: Stack) -> None:
    stack.up()
    bare = proc_status(stack, "bare")
    assert int(bare["CapEff"], 16) == int(bare["CapBnd"], 16) == 0
    assert bare["NoNewPrivs"] == "1"
    assert bare["Uid"].split()[0] == bare["Gid"].split()[0] == "1000"
    assert int(proc_status(stack, "netadmin")["CapEff"], 16) == DOCKER_DEFAULT | CAP_NET_ADMIN
    mighty = proc_status(stack, "mighty")
    assert int(mighty["CapEff"], 16) & CAP_SYS_ADMIN
    assert mighty["Seccomp"] == "0"


def test_kernel_interfaces_are_masked_or_read_only(stack: Stack) -> None:
    stack.up()
    assert stack.sh("plain", "cat /proc/kcore | wc -c") == "0"
    assert stack.sh("plain", "ls /sys/firmware") == ""
    for path in ("/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"):
        assert stack.exec("plain", "sh", "-c", f"echo x > {path}", exit_code=None).returncode != 0, path
    assert stack.exec("plain", "mount", "-t", "tmpfs", "none", "/mnt", exit_code=None).returncode != 0
    assert stack.exec("plain", "sh", "-c", "ls /dev/mem /dev/vda /dev/sda", exit_code=None).stdout == ""


def test_namespaces_are_the_containers_own(stack: Stack) -> None:
    stack.up()
    for kind in ("pid", "net", "ipc", "mnt", "uts", "cgroup"):
        inside = stack.sh("plain", f"readlink /proc/1/ns/{kind}")
        assert inside != (stack.host.namespace(kind)), kind
        assert inside != stack.sh("bare", f"readlink /proc/1/ns/{kind}"), kind
