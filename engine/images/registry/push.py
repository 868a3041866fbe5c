"""Push an image: blobs that the registry lacks, in parallel; then the configuration; then the manifest under each tag.

An image that came from a registry goes out as it came, with its digest. Layers that we keep uncompressed are compressed on the
way, always to the same bytes, so that a second push finds them there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO

from engine.errors import InvalidInput, UmiakError
from engine.frozen import frozen
from engine.images.blobs import to_json
from engine.images.compression import CHUNK_BYTES, Readable, decompressed, detect
from engine.images.parallel import gather
from engine.images.reference import Reference
from engine.images.registry.credentials import CredentialStore
from engine.images.registry.endpoints import endpoint
from engine.images.registry.events import Progress, Reporter, short
from engine.images.registry.failures import PASSING, Patience
from engine.images.registry.manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from engine.images.registry.pull import connected, naming
from engine.images.registry.repository import MONOLITHIC_BYTES, Connection, Repository
from engine.images.registry.settings import Settings
from engine.images.store import ImageStore, LayerRef
from engine.types import Image

COMPRESSIONS = ("gzip", "zstd")
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3


@frozen
class Pushed:
    """What a push left at the registry: the manifest's digest, its size, and the names that it has there."""

    digest: str
    size_bytes: int
    references: tuple[str, ...]


@frozen
class SentBlob:
    """A layer as it goes out."""

    digest: str
    size_bytes: int
    media_type: str

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


def push(
    store: ImageStore,
    reference: str,
    *,
    tags: Sequence[str] = (),
    compression: str = "gzip",
    progress: Progress | None = None,
    settings: Settings | None = None,
    credentials: CredentialStore | None = None,
) -> Pushed:
    """Send an image to the registry that its name begins with; `tags` are further ones for it in the same repository.

    Raise NotFound where there is no such image here, Denied, Unavailable, TimedOut or InvalidInput where the registry will not have it.
    """
    if compression not in COMPRESSIONS:
        raise InvalidInput(f"cannot compress with {compression!r}", hint=f"use one of: {', '.join(COMPRESSIONS)}")
    target = Reference.parse(reference)
    if target.tag is None:
        raise InvalidInput(f"cannot push {reference}: a push needs a tag", hint="write name:tag")
    names = [target, *(Reference.parse(f"{target.name}:{tag}") for tag in tags)]
    image = store.resolve(reference)
    report = Reporter(progress)
    with connected(report, settings, credentials) as connection, naming("push", target):
        place = endpoint(target.registry, connection.settings)
        repository = Repository(connection, place, target.repository, "pull,push")
        repository.open()
        upload = Upload(store, repository, target, compression, connection.patience, report)
        blobs = upload.layers(store.layer_refs(image), connection)
        manifest, media_type = upload.manifest(image, blobs)
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        for name in names:
            repository.put_manifest(name.tag or digest, manifest, media_type)
            store.note_digest(name, digest, image.id)
        return Pushed(digest, len(manifest), tuple(name.familiar for name in names))


