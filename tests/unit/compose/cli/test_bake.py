"""`build --print`: the same targets as `docker compose build --print` writes for the same services."""

from __future__ import annotations

import json

from compose.cli.bake import bake_file
from compose.plan import Build, BuildSecret
from engine.types import StepOptions, Ulimit


def test_each_build_is_a_target_with_what_it_sets() -> None:
    full = Build(
        service="web",
        reference="me/web:1",
        context="/src",
        args={"A": "b", "UNSET": None},
        labels={"b": "2", "a": "1"},
        tags=("me/web:2",),
        target="last",
        no_cache=True,
        contexts={"other": "/other", "base": "built-image://app-base"},
        needs=("base",),
        secrets={"key": BuildSecret("/key"), "word": BuildSecret(None, "secret")},
        ssh={"default": ""},
        options=StepOptions(
            network="host",
            extra_hosts=("h:1.2.3.4",),
            shm_size_bytes=1024,
            ulimits=(Ulimit("nofile", 10, 20), Ulimit("nproc", 5, 5)),
        ),
    )
    written = json.loads(bake_file([full, Build("base", "app-base", "/src", dockerfile_inline="FROM scratch\n")]))
    assert written["group"]["default"]["targets"] == ["base", "web"]
    assert written["target"]["base"] == {
        "context": "/src",
        "dockerfile-inline": "FROM scratch\n",
        "tags": ["app-base"],
        "output": ["type=docker"],
    }
    assert written["target"]["web"] == {
        "context": "/src",
        "contexts": {"other": "/other", "base": "target:base"},
        "dockerfile": "/src/Dockerfile",
        "args": {"A": "b"},
        "labels": {"a": "1", "b": "2"},
        "tags": ["me/web:2", "me/web:1"],
        "target": "last",
        "secret": ["id=key,type=file,src=/key", "id=word,type=env"],
        "ssh": ["default="],
        "no-cache": True,
        "network": "host",
        "shm-size": "1024",
        "ulimits": ["nofile=10:20", "nproc=5"],
        "extra-hosts": {"h": "1.2.3.4"},
        "output": ["type=docker"],
    }
