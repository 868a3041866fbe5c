"""Log in to a registry and out again: the credentials are tried first, and kept where Docker keeps them."""

from __future__ import annotations

from collections.abc import Callable

from engine.errors import Denied, InvalidInput
from engine.images.reference import DEFAULT_REGISTRY, Reference
from engine.images.registry.auth import Authenticator
from engine.images.registry.credentials import Credentials, CredentialStore
from engine.images.registry.endpoints import endpoint
from engine.images.registry.repository import Connection, Repository
from engine.images.registry.settings import Settings, load_settings


def login(
    registry: str,
    username: str,
    password: str,
    *,
    settings: Settings | None = None,
    credentials: CredentialStore | None = None,
    warn: Callable[[str], None] = lambda _message: None,
) -> str:
    """Try a name and password, keep them where the registry takes them, and return where they are kept.

    Raise Denied where it does not take them.
    """
    name = registry_name(registry)
    if not username or ":" in username:
        raise InvalidInput(f"cannot log in as {username!r}", hint="a user name is not empty and has no ':'")
    found = Credentials(username, password)
    connection = Connection(settings or load_settings(), warn, credentials=credentials)
    try:
        place = endpoint(name, connection.settings)
        auth = Authenticator(name, connection.transport, lambda: found)
        repository = Repository(connection, place, "", auth=auth)
        repository.open()
        repository.check_login()
    except Denied as error:
        error.hint = "check the name and the password; some registries want an access token in its place"
        raise
    finally:
        connection.close()
    return connection.credentials.put(name, found)


def logout(registry: str, *, credentials: CredentialStore | None = None) -> bool:
    """Forget the login to a registry; tell whether there was one."""
    return (credentials or CredentialStore()).remove(registry_name(registry))


def registry_name(text: str) -> str:
    """What people type for a registry, as references name it: "" and Docker's old address are `docker.io`."""
    host = text.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    if host in ("", "index.docker.io", "registry-1.docker.io", DEFAULT_REGISTRY):
        return DEFAULT_REGISTRY
    try:
        parsed = Reference.parse(f"{host}/x")
    except InvalidInput:
        parsed = None
    if parsed is None or parsed.registry != host:
        raise InvalidInput(f"cannot read {text!r} as a registry", hint="write its host, and :port where it has one")
    return host
