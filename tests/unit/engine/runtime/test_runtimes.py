"""Which runtimes there are, and what a bundle for another one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InvalidInput, NotFound
from engine.runtime import external, runtimes, steps
from engine.runtime.steps import LaunchError


def test_our_own_runtime_has_no_program() -> None:
    assert (runtimes.program_of(None), runtimes.program_of("umiak")) == ("", "")


def test_an_unknown_runtime_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match='unknown runtime "gvisor"') as caught:
        runtimes.program_of("gvisor")
    assert caught.value.hint == "known: umiak, crun, runc"


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtimes, "_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="no program crun"):
        runtimes.program_of("crun")
    (tmp_path / "crun").write_text("#!/bin/sh\n")
    (tmp_path / "crun").chmod(0o755)
    assert runtimes.program_of("crun") == f"{tmp_path}/crun"


def test_a_bundle_for_another_runtime_has_nothing_of_ours() -> None:
    process = {
        "args": ["true"],
        "capabilities": {"bounding": []},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    }
    mounts = [{"destination": "/d", "type": "bind", "source": "/s", "options": ["rbind", "nocopy", "ro"]}]
    linux = {"seccomp": {"umiakProfile": "default"}, "cgroupsPath": "/x/y"}
    config = {"process": process, "mounts": mounts, "linux": linux, "domainname": ""}
    made = external.materialised(config, "/run/c/rootfs", "umiak/c", steps.SetRlimits(process["rlimits"]))
    assert (made["root"], made["linux"]["cgroupsPath"]) == ({"path": "/run/c/rootfs"}, "/umiak/c")
    assert made["mounts"][0]["options"] == ["rbind", "ro"]
    assert "domainname" not in made
    seccomp = made["linux"]["seccomp"]
    assert seccomp["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not any("includes" in rule or "excludes" in rule for rule in seccomp["syscalls"])
    assert made["process"]["rlimits"] == [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]


def test_init_needs_a_program_that_runs_in_any_image(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"process": {"args": ["true"]}, "annotations": {"io.umiak.init": "1"}, "mounts": []}
    monkeypatch.setattr(external.init, "find_static_init", lambda: None)
    with pytest.raises(LaunchError, match="no static init"):
        external.materialised(config, "/r", "umiak/c", steps.SetRlimits(()))
    monkeypatch.setattr(external.init, "find_static_init", lambda: "/usr/bin/tini-static")
    made = external.materialised(config, "/r", "umiak/c", steps.SetRlimits(()))
    assert made["process"]["args"] == ["/sbin/docker-init", "--", "true"]
    assert made["mounts"][0]["source"] == "/usr/bin/tini-static"
