"""Pull an image: manifest, configuration, and the layers in parallel, each extracted while it arrives.

Nothing is an image before all of it is there: layers and configuration are held by the command's lease, and the record of the
image is the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from engine.errors import Denied, InvalidInput, NotFound, TimedOut, UmiakError, Unavailable, Unsupported
from engine.frozen import frozen
from engine.images.compression import Readable
from engine.images.config import diff_ids, parse_json
from engine.images.parallel import gather
from engine.images.reference import Reference, is_digest
from engine.images.registry.credentials import CredentialStore
from engine.images.registry.endpoints import endpoints
from engine.images.registry.events import Progress, Reporter, short
from engine.images.registry.failures import Unreachable
from engine.images.registry.manifest import (
    Descriptor,
    ImageManifest,
    Platform,
    RemoteManifest,
    choose,
    read_image,
)
from engine.images.registry.repository import Connection, Repository
from engine.images.registry.settings import Settings, load_settings
from engine.images.registry.stream import BlobStream
from engine.images.store import ImageStore, LayerRef
from engine.types import Image

OnCancel = Callable[[Callable[[], None]], None]

_MAX_INDEX_DEPTH = 3


@frozen
class Found:
    """An image at a registry, its manifest read. It was chosen from `index` where its name points to one."""

    repository: Repository
    image: ImageManifest
    index: RemoteManifest | None = None

    @property
    def digest(self) -> str:
        """The digest that the image's name stands for: the index's, where there is one."""
        return (self.index or self.image.remote).digest


def pull(
    store: ImageStore,
    reference: str,
    *,
    platform: str | None = None,
    progress: Progress | None = None,
    on_cancel: OnCancel | None = None,
    settings: Settings | None = None,
    credentials: CredentialStore | None = None,
) -> Image:
    """Fetch an image from its registry (or a mirror) and tag it. What the store has already is not fetched again.

    The platform is this machine's unless given; `on_cancel` is given what gives the pull up from another thread.
    Raise NotFound, Denied, Unavailable, TimedOut, InvalidInput or Unsupported; nothing is left then but unfinished
    downloads, with which the next pull goes on.
    """
    wanted = Reference.parse(reference)
    report = Reporter(progress)
    report("", "resolving", message=wanted.familiar)
    with connected(report, settings, credentials) as connection, naming("pull", wanted):
        if on_cancel is not None:
            on_cancel(connection.patience.cancel)
        found = find(connection, wanted, Platform.parse(platform) if platform else Platform.host(), report)
        config = found.repository.blob(found.image.config.digest, found.image.config.size_bytes)
        _check_platform(config, found, platform, report)
        layers = _layers(store, connection, found, config, report)
        return _record(store, wanted, found, config, layers)


@contextmanager
def connected(report: Reporter, settings: Settings | None, credentials: CredentialStore | None) -> Iterator[Connection]:
    """A connection whose troubles are reported, closed at the end."""

    def told(message: str) -> None:
        report("", "retrying" if "trying again" in message else "warning", message=message)

    connection = Connection(settings or load_settings(), told, credentials=credentials)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def naming(verb: str, reference: Reference) -> Iterator[None]:
    """Begin the message of each error with what could not be done."""
    try:
        yield
    except UmiakError as error:
        error.message = f"cannot {verb} {reference.familiar}: {error.message}"
        if isinstance(error, Unreachable) and reference.familiar.startswith("debian:") and verb == "pull":
            error.hint = f"without a registry: umiak image bootstrap {reference.familiar}"
        raise


def find(connection: Connection, wanted: Reference, platform: Platform, report: Reporter) -> Found:
    """Ask the mirrors and then the registry for an image of a platform."""
    places = endpoints(wanted.registry, connection.settings)
    for place in places:
        repository = Repository(connection, place, wanted.repository)
        try:
            repository.open()
            return _resolve(repository, wanted, platform)
        except (Unavailable, NotFound, Denied, TimedOut, InvalidInput) as error:
            if not place.is_mirror:
                raise
            report("", "warning", message=f"mirror {place.host}: {error.message}")
    raise AssertionError("the registry itself comes last")


def _resolve(repository: Repository, wanted: Reference, platform: Platform) -> Found:
    top = manifest = repository.manifest(wanted.digest or wanted.tag or "latest")
    for _ in range(_MAX_INDEX_DEPTH):
        if not manifest.is_index:
            return Found(repository, read_image(manifest), top if top.is_index else None)
        entry = choose(manifest, platform)
        manifest = repository.manifest(entry.digest)
        if len(manifest.data) != entry.size_bytes:
            raise InvalidInput(
                f"the index lists a manifest of {entry.size_bytes} bytes, and its registry serves {len(manifest.data)}"
            )
    raise InvalidInput("the image indexes are nested too deep")


def _check_platform(config: bytes, found: Found, asked: str | None, report: Reporter) -> None:
    document = parse_json(config, "the image configuration")
    has = Platform(*(str(document.get(key) or "") for key in ("os", "architecture", "variant")))
    wanted = Platform.parse(asked) if asked else Platform.host()
    if has.os not in ("linux", ""):
        raise Unsupported(f"the image is made for {has}, and only Linux can run here")
    if not has.architecture or wanted.fits(has) or found.index:
        return
    if asked:
        raise Unsupported(f"the image is made for {has}, not for {wanted}")
    report("", "warning", message=f"the image is made for {has}, this machine is {wanted}")


def _layers(store: ImageStore, connection: Connection, found: Found, config: bytes, report: Reporter) -> list[LayerRef]:
    """All layers, those that are missing fetched in parallel, the largest first."""
    wanted = diff_ids(parse_json(config, "the image configuration"))
    blobs = found.image.layers
    if len(wanted) != len(blobs):
        raise InvalidInput(f"the image configuration lists {len(wanted)} layers, the manifest {len(blobs)}")
    for diff_id in wanted:
        if not is_digest(diff_id):
            raise InvalidInput(f"the image configuration has an unreadable layer digest {diff_id[:80]!r}")
    fetches: dict[str, Descriptor] = {}
    have: dict[str, LayerRef] = {}
    for diff_id, blob in zip(wanted, blobs, strict=True):
        known = have.get(diff_id) or store.find_layer(diff_id)
        if known is not None:
            have[diff_id] = known
            report(short(blob.digest), "exists")
        elif diff_id not in fetches:
            fetches[diff_id] = blob
            report(short(blob.digest), "waiting", total=blob.size_bytes)
    have |= fetch_layers(store, connection, found.repository, fetches, report)
    return [have[diff_id] for diff_id in wanted]


def fetch_layers(
    store: ImageStore,
    connection: Connection,
    repository: Repository,
    fetches: dict[str, Descriptor],
    report: Reporter,
) -> dict[str, LayerRef]:
    """Fetch layers in parallel, the largest first: diff ID → blob."""
    if not fetches:
        return {}
    order = sorted(fetches, key=lambda diff_id: -fetches[diff_id].size_bytes)
    with ThreadPoolExecutor(connection.settings.parallel, "pull") as pool:
        futures = {
            diff_id: pool.submit(_fetch, store, connection, repository, diff_id, fetches[diff_id], report)
            for diff_id in order
        }
        gather(futures.values(), connection.patience.cancel)
        return {diff_id: future.result() for diff_id, future in futures.items()}


def _fetch(
    store: ImageStore,
    connection: Connection,
    repository: Repository,
    diff_id: str,
    blob: Descriptor,
    report: Reporter,
) -> LayerRef:
    name = short(blob.digest)

    def source(offset: int) -> Readable:
        if offset > blob.size_bytes:
            raise InvalidInput("what an earlier pull left of it is too large")
        report(name, "downloading", offset, blob.size_bytes)
        return BlobStream(
            repository,
            blob,
            offset,
            connection.patience,
            connection.settings.timeout_s,
            lambda done: report(name, "downloading", done, blob.size_bytes),
        )

    def waiting() -> None:
        connection.patience.check()
        report(name, "waiting", 0, blob.size_bytes)

    connection.patience.check()
    layer = store.download_layer(blob.digest, diff_id, source, waiting, connection.patience.check)
    report(name, "done", blob.size_bytes, blob.size_bytes)
    return layer


def _record(store: ImageStore, wanted: Reference, found: Found, config: bytes, layers: Sequence[LayerRef]) -> Image:
    tags = (
        [Reference(wanted.registry, wanted.repository, wanted.tag).familiar] if wanted.tag and not wanted.digest else []
    )
    image = store.add_image_bytes(config, layers, tags, manifest=found.image.remote.data)
    store.note_digest(wanted, found.digest, image.id)
    if not found.repository.endpoint.is_mirror:
        for blob in found.image.layers:
            store.note_blob(wanted, blob.digest)
    return image
