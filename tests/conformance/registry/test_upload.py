"""Pushing to a registry that breaks: what has arrived is not sent again, and credentials go nowhere else."""

from __future__ import annotations

import io
import os
import re
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.errors import Denied, InvalidInput, Unavailable
from engine.images.registry.push import push
from tests.conformance.registry.conftest import Client
from tests.conformance.registry.fake import FakeRegistry, Handler, layer_tar, sha256


class Uploads:
    """The upload half of a registry; breaks the first PATCH after `breaks_after` bytes."""

    def __init__(self, registry: FakeRegistry, breaks_after: int | None = None) -> None:
        self.registry = registry
        self.breaks_after = breaks_after
        self.parts: dict[str, bytearray] = {}
        registry.hooks.append(self)

    def __call__(self, handler: Handler) -> bool:
        path = urlsplit(handler.path).path
        if path.endswith("/blobs/uploads/") and handler.command == "POST":
            name = str(len(self.parts))
            self.parts[name] = bytearray()
            handler.reply(202, Location=f"/v2/app/blobs/uploads/{name}?state=x")
        elif match := re.fullmatch(r"/v2/app/blobs/uploads/(\d+)", path):
            self.upload(handler, match[1])
        elif "/manifests/" in path and handler.command == "PUT":
            data = handler.body()
            self.registry.manifests["app", path.rpartition("/")[2]] = data, handler.headers["Content-Type"]
            handler.reply(201)
        else:
            return False
        return True

    def upload(self, handler: Handler, name: str) -> None:
        part = self.parts[name]
        if handler.command == "PATCH" and self.breaks_after is not None:
            part += handler.rfile.read(self.breaks_after)
            self.breaks_after = None
            handler.drop()
        elif handler.command == "PATCH":
            start = int(handler.headers.get("Content-Range", "0-").partition("-")[0])
            assert start == len(part)
            part += handler.body()
            handler.reply(202, Location=f"/v2/app/blobs/uploads/{name}?state=y")
        elif handler.command == "GET":
            handler.reply(204, Location=f"/v2/app/blobs/uploads/{name}?state=z", Range=f"0-{len(part) - 1}")
        else:
            part += handler.body()
            digest = parse_qs(urlsplit(handler.path).query)["digest"][0]
            if sha256(bytes(part)) != digest:
                handler.error(400, "DIGEST_INVALID", "wrong digest")
                return
            self.registry.blobs[digest] = bytes(part)
            handler.reply(201)


def make_image(client: Client, reference: str, size: int = 3_000_000) -> None:
    layer = client.store.add_layer(io.BytesIO(layer_tar("big", os.urandom(size))))
    client.store.add_image({}, [layer], [reference])


def send(client: Client, reference: str) -> str:
    return push(
        client.store,
        reference,
        settings=client.settings,
        credentials=client.credentials,
        progress=client.told.append,
    ).digest


def test_a_broken_upload_goes_on_where_it_ended(client: Client, registry: FakeRegistry) -> None:
    uploads = Uploads(registry, breaks_after=1_000_000)
    make_image(client, f"{registry.host}/app:1")
    send(client, f"{registry.host}/app:1")
    first, second = registry.asked("PATCH", "uploads")
    assert second["Content-Range"].startswith("1000000-")
    assert int(second["Content-Length"]) == int(first["Content-Length"]) - 1_000_000
    assert len(uploads.parts) == 2  # the layer's, and that of the configuration
    client.store.remove(f"{registry.host}/app:1")
    assert client.pull(f"{registry.host}/app:1")


def test_a_registry_that_has_lost_the_upload_gets_it_anew(client: Client, registry: FakeRegistry) -> None:
    Uploads(registry, breaks_after=1_000_000)

    def lost(handler: Handler) -> bool:
        if handler.command == "GET" and "/uploads/" in handler.path:
            handler.error(404, "BLOB_UPLOAD_UNKNOWN")
            return True
        return False

    registry.hooks.insert(0, lost)
    make_image(client, f"{registry.host}/app:1")
    send(client, f"{registry.host}/app:1")
    assert "Content-Range" not in registry.asked("PATCH", "uploads")[1]


def test_a_server_error_while_pushing_is_tried_again_and_told_in_the_end(
    client: Client, registry: FakeRegistry
) -> None:
    Uploads(registry)
    failures = [503, 502]

    def failing(handler: Handler) -> bool:
        if handler.command in ("PUT", "PATCH") and failures:
            handler.body()
            handler.error(failures.pop(), "UNAVAILABLE")
            return True
        return False

    registry.hooks.insert(0, failing)
    make_image(client, f"{registry.host}/app:1")
    send(client, f"{registry.host}/app:1")
    failures += [500] * 99
    make_image(client, f"{registry.host}/app:2")
    with pytest.raises(Unavailable, match="answered 500"):
        send(client, f"{registry.host}/app:2")


def test_a_registry_that_stops_reading_is_given_up_and_asked_again(client: Client, registry: FakeRegistry) -> None:
    Uploads(registry)
    stalled, over = threading.Event(), threading.Event()

    def stalls(handler: Handler) -> bool:
        if handler.command != "PATCH" or stalled.is_set():
            return False
        stalled.set()
        over.wait()
        handler.drop()
        return True

    registry.hooks.insert(0, stalls)
    client.set(timeout_s=0.5)
    make_image(client, f"{registry.host}/app:1", 16 << 20)
    send(client, f"{registry.host}/app:1")
    over.set()
    assert len(registry.asked("PATCH", "uploads")) == 2


def test_an_upload_to_another_host_carries_no_login(client: Client, registry: FakeRegistry) -> None:
    elsewhere = FakeRegistry()
    Uploads(registry)
    uploads = Uploads(elsewhere)

    def lead_away(handler: Handler) -> bool:
        if handler.headers.get("Authorization") != "Basic dTpw":
            handler.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
            return True
        if handler.command == "POST":
            uploads.parts["7"] = bytearray()
            handler.reply(202, Location=f"http://localhost:{elsewhere.port}/v2/app/blobs/uploads/7")
            return True
        return False

    registry.hooks.insert(0, lead_away)
    os.makedirs(os.path.dirname(client.credentials.path))
    with open(client.credentials.path, "w") as file:
        file.write(f'{{"auths": {{"{registry.host}": {{"auth": "dTpw"}}}}}}')
    make_image(client, f"{registry.host}/app:1")
    send(client, f"{registry.host}/app:1")
    assert elsewhere.requests
    assert not any("Authorization" in headers for _, _, headers in elsewhere.requests)
    elsewhere.close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_push_that_is_not_allowed_is_told(client: Client, registry: FakeRegistry, status: int) -> None:
    registry.hooks.append(lambda handler: handler.command == "POST" and not handler.error(status, "DENIED", "no"))
    make_image(client, f"{registry.host}/app:1", 10)
    with pytest.raises(Denied, match=f"cannot push {registry.host}/app:1"):
        send(client, f"{registry.host}/app:1")


def test_a_push_needs_a_tag(client: Client, registry: FakeRegistry) -> None:
    with pytest.raises(InvalidInput, match="needs a tag"):
        send(client, f"{registry.host}/app@sha256:{'0' * 64}")
