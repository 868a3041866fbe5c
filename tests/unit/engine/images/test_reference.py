from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.images.reference import Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("redis", "docker.io/library/redis:latest", "redis:latest"),
        ("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim", "debian:bookworm-slim"),
        ("library/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("docker.io/library/redis:7", "docker.io/library/redis:7", "redis:7"),
        ("index.docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("user/app:1", "docker.io/user/app:1", "user/app:1"),
        ("ghcr.io/a/b", "ghcr.io/a/b:latest", "ghcr.io/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("registry:5000/app", "registry:5000/app:latest", "registry:5000/app:latest"),
        ("[::1]:5000/app:2", "[::1]:5000/app:2", "[::1]:5000/app:2"),
        (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}", f"redis@{DIGEST}"),
        (f"redis:7@{DIGEST}", f"docker.io/library/redis:7@{DIGEST}", f"redis:7@{DIGEST}"),
    ],
)
def test_a_reference_follows_docker_hubs_rules(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar == familiar


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        ":1",
        "a b",
        "a//b",
        "/a",
        "a/",
        "Foo",
        "a@sha256:12",
        "a@md5:x",
        "../a",
        "a:b:c/",
        "a" * 300,
        "a:.x",
        "a\n",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="as an image reference"):
        Reference.parse(text)


def test_a_name_in_capitals_is_told_how_to_write_it() -> None:
    with pytest.raises(InvalidInput) as caught:
        Reference.parse("MyApp:1.0")
    assert caught.value.hint == "write it in lower case: myapp:1.0"


@given(st.text(max_size=40))
def test_parsing_either_refuses_or_reaches_a_fixed_point(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidInput:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
