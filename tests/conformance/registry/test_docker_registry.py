"""Round trips with Debian's docker-registry and skopeo: what others push we pull, what we push others read."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.cli.main import main
from engine.errors import Denied, NotFound, Unsupported
from engine.images.registry.login import login, logout
from engine.images.registry.push import Pushed, push
from engine.images.registry.remote import inspect_remote
from engine.types import Image
from tests.conformance.registry.conftest import Client
from tests.conformance.registry.fake import layer_tar
from tests.conformance.registry.servers import PASSWORD, USER, TokenServer, docker_registry, with_passwords

pytestmark = pytest.mark.needs("docker-registry")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("guarded")
    with docker_registry(directory, with_passwords(directory)) as host:
        yield host


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    made = TokenServer(tmp_path_factory.mktemp("tokens"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def with_tokens(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("with-tokens"), tokens.auth) as host:
        yield host


def make_image(client: Client, reference: str, *names: str, size: int = 50_000) -> Image:
    layers = [client.store.add_layer(io.BytesIO(layer_tar(name, os.urandom(size)))) for name in names or ("file",)]
    return client.store.add_image({"config": {"Cmd": ["run"], "Env": ["A=b"]}}, layers, [reference])


def send(client: Client, reference: str, **options: object) -> Pushed:
    return push(
        client.store,
        reference,
        settings=client.settings,
        credentials=client.credentials,
        progress=client.told.append,
        **options,  # type: ignore[arg-type]
    )


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def content(client: Client, image: Image) -> dict[str, bytes]:
    """The files of an image, by name."""
    found = {}
    for directory in client.store.layer_dirs(image):
        found |= {path.name: path.read_bytes() for path in Path(directory).iterdir()}
    return found


def test_what_we_push_we_pull(client: Client, new_client: Callable[[str], Client], registry: str) -> None:
    image = make_image(client, f"{registry}/own/app:1", "a", "b", "c", size=2_000_000)
    pushed = send(client, f"{registry}/own/app:1", tags=["latest", "2"])
    assert pushed.references == tuple(f"{registry}/own/app:{tag}" for tag in ("1", "latest", "2"))
    other = new_client("other")
    pulled = other.pull(f"{registry}/own/app")
    assert pulled.id == image.id
    assert content(other, pulled) == content(client, image)
    assert other.store.repo_digests(pulled.id) == [f"{registry}/own/app@{pushed.digest}"]
    assert other.pull(f"{registry}/own/app@{pushed.digest}").id == image.id


def test_an_image_that_came_from_a_registry_goes_out_as_it_came(
    client: Client, new_client: Callable[[str], Client], registry: str
) -> None:
    make_image(client, f"{registry}/first:1")
    digest = send(client, f"{registry}/first:1").digest
    other = new_client("other")
    image = other.pull(f"{registry}/first:1")
    other.store.tag(image.id, f"{registry}/second:1")
    assert send(other, f"{registry}/second:1").digest == digest
    assert "mounted" in other.states()


def test_a_second_push_sends_nothing_again(client: Client, registry: str) -> None:
    make_image(client, f"{registry}/twice:1", "a", "b")
    first = send(client, f"{registry}/twice:1")
    client.told.clear()
    assert send(client, f"{registry}/twice:1").digest == first.digest
    assert client.states() == {"exists"}


def test_the_same_content_is_compressed_to_the_same_bytes_everywhere(
    client: Client, new_client: Callable[[str], Client], registry: str
) -> None:
    other = new_client("other")
    tar = layer_tar("same", bytes(range(256)) * 1000)
    config = {"created": "2020-01-01T00:00:00Z", "config": {}}
    digests = set()
    for each, name in ((client, "one"), (other, "two")):
        layer = each.store.add_layer(io.BytesIO(tar))
        each.store.add_image(config, [layer], [f"{registry}/{name}:1"])
        digests.add(send(each, f"{registry}/{name}:1").digest)
    assert len(digests) == 1


def test_layers_go_out_with_zstd_when_asked(client: Client, new_client: Callable[[str], Client], registry: str) -> None:
    image = make_image(client, f"{registry}/zstd:1")
    send(client, f"{registry}/zstd:1", compression="zstd")
    layer = inspect_remote(f"{registry}/zstd:1", settings=client.settings)["Layers"][0]
    assert layer["MediaType"].endswith("tar+zstd")
    assert new_client("other").pull(f"{registry}/zstd:1").id == image.id


def test_an_image_is_looked_at_without_fetching_it(client: Client, registry: str) -> None:
    image = make_image(client, f"{registry}/look:1")
    digest = send(client, f"{registry}/look:1").digest
    found = inspect_remote(f"{registry}/look:1", settings=client.settings, credentials=client.credentials)
    assert (found["Digest"], found["Id"], found["Config"]["Cmd"]) == (digest, image.id, ["run"])
    with pytest.raises(Unsupported, match="not for linux/mips64"):
        inspect_remote(
            f"{registry}/look:1", platform="linux/mips64", settings=client.settings, credentials=client.credentials
        )


def test_what_is_not_there_is_told(client: Client, registry: str) -> None:
    with pytest.raises(NotFound, match=f"cannot pull {registry}/no/such:1"):
        client.pull(f"{registry}/no/such:1")
    with pytest.raises(NotFound, match="no image"):
        send(client, f"{registry}/not/here:1")


# ------------------------------------------------------------------------------------------------ skopeo


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_skopeo_reads_what_we_push(client: Client, registry: str, tmp_path: Path, compression: str) -> None:
    image = make_image(client, f"{registry}/read/{compression}:1", "a", "b", size=1_500_000)
    pushed = send(client, f"{registry}/read/{compression}:1", compression=compression)
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry}/read/{compression}:1", f"oci:{tmp_path}/layout:1")
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [pushed.digest]
    config = json.loads(
        skopeo("inspect", "--config", "--tls-verify=false", f"docker://{registry}/read/{compression}:1")
    )
    assert config["rootfs"]["diff_ids"] == list(image.layers)


@pytest.mark.needs("skopeo", "umoci", "root")
def test_umoci_unpacks_what_we_push(client: Client, registry: str, tmp_path: Path) -> None:
    image = make_image(client, f"{registry}/unpack:1", "a", "b")
    send(client, f"{registry}/unpack:1")
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry}/unpack:1", f"oci:{tmp_path}/layout:1")
    bundle = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{tmp_path}/layout:1", bundle], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in (bundle / "rootfs").iterdir()} == content(client, image)


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", ["oci", "v2s2"])
def test_we_read_what_skopeo_pushes(
    client: Client, new_client: Callable[[str], Client], registry: str, kind: str
) -> None:
    image = make_image(client, f"own/{kind}:1", "a", "b")
    layout = f"oci:{client.store.paths.images}:own/{kind}:1"
    skopeo("copy", "--dest-tls-verify=false", "--format", kind, layout, f"docker://{registry}/theirs/{kind}:1")
    other = new_client("other")
    pulled = other.pull(f"{registry}/theirs/{kind}:1")
    assert pulled.layers == image.layers
    assert content(other, pulled) == content(client, image)
    assert pulled.config == image.config
    digest = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry}/theirs/{kind}:1"))["Digest"]
    assert other.store.manifest(pulled.id).digest == digest
    other.store.tag(pulled.id, f"{registry}/back/{kind}:1")
    assert send(other, f"{registry}/back/{kind}:1").digest == digest


# ------------------------------------------------------------------------------------------------- logins


def test_a_registry_with_passwords_wants_a_login(client: Client, guarded: str) -> None:
    make_image(client, f"{guarded}/app:1")
    with pytest.raises(Denied, match="wants a login") as caught:
        send(client, f"{guarded}/app:1")
    assert f"umiak login {guarded}" in str(caught.value.hint)
    with pytest.raises(Denied, match=f"refuses the login of {USER}"):
        login(guarded, USER, "wrong", settings=client.settings, credentials=client.credentials)
    assert not os.path.exists(client.credentials.path)
    kept = login(guarded, USER, PASSWORD, settings=client.settings, credentials=client.credentials)
    assert kept == client.credentials.path
    assert os.stat(kept).st_mode & 0o777 == 0o600
    send(client, f"{guarded}/app:1")
    client.pull(f"{guarded}/app:1")
    assert logout(guarded, credentials=client.credentials)
    assert not logout(guarded, credentials=client.credentials)
    with pytest.raises(Denied):
        client.pull(f"{guarded}/app:1")


def test_a_registry_with_tokens_is_asked_for_the_scopes_that_are_needed(
    client: Client, new_client: Callable[[str], Client], with_tokens: str, tokens: TokenServer
) -> None:
    make_image(client, f"{with_tokens}/public/app:1", "a", "b")
    make_image(client, f"{with_tokens}/private/app:1")
    login(with_tokens, USER, PASSWORD, settings=client.settings, credentials=client.credentials)
    tokens.asked.clear()
    send(client, f"{with_tokens}/public/app:1")
    assert {(user, *scopes) for user, scopes in tokens.asked} == {(USER, "repository:public/app:pull,push")}
    send(client, f"{with_tokens}/private/app:1")
    stranger = new_client("stranger")
    tokens.asked.clear()
    stranger.pull(f"{with_tokens}/public/app:1")
    assert tokens.asked == [("", ["repository:public/app:pull"])]
    with pytest.raises(Denied, match="wants a login"):
        stranger.pull(f"{with_tokens}/private/app:1")
    with pytest.raises(Denied):
        login(with_tokens, USER, "wrong", settings=client.settings, credentials=client.credentials)
    client.pull(f"{with_tokens}/private/app:1")


def test_a_mount_from_another_repository_asks_for_its_scope(
    client: Client, with_tokens: str, tokens: TokenServer
) -> None:
    image = make_image(client, f"{with_tokens}/public/from:1")
    login(with_tokens, USER, PASSWORD, settings=client.settings, credentials=client.credentials)
    send(client, f"{with_tokens}/public/from:1")
    client.store.tag(image.id, f"{with_tokens}/private/to:1")
    tokens.asked.clear()
    send(client, f"{with_tokens}/private/to:1")
    assert any("repository:public/from:pull" in scopes for _, scopes in tokens.asked)
    assert "mounted" in client.states()


@pytest.mark.parametrize(
    "flags", [("--resolve-image-digests",), ("--lock-image-digests",), ("--no-interpolate", "--lock-image-digests")]
)
def test_config_pins_images_to_the_digests_of_their_registries(
    registry: str, client: Client, tmp_path: Path, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    image = f"{registry}/pinned/app"
    make_image(client, f"{image}:1")
    digest = send(client, f"{image}:1").digest
    known = "sha256:" + "0" * 64
    file = tmp_path / "compose.yaml"
    file.write_text(f"services: {{a: {{image: '{image}:1'}}, b: {{build: .}}, c: {{image: 'redis:7@{known}'}}}}")
    assert main(["-f", str(file), "config", "--format", "json", *flags]) == 0
    services = json.loads(capsys.readouterr().out)["services"]
    assert services["a"]["image"] == f"{image}:1@{digest}"
    assert services["c"]["image"] == f"docker.io/library/redis@{known}"
    assert ("build" in services["b"]) == ("--lock-image-digests" not in flags)


def test_an_image_that_no_registry_has_cannot_be_pinned(registry: str, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(f"services: {{a: {{image: '{registry}/not/there:1'}}}}")
    assert main(["-f", str(file), "config", "--resolve-image-digests"]) == 1
