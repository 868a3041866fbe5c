from __future__ import annotations

from collections import Counter

import pytest

from tests import apart, parallel

MOUNTINFO = """\
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def test_hierarchies_are_mounted_again_with_the_same_controllers() -> None:
    assert [found.mount_again().partition("&& ")[2] for found in apart.hierarchies(MOUNTINFO)] == [
        "mount -t cgroup -o cpu,cpuacct cgroup /sys/fs/cgroup/cpu,cpuacct",
        "mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd",
        "mount -t cgroup2 cgroup /sys/fs/cgroup/unified",
    ]


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        (
            "=== 2 failed, 10 passed, 5 skipped, 1 warning in 83.50s (0:01:23) ===",
            {"failed": 2, "passed": 10, "skipped": 5},
        ),
        ("======== 1 passed, 2 errors in 0.50s ========", {"passed": 1, "error": 2}),
    ],
)
def test_the_closing_line_of_a_part_is_counted(line: str, counted: dict[str, int]) -> None:
    closing = parallel.CLOSING.match(line)
    assert closing
    found = parallel.counts(closing[1])
    assert {word: found[word] for word in parallel.WORDS if found[word]} == counted


def test_the_last_line_is_as_pytest_would_have_written_it() -> None:
    line = parallel.closing_line(Counter(passed=12, skipped=1), 3723.4)
    assert line.strip("=") == " 12 passed, 1 skipped in 3723.40s (1:02:03) "
    assert parallel.CLOSING.match(line)
