"""`system df` has Docker's tables and counts what is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.stack import Stack, json_values

# The headings that `docker system df [-v]` printed.
SUMMARY = "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE"
DETAILS = {
    "Images space usage:": "REPOSITORY TAG IMAGE ID CREATED SIZE SHARED SIZE UNIQUE SIZE CONTAINERS",
    "Containers space usage:": "CONTAINER ID IMAGE COMMAND LOCAL VOLUMES SIZE CREATED STATUS NAMES",
    "Local Volumes space usage:": "VOLUME NAME LINKS SIZE",
    "Build cache usage:": "CACHE ID CACHE TYPE SIZE CREATED LAST USED USAGE SHARED",
}


def summary(stack: Stack) -> dict[str, dict[str, str]]:
    """The rows by type."""
    return {row["Type"]: row for row in json_values(stack.umiak("system", "df", "--format", "json").stdout)}


def details(stack: Stack) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(stack.umiak("system", "df", "-v", "--format", "json").stdout)
    return found


def test_the_tables_are_dockers(stack: Stack) -> None:
    stack.up()
    printed = stack.umiak("system", "df").stdout.splitlines()
    assert printed[0].split() == SUMMARY.split()
    assert [line.split("  ")[0] for line in printed[1:]] == ["Images", "Containers", "Local Volumes", "Build Cache"]
    lines = stack.umiak("system", "df", "-v").stdout.splitlines()
    for title, headings in DETAILS.items():
        (index,) = (number for number, line in enumerate(lines) if line.startswith(title))
        assert lines[index + 1] == ""
        assert lines[index + 2].split() == headings.split()


def test_it_counts_what_is_used_and_what_is_shared(stack: Stack) -> None:
    before = {kind: int(row["TotalCount"]) for kind, row in summary(stack).items()}
    stack.up()
    stack.umiak("build", "built")
    stack.sh("web", "head -c 50000 /dev/zero > /data/file; head -c 70000 /dev/zero > /file")
    rows = summary(stack)
    added = {kind: int(row["TotalCount"]) - before[kind] for kind, row in rows.items()}
    assert added | {"Build Cache": 0} == {"Images": 1, "Containers": 1, "Local Volumes": 1, "Build Cache": 0}
    assert (rows["Containers"]["Active"], rows["Local Volumes"]["Active"]) == ("1", "1")

    found = details(stack)
    images = {f"{row['Repository']}:{row['Tag']}": row for row in found["Images"]}
    base, built = images["busybox:latest"], images["local/disk-usage:latest"]
    assert (base["Containers"], base["UniqueSize"]) == ("1", "0B")
    assert (built["Containers"], built["SharedSize"]) == ("0", base["SharedSize"])
    assert 100_000 <= size(built["UniqueSize"]) < 110_000
    (container,) = (row for row in found["Containers"] if row["Names"] == "disk_usage-web-1")
    assert container["LocalVolumes"] == "1"
    assert 70_000 <= size(container["Size"]) < 100_000
    (volume,) = (row for row in found["Volumes"] if row["Name"] == "disk_usage_data")
    assert volume["Links"] == "1"
    assert 50_000 <= size(volume["Size"]) < 70_000

    caches = [row for row in found["BuildCache"] if row["CacheType"] == "exec.cachemount"]
    assert any(100_000 <= size(row["Size"]) < 120_000 for row in caches)

    stack.umiak("stop", "-t", "0")
    assert summary(stack)["Containers"]["Active"] == "0"
    assert "(100%)" in summary(stack)["Containers"]["Reclaimable"]
    stack.umiak("image", "rm", "local/disk-usage")


@pytest.mark.umiak("the client for Docker is another command")
def test_the_build_cache_is_pruned_when_somebody_says_yes(stack: Stack) -> None:
    prune = ("builder", "prune", "--filter", "until=8760h")
    assert stack.umiak(*prune, stdin="y\n").stdout == "Total reclaimed space: 0B\n"
    stack.umiak(*prune, stdin="n\n", exit_code=1)
    assert "use --force" in stack.umiak(*prune, exit_code=1).stderr
    assert (
        "cannot prune the build cache by 'label=x'"
        in stack.umiak("builder", "prune", "-f", "--filter", "label=x", exit_code=1).stderr
    )


def size(text: str) -> float:
    """Bytes in a size such as `104.9kB`."""
    for unit, factor in (("kB", 1e3), ("MB", 1e6), ("B", 1.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise AssertionError(text)
