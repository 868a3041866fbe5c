"""Registries that break, lie, stall and lead elsewhere: a clear error or another attempt, and never half an image."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import Denied, InvalidInput, NotFound, TimedOut, Unavailable, Unsupported
from engine.images.registry.settings import HostSettings
from tests.conformance.registry.conftest import Client
from tests.conformance.registry.fake import INDEX, MANIFEST, OCI, FakeRegistry, Handler, Hook, layer_tar, packed, sha256

BIG = layer_tar("big", os.urandom(3_000_000))
BIG_BLOB = sha256(packed(BIG))


def on(pattern: str, act: Callable[[Handler], object], times: int = 1) -> Hook:
    """Do something else for the first `times` requests whose path has the pattern."""
    left = [times]
    lock = threading.Lock()

    def hook(handler: Handler) -> bool:
        with lock:
            if pattern not in handler.path or left[0] <= 0:
                return False
            left[0] -= 1
        act(handler)
        return True

    return hook


def cut_after(registry: FakeRegistry, size: int) -> Callable[[Handler], None]:
    """Answer with a blob, but end the connection after some bytes of it."""

    def act(handler: Handler) -> None:
        data = registry.blobs[handler.path.rpartition("/")[2]]
        start = int(handler.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        handler.reply(206 if start else 200, data[start : start + size], length=len(data) - start, **headers)
        handler.drop()

    return act


# ------------------------------------------------------------------------------------ broken connections


def test_a_broken_download_goes_on_with_the_next_byte(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(BIG)
    registry.hooks.append(on(BIG_BLOB, cut_after(registry, 1_000_000), 2))
    image = client.pull(f"{registry.host}/app:1")
    ranges = [headers.get("Range") for headers in registry.asked("GET", BIG_BLOB)]
    assert ranges == [None, "bytes=1000000-", "bytes=2000000-"]
    assert (Path(client.store.layer_dirs(image)[0]) / "big").stat().st_size == 3_000_000
    assert "retrying" in client.states()


def test_a_registry_that_knows_no_ranges_is_read_again_from_the_start(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(BIG)
    digest = BIG_BLOB
    registry.hooks.append(on(digest, cut_after(registry, 1_000_000)))
    registry.hooks.append(on(digest, lambda handler: handler.reply(200, registry.blobs[digest]), 9))
    client.pull(f"{registry.host}/app:1")
    assert len(registry.asked("GET", digest)) == 2


def test_one_that_always_breaks_is_an_error_and_what_came_is_kept_for_the_next_pull(
    client: Client, registry: FakeRegistry
) -> None:
    registry.add_image(BIG)
    digest = BIG_BLOB
    registry.hooks.append(on(digest, cut_after(registry, 1_000_000)))
    registry.hooks.append(on(digest, lambda handler: handler.drop(), 99))
    with pytest.raises(Unavailable, match=f"cannot pull {registry.host}/app:1: the connection to .* broke"):
        client.pull(f"{registry.host}/app:1")
    assert client.leftovers() == []
    assert client.unfinished() == [digest[7:]]
    registry.hooks.clear()
    registry.requests.clear()
    client.pull(f"{registry.host}/app:1")
    assert [headers.get("Range") for headers in registry.asked("GET", digest)] == ["bytes=1000000-"]
    assert client.unfinished() == []


def test_a_range_from_another_place_is_refused(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(BIG)
    digest = BIG_BLOB
    registry.hooks.append(on(digest, cut_after(registry, 1_000_000)))
    registry.hooks.append(
        on(digest, lambda h: h.reply(206, b"x" * 100, Content_Range=f"bytes 5-104/{len(registry.blobs[digest])}"), 99)
    )
    with pytest.raises(InvalidInput, match="another place"):
        client.pull(f"{registry.host}/app:1")
    assert client.leftovers() == []


def test_a_stall_is_noticed_and_tried_again(client: Client, registry: FakeRegistry) -> None:
    registry.add_image()
    ended = threading.Event()
    registry.hooks.append(on("/blobs/", lambda _: ended.wait(5), 2))
    begun = time.monotonic()
    client.pull(f"{registry.host}/app:1")
    ended.set()
    assert 1.0 <= time.monotonic() - begun < 5.0


def test_one_that_only_stalls_is_a_timeout(client: Client, registry: FakeRegistry) -> None:
    registry.add_image()
    client.set(timeout_s=0.2)
    ended = threading.Event()
    registry.hooks.append(on("/manifests/", lambda _: ended.wait(9), 99))
    with pytest.raises(TimedOut, match="stopped answering"):
        client.pull(f"{registry.host}/app:1")
    ended.set()


def test_a_trickle_counts_as_a_stall(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(BIG)
    client.set(timeout_s=1.0, attempts=2)

    def trickle(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(packed(BIG))))
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"\x1f")
            time.sleep(0.1)

    registry.hooks.append(on(BIG_BLOB, trickle, 99))
    begun = time.monotonic()
    with pytest.raises(TimedOut, match="hardly sends"):
        client.pull(f"{registry.host}/app:1")
    assert time.monotonic() - begun < 9


def test_a_pull_can_be_given_up_while_it_waits_for_bytes(client: Client, registry: FakeRegistry) -> None:
    registry.add_image()
    client.set(timeout_s=30.0)
    reached, ended = threading.Event(), threading.Event()

    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(packed(layer_tar()))))
        handler.end_headers()
        handler.wfile.flush()
        reached.set()
        ended.wait(10)

    registry.hooks.append(on(sha256(packed(layer_tar())), stall, 99))
    cancels: list[Callable[[], None]] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            client.pull(f"{registry.host}/app:1", on_cancel=cancels.append)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert reached.wait(5)
    time.sleep(0.2)
    cancels[0]()
    thread.join(3)
    ended.set()
    assert not thread.is_alive()
    assert "given up" in str(failures[0])


# --------------------------------------------------------------------------------------- error statuses


def test_a_500_is_tried_again(client: Client, registry: FakeRegistry) -> None:
    registry.add_image()
    registry.hooks.append(on("/manifests/", lambda handler: handler.error(500, "UNKNOWN", "oops"), 2))
    registry.hooks.append(on("/blobs/", lambda handler: handler.error(503, "UNAVAILABLE"), 2))
    client.pull(f"{registry.host}/app:1")


def test_one_that_answers_500_for_ever_is_an_error_with_its_words(client: Client, registry: FakeRegistry) -> None:
    registry.hooks.append(on("/manifests/", lambda handler: handler.error(500, "UNKNOWN", "disk on fire"), 99))
    with pytest.raises(Unavailable, match=f"{registry.host} answered 500: disk on fire"):
        client.pull(f"{registry.host}/app:1")
    assert len(registry.asked("GET", "/manifests/")) == 4


def test_a_429_is_obeyed(client: Client, registry: FakeRegistry) -> None:
    registry.add_image()
    registry.hooks.append(on("/manifests/", lambda h: h.error(429, "TOOMANYREQUESTS", Retry_After="1")))
    begun = time.monotonic()
    client.pull(f"{registry.host}/app:1")
    assert time.monotonic() - begun >= 1.0
    assert any("429" in transfer.message and "1.0 s" in transfer.message for transfer in client.told)


def test_a_429_that_asks_for_too_much_patience_is_an_error(client: Client, registry: FakeRegistry) -> None:
    registry.hooks.append(on("/manifests/", lambda h: h.error(429, "TOOMANYREQUESTS", "slow down", Retry_After="900")))
    with pytest.raises(Unavailable, match="limits how often") as caught:
        client.pull(f"{registry.host}/app:1")
    assert "umiak login" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("status", "code", "kind", "told"),
    [
        (401, "UNAUTHORIZED", Denied, "wants a login"),
        (403, "DENIED", Denied, "denies access to app"),
        (404, "NAME_UNKNOWN", NotFound, "no repository app"),
        (404, "MANIFEST_UNKNOWN", NotFound, "no such image"),
        (418, "TEAPOT", Unavailable, "answered 418"),
    ],
)
def test_a_refusal_is_told_at_once_with_a_hint(
    client: Client, registry: FakeRegistry, status: int, code: str, kind: type[Exception], told: str
) -> None:
    registry.hooks.append(on("/manifests/", lambda handler: handler.error(status, code), 99))
    with pytest.raises(kind, match=told) as caught:
        client.pull(f"{registry.host}/app:1")
    assert getattr(caught.value, "hint", None)
    assert len(registry.asked("GET", "/manifests/")) == 1


def test_what_is_no_registry_is_told(client: Client, registry: FakeRegistry) -> None:
    registry.hooks.append(on("/v2/", lambda handler: handler.reply(404, b"<html>not here</html>"), 99))
    with pytest.raises(NotFound):
        client.pull(f"{registry.host}/app:1")


def test_nobody_listening_is_told_at_once(client: Client) -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 cannot be reached: .*refused") as caught:
        client.pull("127.0.0.1:1/app:1")
    assert "bootstrap" in str(caught.value.hint)
    assert time.monotonic() - begun < 1.0


# ------------------------------------------------------------------------------------------ wrong content


def test_a_layer_with_another_content_is_refused(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(BIG)
    digest = BIG_BLOB
    data = bytearray(registry.blobs[digest])
    data[1_000_000] ^= 1
    registry.blobs[digest] = bytes(data)
    with pytest.raises(InvalidInput):
        client.pull(f"{registry.host}/app:1")
    assert client.leftovers() == []
    assert client.unfinished() == []


@pytest.mark.parametrize("change", [lambda data: data[:-10], lambda data: data + b"\0" * 10])
def test_a_layer_of_another_size_is_refused(
    client: Client, registry: FakeRegistry, change: Callable[[bytes], bytes]
) -> None:
    registry.add_image(BIG)
    digest = BIG_BLOB
    registry.blobs[digest] = change(registry.blobs[digest])
    with pytest.raises(InvalidInput, match="bytes instead of"):
        client.pull(f"{registry.host}/app:1")
    assert client.leftovers() == []


def test_an_endless_layer_is_cut_where_its_announced_size_ends(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(BIG)

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        data = registry.blobs[BIG_BLOB] + b"more"
        for _ in range(50):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    registry.hooks.append(on(BIG_BLOB, endless, 9))
    with pytest.raises(InvalidInput, match="larger than"):
        client.pull(f"{registry.host}/app:1")
    assert client.leftovers() == []


def test_a_config_with_another_content_is_refused(client: Client, registry: FakeRegistry) -> None:
    digest = registry.add_image()
    config = json.loads(registry.manifests["app", digest][0])["config"]["digest"]
    registry.blobs[config] = registry.blobs[config].replace(b"run", b"bad")
    with pytest.raises(InvalidInput, match="does not match its digest"):
        client.pull(f"{registry.host}/app:1")


def test_a_manifest_with_another_content_than_its_digest_is_refused(client: Client, registry: FakeRegistry) -> None:
    digest = registry.add_image()
    data, media_type = registry.manifests["app", digest]
    registry.manifests["app", digest] = data + b" ", media_type
    with pytest.raises(InvalidInput, match="manifest does not match its digest"):
        client.pull(f"{registry.host}/app@{digest}")


def test_layers_that_are_not_those_of_the_config_are_refused(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(layer_tar("a"))
    other = registry.add_image(layer_tar("b"), tag="2")
    one = json.loads(registry.manifests["app", "1"][0])
    one["layers"] = json.loads(registry.manifests["app", other][0])["layers"]
    registry.add_manifest(one, MANIFEST, "3")
    with pytest.raises(InvalidInput, match="does not match its digest"):
        client.pull(f"{registry.host}/app:3")
    assert client.leftovers() == []


def test_a_gigantic_manifest_is_not_read(client: Client, registry: FakeRegistry) -> None:
    registry.manifests["app", "1"] = b"{" + b" " * (6 << 20) + b"}", MANIFEST
    with pytest.raises(InvalidInput, match="larger than 4 MiB"):
        client.pull(f"{registry.host}/app:1")


@pytest.mark.parametrize(
    ("data", "media_type", "kind", "told"),
    [
        (b"not json", MANIFEST, InvalidInput, "not valid JSON"),
        (b"[]", MANIFEST, InvalidInput, "not a JSON object"),
        (b"[" * 100_000, MANIFEST, InvalidInput, "not valid JSON"),
        (b'{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+prettyjws", Unsupported, "old kind"),
        (b'{"schemaVersion":2,"mediaType":"application/x"}', "application/x", Unsupported, "unknown media type"),
        (b'{"schemaVersion":2,"layers":[],"manifests":[]}', MANIFEST, InvalidInput, "ambiguous"),
        (b'{"schemaVersion":2,"mediaType":"%s"}' % INDEX.encode(), MANIFEST, InvalidInput, "its registry"),
        (b'{"schemaVersion":2,"layers":[]}', MANIFEST, InvalidInput, "descriptor"),
        (b'{"schemaVersion":2,"manifests":{}}', INDEX, InvalidInput, "lists no manifests"),
        (b'{"schemaVersion":2,"manifests":[1,null,{}]}', INDEX, Unsupported, "not SHA-256"),
        (b'{"schemaVersion":2,"manifests":[1,null,{},{}]}', INDEX, Unsupported, "not there for"),
    ],
)
def test_a_broken_manifest_is_refused(
    client: Client, registry: FakeRegistry, data: bytes, media_type: str, kind: type[Exception], told: str
) -> None:
    registry.manifests["app", "1"] = data, media_type
    with pytest.raises(kind, match=told):
        client.pull(f"{registry.host}/app:1")


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"digest": "sha256:../../etc/passwd"}, Unsupported, "not SHA-256"),
        ({"digest": "sha512:" + "0" * 128}, Unsupported, "not SHA-256"),
        ({"digest": 5}, Unsupported, "not SHA-256"),
        ({"size": -1}, InvalidInput, "impossible size"),
        ({"size": "big"}, InvalidInput, "impossible size"),
        ({"size": 1 << 60}, InvalidInput, "impossible size"),
        ({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, Unsupported, "unknown media type"),
        ({"mediaType": None}, InvalidInput, "media type"),
    ],
)
def test_a_broken_layer_entry_is_refused(
    client: Client, registry: FakeRegistry, changes: dict[str, object], kind: type[Exception], told: str
) -> None:
    registry.add_image()
    document = json.loads(registry.manifests["app", "1"][0])
    document["layers"][0] |= changes
    registry.add_manifest(document, MANIFEST, "2")
    with pytest.raises(kind, match=told):
        client.pull(f"{registry.host}/app:2")


def test_what_is_no_image_is_refused(client: Client, registry: FakeRegistry) -> None:
    registry.add_image()
    document = json.loads(registry.manifests["app", "1"][0])
    document["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    registry.add_manifest(document, MANIFEST, "chart")
    with pytest.raises(Unsupported, match="no container image"):
        client.pull(f"{registry.host}/app:chart")


# ---------------------------------------------------------------------------------------------- platforms


def index_of(registry: FakeRegistry, *platforms: tuple[str, str], tag: str = "multi") -> None:
    entries = []
    for architecture, variant in platforms:
        digest = registry.add_image(
            layer_tar(data=f"{architecture}{variant}".encode()),
            tag=f"{architecture}{variant}",
            architecture=architecture,
        )
        platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
        size = len(registry.manifests["app", digest][0])
        entries.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform})
    attestation = {"os": "unknown", "architecture": "unknown"}
    entries.append({"mediaType": MANIFEST, "digest": sha256(b""), "size": 1, "platform": attestation})
    registry.add_manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX, tag)


def test_this_machines_platform_is_taken_and_another_when_asked(client: Client, registry: FakeRegistry) -> None:
    index_of(registry, ("arm64", "v8"), ("amd64", ""), ("arm", "v6"))
    own = client.pull(f"{registry.host}/app:multi", platform="linux/amd64")
    assert own.architecture == "amd64"
    assert client.pull(f"{registry.host}/app:multi", platform="linux/arm64").architecture == "arm64"
    assert client.pull(f"{registry.host}/app:multi", platform="linux/arm/v7").architecture == "arm"


def test_an_index_without_our_platform_names_those_that_it_has(client: Client, registry: FakeRegistry) -> None:
    index_of(registry, ("s390x", ""), ("arm64", "v8"))
    with pytest.raises(Unsupported, match="not there for linux/riscv64") as caught:
        client.pull(f"{registry.host}/app:multi", platform="linux/riscv64")
    assert caught.value.hint == "it is there for linux/arm64/v8, linux/s390x"


def test_the_digest_of_an_index_finds_the_image_afterwards(client: Client, registry: FakeRegistry) -> None:
    index_of(registry, ("amd64", ""), ("arm64", ""))
    image = client.pull(f"{registry.host}/app:multi", platform="amd64")
    (named,) = client.store.repo_digests(image.id)
    assert named == f"{registry.host}/app@{sha256(registry.manifests['app', 'multi'][0])}"
    assert client.store.resolve(named).id == image.id


def test_indexes_within_indexes_end(client: Client, registry: FakeRegistry) -> None:
    digest = registry.add_image()
    platform = {"os": "linux", "architecture": "amd64"}
    for depth in range(6):
        size = len(registry.manifests["app", digest][0])
        entry = {"mediaType": INDEX if depth else MANIFEST, "digest": digest, "size": size, "platform": platform}
        digest = registry.add_manifest(
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, INDEX, f"depth{depth}"
        )
    assert client.pull(f"{registry.host}/app:depth1", platform="amd64")
    with pytest.raises(InvalidInput, match="nested too deep"):
        client.pull(f"{registry.host}/app:depth5", platform="amd64")


def test_an_index_that_is_wrong_about_a_size_is_refused(client: Client, registry: FakeRegistry) -> None:
    platform = {"os": "linux", "architecture": "amd64"}
    entry = {"mediaType": MANIFEST, "digest": registry.add_image(), "size": 5, "platform": platform}
    registry.add_manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, INDEX, "wrong")
    with pytest.raises(InvalidInput, match="lists a manifest of 5 bytes, and its registry serves"):
        client.pull(f"{registry.host}/app:wrong", platform="amd64")


def test_a_single_image_for_another_machine_is_warned_of_or_refused(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(architecture="s390x")
    assert client.pull(f"{registry.host}/app:1").architecture == "s390x"
    assert any(transfer.state == "warning" and "s390x" in transfer.message for transfer in client.told)
    with pytest.raises(Unsupported, match="not for linux/amd64"):
        client.pull(f"{registry.host}/app:1", platform="linux/amd64")


# -------------------------------------------------------------------------------------------- compression


@pytest.mark.parametrize(("kind", "suffix"), [("", ""), ("gzip", "+gzip"), ("zstd", "+zstd"), ("zstd", "+gzip")])
def test_layers_of_any_compression_are_taken(client: Client, registry: FakeRegistry, kind: str, suffix: str) -> None:
    import zstandard

    packers: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        "gzip": packed,
        "zstd": zstandard.ZstdCompressor().compress,
    }
    registry.add_image(layer_tar("one"), layer_tar("two"), pack=packers[kind], suffix=suffix)
    image = client.pull(f"{registry.host}/app:1")
    directories = client.store.layer_dirs(image)
    assert [os.listdir(directory) for directory in directories] == [["one"], ["two"]]


def test_an_image_of_the_same_layer_twice_fetches_it_once(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(layer_tar(), layer_tar("other"), layer_tar())
    image = client.pull(f"{registry.host}/app:1")
    assert len(image.layers) == 3
    assert len(registry.asked("GET", sha256(packed(layer_tar())))) == 1


# ---------------------------------------------------------------------------------------------- redirects


def lead_to(other: FakeRegistry, suffix: str = "") -> Callable[[Handler], None]:
    return lambda handler: handler.reply(307, Location=f"http://localhost:{other.port}{handler.path}{suffix}")


def test_a_login_does_not_follow_a_redirect_to_another_host(
    client: Client, registry: FakeRegistry, tmp_path: Path
) -> None:
    elsewhere = FakeRegistry()
    registry.add_image()
    elsewhere.blobs = registry.blobs
    auths = {registry.host: {"auth": "dXNlcjpwYXNz"}}
    (tmp_path / "client" / "docker").mkdir()
    (tmp_path / "client" / "docker" / "config.json").write_text(json.dumps({"auths": auths}))

    def basic(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == "Basic dXNlcjpwYXNz":
            return False
        handler.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
        return True

    registry.hooks += [basic, on("/blobs/", lead_to(elsewhere), 99)]
    client.pull(f"{registry.host}/app:1")
    assert len(elsewhere.requests) == 2
    assert not any("Authorization" in headers for _, _, headers in elsewhere.requests)
    assert all("Authorization" in headers for headers in registry.asked("GET", "/blobs/"))
    elsewhere.close()


def test_redirects_in_a_circle_end(client: Client, registry: FakeRegistry) -> None:
    registry.hooks.append(on("/manifests/", lambda handler: handler.reply(307, Location=handler.path), 99))
    with pytest.raises(InvalidInput, match="redirects too often"):
        client.pull(f"{registry.host}/app:1")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::bad/"])
def test_a_redirect_to_something_else_than_http_is_refused(client: Client, registry: FakeRegistry, target: str) -> None:
    registry.hooks.append(on("/manifests/", lambda handler: handler.reply(302, Location=target), 99))
    with pytest.raises((InvalidInput, Unavailable)):
        client.pull(f"{registry.host}/app:1")


# ------------------------------------------------------------------------------------------------ mirrors


def test_a_mirror_is_asked_first_and_the_registry_when_it_cannot(client: Client, registry: FakeRegistry) -> None:
    mirror = FakeRegistry()
    registry.add_image()
    client.set(hosts={registry.host: HostSettings(mirrors=(f"http://{mirror.host}/cache", "127.0.0.1:1"))})
    image = client.pull(f"{registry.host}/app:1")
    assert mirror.asked("GET", "/v2/cache/app/manifests/1")
    assert sum(transfer.state == "warning" for transfer in client.told) == 2
    client.store.remove(f"{registry.host}/app:1")
    mirror.add_image(repository="cache/app")
    registry.requests.clear()
    assert client.pull(f"{registry.host}/app:1").id == image.id
    assert registry.requests == []
    assert client.store.resolve(f"{registry.host}/app:1").id == image.id
    mirror.close()


def test_docker_hubs_images_come_from_its_mirror(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(repository="library/redis", tag="latest")
    client.set(hosts={"docker.io": HostSettings(mirrors=(f"http://{registry.host}",))})
    assert client.pull("redis").tags == ("redis:latest",)


# ------------------------------------------------------------------------------------- several at once


def test_a_pull_that_fails_leaves_the_image_that_was_there(client: Client, registry: FakeRegistry) -> None:
    registry.add_image()
    before = client.pull(f"{registry.host}/app:1")
    registry.add_image(layer_tar("newer"))
    registry.hooks.append(on("/blobs/", lambda handler: handler.error(404, "BLOB_UNKNOWN"), 99))
    with pytest.raises(NotFound):
        client.pull(f"{registry.host}/app:1")
    assert client.store.resolve(f"{registry.host}/app:1").id == before.id


def test_nothing_is_fetched_that_is_there(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(layer_tar("base"))
    client.pull(f"{registry.host}/app:1")
    registry.add_image(layer_tar("base"), layer_tar("top"), tag="2")
    registry.requests.clear()
    client.pull(f"{registry.host}/app:2")
    assert registry.asked("GET", sha256(packed(layer_tar("base")))) == []
    assert "exists" in client.states()


def test_the_manifest_is_kept_as_it_came(client: Client, registry: FakeRegistry) -> None:
    digest = registry.add_image()
    image = client.pull(f"{registry.host}/app:1")
    assert client.store.manifest(image.id).digest == digest
    assert client.store.resolve(f"{registry.host}/app@{digest}").id == image.id
    assert OCI in client.store.manifest(image.id).media_type
