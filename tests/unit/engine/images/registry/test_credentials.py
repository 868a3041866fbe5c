from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.errors import InvalidInput, Unavailable
from engine.images.registry.auth import parse_challenges
from engine.images.registry.credentials import Credentials, CredentialStore
from engine.images.registry.login import registry_name
from engine.images.registry.repository import retry_after_s

HELPER = """#!/bin/sh
cd "$(dirname "$0")"
read -r server || true
case "$1" in
  get) [ "$server" = known ] && echo '{"ServerURL":"known","Username":"'"${NAME:-u}"'","Secret":"s"}' ||
       { echo "credentials not found in native keychain"; exit 1; } ;;
  store) echo "$server" > stored ;;
  erase) echo "$server" > erased ;;
esac
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CredentialStore:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return CredentialStore(str(tmp_path))


def write(store: CredentialStore, document: object) -> None:
    Path(store.path).write_text(json.dumps(document))


def get(store: CredentialStore, registry: str) -> tuple[Credentials | None, list[str]]:
    warnings: list[str] = []
    return store.get(registry, warnings.append), warnings


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("http://lan:5000/v2/", "lan:5000"),
    ],
)
def test_a_login_is_found_by_the_names_that_docker_used(store: CredentialStore, key: str, registry: str) -> None:
    write(store, {"auths": {key: {"auth": "dXNlcjpwYTpzcw=="}}})
    assert get(store, registry) == (Credentials("user", "pa:ss"), [])
    assert get(store, "other.example") == (None, [])


def test_no_file_means_nobody(store: CredentialStore) -> None:
    assert get(store, "docker.io") == (None, [])


def test_a_token_stands_for_a_password(store: CredentialStore) -> None:
    write(store, {"auths": {"a": {"auth": "", "identitytoken": "t"}}})
    assert get(store, "a")[0] == Credentials(identity_token="t")


def test_helpers_are_asked_by_registry_or_for_all(store: CredentialStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, {"credHelpers": {"known": "test"}})
    assert get(store, "known") == (Credentials("u", "s"), [])
    write(store, {"credsStore": "test"})
    assert get(store, "known") == (Credentials("u", "s"), [])
    assert get(store, "unknown") == (None, [])
    monkeypatch.setenv("NAME", "<token>")
    assert get(store, "known")[0] == Credentials(identity_token="s")


def test_a_missing_helper_is_warned_of_and_nobody_logs_in(store: CredentialStore) -> None:
    write(store, {"credsStore": "missing"})
    found, warnings = get(store, "docker.io")
    assert found is None
    assert "docker-credential-missing is not installed; going on without a login" in warnings[0]
    with pytest.raises(Unavailable, match="not installed"):
        store.put("docker.io", Credentials("u", "p"))


def test_a_helper_keeps_the_secret_and_the_file_only_the_registry(store: CredentialStore, tmp_path: Path) -> None:
    write(store, {"credsStore": "test"})
    assert store.put("lan", Credentials("u", "p")) == "docker-credential-test"
    assert json.loads((tmp_path / "stored").read_text()) == {"ServerURL": "lan", "Username": "u", "Secret": "p"}
    assert json.loads(Path(store.path).read_text())["auths"] == {"lan": {}}
    assert store.remove("lan")
    assert (tmp_path / "erased").read_text() == "lan\n"


def test_a_login_keeps_the_rest_of_the_file(store: CredentialStore) -> None:
    write(store, {"HttpHeaders": {"A": "b"}, "auths": {"x": {"auth": "eDp5"}}})
    store.put("docker.io", Credentials("u", "p"))
    document = json.loads(Path(store.path).read_text())
    assert document["HttpHeaders"] == {"A": "b"}
    assert set(document["auths"]) == {"x", "https://index.docker.io/v1/"}
    assert os.stat(store.path).st_mode & 0o777 == 0o600
    assert get(store, "docker.io")[0] == Credentials("u", "p")
    assert store.remove("docker.io")
    assert set(json.loads(Path(store.path).read_text())["auths"]) == {"x"}


@pytest.mark.parametrize(
    "text", ["not json", "[]", '{"auths": [1]}', '{"auths": {"a": {"auth": "%%"}}}', '{"credsStore": "../../bin/sh"}']
)
def test_a_broken_file_is_told(store: CredentialStore, text: str) -> None:
    Path(store.path).write_text(text)
    with pytest.raises(InvalidInput):
        store.get("a", lambda _: None)


def test_secrets_do_not_show_in_tracebacks() -> None:
    assert "secret" not in repr(Credentials("u", "secret"))


def test_challenges_are_read() -> None:
    header = 'Bearer realm="https://a/token?x=1,2",service="s",scope="repository:a/b:pull,push", Basic realm="q\\"q"'
    assert parse_challenges(header) == [
        ("Bearer", {"realm": "https://a/token?x=1,2", "service": "s", "scope": "repository:a/b:pull,push"}),
        ("Basic", {"realm": 'q"q'}),
    ]
    assert parse_challenges("Negotiate") == []
    assert parse_challenges("=" * 100_000) == []


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("GHCR.io", "ghcr.io"),
        ("http://lan:5000/", "lan:5000"),
        ("localhost", "localhost"),
    ],
)
def test_how_people_name_registries(typed: str, name: str) -> None:
    assert registry_name(typed) == name


@pytest.mark.parametrize("typed", ["a b", "library", "user@host", "-x.example"])
def test_what_is_no_registry(typed: str) -> None:
    with pytest.raises(InvalidInput, match="registry"):
        registry_name(typed)


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after_s("17") == 17.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert (retry_after_s("Fri, 21 Oct 2095 07:28:00 GMT") or 0) > 1e9
    assert [retry_after_s(text) for text in (None, "", "soon", "-3")] == [None] * 4