class Upload:
    """One image on its way into one repository."""

    def __init__(
        self,
        store: ImageStore,
        repository: Repository,
        target: Reference,
        compression: str,
        patience: Patience,
        report: Reporter,
    ) -> None:
        self._store = store
        self._repository = repository
        self._target = target
        self._compression = compression
        self._patience = patience
        self._report = report

    def layers(self, layers: Sequence[LayerRef], connection: Connection) -> list[SentBlob]:
        """See to it that the repository has all these layers, sent side by side; return what they are there."""
        with ThreadPoolExecutor(connection.settings.parallel, "push") as pool:
            futures = {layer: pool.submit(self.layer, layer) for layer in dict.fromkeys(layers)}
            gather(futures.values(), connection.patience.cancel)
        return [futures[layer].result() for layer in layers]

    def layer(self, layer: LayerRef) -> SentBlob:
        """See to it that the repository has a layer; return what it is there."""
        with self._store.blobs.open(layer.blob) as file:
            stored = detect(file.read(6))
        if stored in COMPRESSIONS:
            size = self._store.blobs.size_bytes(layer.blob)
            blob = SentBlob(layer.blob, size, f"{OCI_LAYER}+{stored}")
            if not self._is_there(blob):
                with self._store.blobs.open(layer.blob) as file:
                    self._send(blob, file)
            return blob
        known = self._store.compressed(layer.diff_id, self._compression)
        if known is not None:
            blob = SentBlob(*known, f"{OCI_LAYER}+{self._compression}")
            if self._is_there(blob):
                return blob
        with self._compressed(layer) as (blob, file):
            if known == (blob.digest, blob.size_bytes) or not self._is_there(blob):
                self._send(blob, file)
        return blob

    def manifest(self, image: Image, blobs: Sequence[SentBlob]) -> tuple[bytes, str]:
        """Send the configuration; return the manifest: the image's own where its blobs went out as they are."""
        stored = self._store.manifest(image.id)
        self._configuration(image.id)
        listed = [layer.get("digest") for layer in stored.document.get("layers", ())]
        if listed == [blob.digest for blob in blobs]:
            with self._store.blobs.open(stored.digest) as file:
                return file.read(), stored.media_type
        config = stored.document["config"]
        return to_json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": OCI_CONFIG, "digest": image.id, "size": config["size"]},
                "layers": [blob.descriptor() for blob in blobs],
            }
        ), OCI_MANIFEST

    def _configuration(self, image_id: str) -> None:
        if self._repository.has_blob(image_id):
            return
        with self._store.blobs.open(image_id) as file:
            self._repository.put_blob(image_id, file.read())

    def _is_there(self, blob: SentBlob) -> bool:
        """Whether the repository has a blob, or takes it over from another one of its registry."""
        name = short(blob.digest)
        if self._repository.has_blob(blob.digest):
            self._store.note_blob(self._target, blob.digest)
            self._report(name, "exists")
            return True
        for source in self._store.repositories_with(blob.digest, self._target.registry):
            if source == self._target.repository:
                continue
            try:
                mounted = self._repository.mount(blob.digest, source) is None
            except UmiakError:
                mounted = False  # an offer that may be declined: we may not read there, or it is gone
            if mounted:
                self._store.note_blob(self._target, blob.digest)
                self._report(name, "mounted")
                return True
            break
        return False

    def _send(self, blob: SentBlob, file: BinaryIO) -> None:
        self._report(short(blob.digest), "uploading", 0, blob.size_bytes)
        if blob.size_bytes <= MONOLITHIC_BYTES:
            file.seek(0)
            self._repository.put_blob(blob.digest, file.read())
        else:
            self._send_pieces(blob, file)
        self._store.note_blob(self._target, blob.digest)
        self._report(short(blob.digest), "done", blob.size_bytes, blob.size_bytes)

    def _send_pieces(self, blob: SentBlob, file: BinaryIO) -> None:
        """Send a large blob: all of it at once, and after a broken connection what the registry has not got."""
        location, offset = self._repository.begin_upload(), 0
        attempt = 0
        while True:
            try:
                if offset < blob.size_bytes:
                    location = self._repository.upload(
                        location, self._reader(blob, file, offset), offset, blob.size_bytes - offset
                    )
                    offset = blob.size_bytes
                self._repository.finish_upload(location, blob.digest)
                return
            except PASSING as error:
                attempt += 1
                self._patience.wait(error, attempt)
                location, offset = self._repository.uploaded(location) or (self._repository.begin_upload(), 0)

    def _reader(self, blob: SentBlob, file: BinaryIO, offset: int) -> Callable[[], Readable]:
        def told(done: int) -> None:
            self._patience.check()
            self._report(short(blob.digest), "uploading", done, blob.size_bytes)

        def opened() -> Readable:
            file.seek(offset)
            return _Counted(file, offset, told)

        return opened

    @contextmanager
    def _compressed(self, layer: LayerRef) -> Iterator[tuple[SentBlob, BinaryIO]]:
        """A layer's compressed form in a temporary file."""
        total = self._store.blobs.size_bytes(layer.blob)
        plain = hashlib.sha256()
        squeeze, flush = _compressor(self._compression)
        with self._store.temporary_blob() as writer, self._store.blobs.open(layer.blob) as file:
            for piece in decompressed(file):
                self._patience.check()
                plain.update(piece)
                writer.write(squeeze(piece))
                self._report(short(layer.diff_id), "compressing", file.tell(), total)
            writer.write(flush())
            if f"sha256:{plain.hexdigest()}" != layer.diff_id:
                raise InvalidInput(
                    f"layer {short(layer.diff_id)} in the image store is damaged",
                    hint="remove the image and make it again",
                )
            self._store.note_compressed(layer.diff_id, self._compression, writer.digest, writer.size_bytes)
            with writer.reread() as packed:
                yield SentBlob(writer.digest, writer.size_bytes, f"{OCI_LAYER}+{self._compression}"), packed


class _Counted:
    """A file that tells how far it was read."""

    def __init__(self, file: BinaryIO, offset: int, told: Callable[[int], None]) -> None:
        self._file = file
        self._done = offset
        self._told = told

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        data = self._file.read(size)
        self._done += len(data)
        self._told(self._done)
        return data


def _compressor(name: str) -> tuple[Any, Any]:
    """Functions that compress a piece and end the stream: equal input gives equal output."""
    if name == "zstd":
        import zstandard

        packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
        return packer.compress, packer.flush
    import zlib

    deflater = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    return deflater.compress, deflater.flush
