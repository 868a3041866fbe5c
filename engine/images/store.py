"""The image store: images, tags, blobs and extracted layers, safe between commands and against being killed.

The database says which images and tags exist; `index.json` repeats it for other tools. Blobs and layers are immutable and named
by digest. A command that adds some holds them by a lease until an image lists them; what neither an image nor a living
lease names is garbage. Deleting happens under the exclusive store lock, adding under the shared one.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from engine.errors import Conflict, InvalidInput, NotFound
from engine.frozen import frozen
from engine.images.blobs import BlobStore, BlobWriter, replace_file, to_json
from engine.images.compression import Readable, detect
from engine.images.config import created_at, diff_ids, host_architecture, image_config, parse_json, timestamp
from engine.images.layers import LayerDirectory, Unpacked, full_disk_explained, unpack
from engine.images.leases import Lease, live_leases, locked
from engine.images.partial import KEPT_S, PartialBlob, clear_partial, partial_blob
from engine.images.reference import Reference, is_digest
from engine.images.tree import disk_usage, remove_tree
from engine.paths import Paths
from engine.state import State
from engine.types import Image

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_SHORT_ID = 12


@frozen
class LayerRef:
    """One layer in the store: digests are `sha256:…`, `blob` names the tar as stored (perhaps compressed), the size is uncompressed."""

    diff_id: str
    blob: str
    size_bytes: int


@frozen
class Manifest:
    """An image's manifest as stored: what a registry gave us, else our own."""

    digest: str
    media_type: str
    document: Mapping[str, Any]


class ImageStore:
    """Images on this host. Any number of commands and threads may use it at once."""

    def __init__(self, paths: Paths, state: State) -> None:
        self.paths = paths
        self.blobs = BlobStore(paths.images)
        self.layers = LayerDirectory(paths.layers)
        self.state = state
        self._lease: Lease | None = None
        self._lease_made = threading.Lock()

    def prepare(self) -> None:
        """Make the store's directories where they are missing."""
        self.blobs.prepare()
        self.layers.prepare()

    def resolve(self, reference: str) -> Image:
        """Find an image by tag, full ID, short ID or `name@digest`. Raise NotFound with a hint."""
        found = self._image_id(reference)
        if found is None:
            raise self._not_found(reference)
        return self._images([found])[0]

    def all(self) -> list[Image]:
        """All images, newest first, but for those that only hold the build cache."""
        rows = self.state.rows(
            "SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM build_cache) ORDER BY created_at DESC, id"
        )
        return self._images([row["id"] for row in rows])

    def config_json(self, image_id: str) -> dict[str, Any]:
        """The OCI image configuration as stored."""
        row = self.state.row("SELECT config FROM images WHERE id = ?", (image_id,))
        if row is None:
            raise self._not_found(image_id)
        return parse_json(row["config"].encode(), f"the configuration of {image_id}")

    def layer_dir(self, diff_id: str) -> str:
        """The extracted directory of a layer that an image or this command has added; extracted now if it is missing."""
        if not self.layers.has(diff_id):
            self._extract(diff_id)
        return self.layers.path(diff_id)

    def layer_dirs(self, image: Image) -> list[str]:
        """The extracted directories of an image's layers, lowest first.

        A layer that occurs twice (Docker's empty one often does) is given once, at its upper place, which hides the lower:
        overlayfs refuses to mount one directory twice.
        """
        distinct = list(dict.fromkeys(reversed(image.layers)))
        if self.layers.unsettled():
            threading.Thread(target=self.layers.settle, name="layer-settler", daemon=True).start()
        return [self.layer_dir(diff_id) for diff_id in reversed(distinct)]

    def find_layer(self, diff_id: str, *, pinned: bool = False) -> LayerRef | None:
        """A layer that some image has, extracted and with its blob, held for this command; None where there is none.

        `pinned` holds it until `unpin`, not only until an image of this command has it.
        """
        self._leased()
        with self._adding():
            row = self.state.row("SELECT blob FROM image_layers WHERE diff_id = ?", (diff_id,))
            size_bytes = self.layers.size_bytes(diff_id)
            if row is None or size_bytes is None or not self.layers.has(diff_id) or not self.blobs.has(row["blob"]):
                return None
            lease = self._leased_now()
            for digest in (diff_id, row["blob"]):
                lease.pin(digest) if pinned else lease.hold(digest)
            return LayerRef(diff_id, row["blob"], size_bytes)

    def pin(self, layer: LayerRef) -> None:
        """Hold a layer that this command has just added until `unpin`, whatever images have it and go meanwhile."""
        with self._adding():
            for digest in (layer.diff_id, layer.blob):
                self._leased_now().pin(digest)

    def unpin(self, layers: Iterable[LayerRef]) -> None:
        """Give up what was pinned; what no image has goes with the next collection."""
        digests = [digest for layer in layers for digest in (layer.diff_id, layer.blob)]
        if digests and self._lease is not None:
            with self._adding():
                self._lease.unpin(digests)

    def add_layer(self, tar: Readable, *, diff_id: str | None = None, blob: str | None = None) -> LayerRef:
        """Store a layer from a tar stream of any compression, extracting while reading.

        Expected digests are verified: InvalidInput where the content differs, and nothing is kept.
        """
        what = f"layer {_short(diff_id or blob)}" if diff_id or blob else "the layer"
        lease = self._leased()
        with full_disk_explained(what, self.paths.root), BlobWriter.temporary(self.blobs, lease.name) as writer:
            if diff_id is not None and self.layers.has(diff_id):
                unpacked = unpack(tar, None, writer, what)
                self._commit(writer, unpacked, what, diff_id, blob)
            else:
                with self.layers.temporary(lease.name) as temporary:
                    unpacked = unpack(tar, os.path.join(temporary, "fs"), writer, what, lease=lease)
                    self._commit(writer, unpacked, what, diff_id, blob, temporary)
            return LayerRef(unpacked.diff_id, writer.digest, unpacked.size_bytes)

    def download_layer(
        self,
        blob: str,
        diff_id: str,
        source: Callable[[int], Readable],
        waiting: Callable[[], None],
        check: Callable[[], None] = lambda: None,
    ) -> LayerRef:
        """Store a layer that `source` brings, from the offset given to it on, extracting while it arrives.

        Both digests are verified. Commands that want one blob at once fetch it once: the others wait (`waiting` is called)
        and find the layer. What has arrived when `source` fails, or the command is killed, is not fetched again. `check` is called
        between pieces and may raise to give up.
        """
        what = f"layer {_short(blob)}"
        self._leased()
        with full_disk_explained(what, self.paths.root), partial_blob(self.blobs, blob, waiting) as writer:
            known = self._claim_layer(diff_id, blob)
            if known is not None:
                writer.discard()
                return known
            try:
                return self._receive_layer(writer, writer.stream(source, check), what, diff_id, blob)
            except InvalidInput:
                if not writer.resumed_bytes:
                    writer.discard()
                    raise
            writer.restart()  # what a crash of the host left in the file may have been to blame
            try:
                return self._receive_layer(writer, writer.stream(source, check), what, diff_id, blob)
            except InvalidInput:
                writer.discard()
                raise

    def _receive_layer(self, writer: PartialBlob, stream: Readable, what: str, diff_id: str, blob: str) -> LayerRef:
        lease = self._leased_now()
        with self.layers.temporary(lease.name) as temporary:
            extracted = None if self.layers.has(diff_id) else temporary
            target = os.path.join(temporary, "fs") if extracted else None
            unpacked = unpack(stream, target, None, what, lease=lease)
            self._commit(writer, unpacked, what, diff_id, blob, extracted)
        writer.discard()
        return LayerRef(unpacked.diff_id, blob, unpacked.size_bytes)

    def _claim_layer(self, diff_id: str, blob: str) -> LayerRef | None:
        """A layer that is here, made from that very blob, held for this command: some image's, or a running command's."""
        with self._adding():
            size_bytes = self.layers.size_bytes(diff_id)
            is_here = self.layers.has(diff_id) and self.layers.is_from(diff_id, blob) and self.blobs.has(blob)
            if size_bytes is None or not is_here:
                return None
            lease = self._leased_now()
            lease.hold(diff_id)
            lease.hold(blob)
            return LayerRef(diff_id, blob, size_bytes)

    def add_layer_from_upper(self, upper: str) -> LayerRef:
        """Store what an overlay mount wrote as a layer. `upper` (same file system) is renamed away to be the extracted layer.

        The mount must have had `redirect_dir=off,metacopy=off`.
        """
        from engine.images.diff import write_tar

        lease = self._leased()
        with (
            full_disk_explained("the new layer", self.paths.root),
            BlobWriter.temporary(self.blobs, lease.name) as writer,
        ):
            write_tar(upper, writer.write)
            with self.layers.temporary(lease.name) as temporary:
                os.rename(upper, os.path.join(temporary, "fs"))
                unpacked = Unpacked(writer.digest, writer.size_bytes)
                self._commit(writer, unpacked, "the new layer", None, None, temporary)
            return LayerRef(unpacked.diff_id, unpacked.diff_id, unpacked.size_bytes)

    def add_image(self, config: Mapping[str, Any], layers: Sequence[LayerRef], tags: Sequence[str] = ()) -> Image:
        """Record an image of these layers. `rootfs`, platform and creation time are filled in where they are missing."""
        document = dict(config)
        document.setdefault("created", timestamp(time.time()))
        document.setdefault("architecture", host_architecture())
        document.setdefault("os", "linux")
        document["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
        return self.add_image_bytes(to_json(document), layers, tags)

    def add_image_bytes(
        self, config: bytes, layers: Sequence[LayerRef], tags: Sequence[str] = (), *, manifest: bytes | None = None
    ) -> Image:
        """Record an image whose configuration comes from elsewhere and keeps its digest. Its `diff_ids` must be those of the layers.

        A manifest from elsewhere is kept too where it lists the blobs that the store has; else the image gets one of our own.
        """
        document = parse_json(config, "the image configuration")
        image_config(document)
        if diff_ids(document) != tuple(layer.diff_id for layer in layers):
            raise InvalidInput("the layers are not those that the image configuration lists")
        references = [_tag(tag) for tag in tags]
        lease = self._leased()
        with full_disk_explained("the image configuration", self.paths.root), self._adding():
            if manifest is None or not _lists(manifest, _digest(config), layers):
                manifest = to_json(self._manifest(config, layers))
            image_id, manifest_digest = _digest(config), _digest(manifest)
            for digest in (image_id, manifest_digest, *(layer.blob for layer in layers)):
                lease.hold(digest)
            self.blobs.put(config, lease.name)
            self.blobs.put(manifest, lease.name)
            with self.state.transaction():
                self._record(image_id, manifest, document, config, layers)
                for reference in references:
                    self._point(reference, image_id)
                self._write_index()
            lease.drop(
                {image_id, manifest_digest, *(digest for layer in layers for digest in (layer.blob, layer.diff_id))}
            )
        return self._images([image_id])[0]

    def manifest(self, image_id: str) -> Manifest:
        """The manifest that lists an image's blobs."""
        row = self.state.row("SELECT manifest, manifest_type FROM images WHERE id = ?", (image_id,))
        if row is None:
            raise self._not_found(image_id)
        return Manifest(row["manifest"], row["manifest_type"], self.blobs.json(row["manifest"]))

    def layer_refs(self, image: Image) -> list[LayerRef]:
        """An image's layers with their blobs, lowest first."""
        rows = self.state.rows(
            "SELECT diff_id, blob FROM image_layers WHERE image_id = ? ORDER BY position", (image.id,)
        )
        return [LayerRef(row["diff_id"], row["blob"], self.layers.size_bytes(row["diff_id"]) or 0) for row in rows]

    def note_digest(self, reference: Reference, digest: str, image_id: str, *, seen_at: float | None = None) -> None:
        """Remember by which digest a registry knows an image, now: `name@digest` finds it from then on.

        `seen_at` 0: no registry was asked, an archive says so.
        """
        self.state.execute(
            "INSERT INTO repo_digests (repository, digest, image_id, seen_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (repository, digest) DO UPDATE"
            " SET image_id = excluded.image_id, seen_at = max(seen_at, excluded.seen_at)",
            (reference.name, digest, image_id, time.time() if seen_at is None else seen_at),
        )

    def note_blob(self, reference: Reference, digest: str) -> None:
        """Remember that a registry's repository has a blob."""
        self.state.execute(
            "INSERT OR IGNORE INTO remote_blobs (digest, repository) VALUES (?, ?)", (digest, reference.name)
        )

    def repositories_with(self, digest: str, registry: str) -> list[str]:
        """The repositories of a registry that were seen to have a blob."""
        rows = self.state.rows("SELECT repository FROM remote_blobs WHERE digest = ? ORDER BY repository", (digest,))
        found = (row["repository"].partition("/") for row in rows)
        return [repository for host, _, repository in found if host == registry]

    def compressed(self, diff_id: str, compression: str) -> tuple[str, int] | None:
        """Digest and size of a layer's compressed form, where it was made before: making it again gives the same."""
        row = self.state.row(
            "SELECT digest, size_bytes FROM compressed_layers WHERE diff_id = ? AND compression = ?",
            (diff_id, compression),
        )
        return (row["digest"], row["size_bytes"]) if row else None

    def note_compressed(self, diff_id: str, compression: str, digest: str, size_bytes: int) -> None:
        """Remember a layer's compressed form."""
        self.state.execute(
            "INSERT OR REPLACE INTO compressed_layers (diff_id, compression, digest, size_bytes) VALUES (?, ?, ?, ?)",
            (diff_id, compression, digest, size_bytes),
        )

    def temporary_blob(self) -> BlobWriter:
        """A file beside the blobs, which goes with its block, or with the next collection after a kill."""
        return BlobWriter.temporary(self.blobs, self._leased().name)

    def repo_digests(self, image_id: str) -> list[str]:
        """The names by which registries know an image: `redis@sha256:…`."""
        rows = self.state.rows(
            "SELECT repository, digest FROM repo_digests WHERE image_id = ? ORDER BY repository, seen_at", (image_id,)
        )
        return [Reference.parse(f"{row['repository']}@{row['digest']}").familiar for row in rows]

    def seen_at(self, image_id: str, reference: str) -> float:
        """When a registry was last asked for an image by this name's repository and said so; 0 for never."""
        row = self.state.row(
            "SELECT max(seen_at) AS seen_at FROM repo_digests WHERE image_id = ? AND repository = ?",
            (image_id, Reference.parse(reference).name),
        )
        return float(row["seen_at"] or 0) if row else 0.0

    def tag(self, image_id: str, reference: str) -> None:
        """Give an image one more name; a name that another image had moves to this one."""
        familiar = _tag(reference)
        self.prepare()
        with self._adding(), self.state.transaction():
            found = self._image_id(image_id)
            if found is None:
                raise self._not_found(image_id)
            self._point(familiar, found)
            self._write_index()

    def remove(self, reference: str, *, force: bool = False) -> list[str]:
        """Remove a name; with its last name the image goes, and the layers that no other image has.

        Return what was done, as lines. Raise Conflict while containers use the image (with `force` only the name goes),
        and where an ID is given that has several names.
        """
        done = []
        with self.state.transaction():
            image_id = self._image_id(reference)
            if image_id is None:
                raise self._not_found(reference)
            tags = self._tags(image_id)
            named = _tag_or_none(reference)
            removed = [named] if named in tags else tags
            if len(removed) > 1 and not force:
                raise Conflict(
                    f"cannot remove image {_short(image_id)}: it has several names: {', '.join(tags)}",
                    hint="remove the names one by one, or use --force",
                )
            is_last = len(removed) == len(tags)
            users = self._users(image_id) if is_last else []
            if users and not (force and removed):
                raise Conflict(
                    f"cannot remove image {reference}: used by {', '.join(users)}",
                    hint="remove the container first" if len(users) == 1 else "remove the containers first",
                )
            for tag in removed:
                self.state.execute("DELETE FROM tags WHERE reference = ?", (tag,))
                done.append(f"untagged: {tag}")
            if is_last and not users:
                self.state.execute("DELETE FROM images WHERE id = ?", (image_id,))
                done.append(f"deleted: {image_id}")
            self._write_index()
        self.collect_garbage()
        return done

    def forget(self, image_id: str) -> list[str]:
        """Remove an image with all its names unless a container uses it; return what was done, as `remove` does.

        What it leaves behind goes with the next collection.
        """
        with self.state.transaction():
            if self._users(image_id):
                return []
            done = [f"untagged: {tag}" for tag in self._tags(image_id)]
            self.state.execute("DELETE FROM tags WHERE image_id = ?", (image_id,))
            if self.state.execute("DELETE FROM images WHERE id = ?", (image_id,)):
                done.append(f"deleted: {image_id}")
            self._write_index()
        return done

    def collect_garbage(self, *, keep_downloads: bool = False) -> int:
        """Delete blobs and layers that no image and no running command needs, and what killed ones left. Return the bytes freed.

        With `keep_downloads` an unfinished download of the last day stays, for the next pull to go on with.
        """
        if not os.path.isdir(self.blobs.ingest) or not os.path.isdir(self.layers.directory):
            return 0
        with locked(self._lock_path, exclusive=True):
            leases = live_leases(self._lease_directory)
            if self._lease is not None:
                leases.setdefault(self._lease.name, set())
            used = set().union(*leases.values()) | self._referenced()
            freed = self._sweep_blobs(used, leases)
            freed += clear_partial(self.blobs, KEPT_S if keep_downloads else 0.0)
            self._forget_blobs()
            trash = self.layers.abandoned(lambda owner: owner in leases)
            trash += [self.layers.trash(diff_id) for diff_id in self.layers.all() if diff_id not in used]
        for directory in trash:
            freed += disk_usage(directory)
            remove_tree(directory)
        return freed

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """A temporary directory on the layers' file system. It goes with the block, or with the next collection after a kill."""
        with self.layers.temporary(self._leased().name) as directory:
            yield directory

    def close(self) -> None:
        """Give up what was added and put in no image; the next collection takes it."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    @property
    def _lock_path(self) -> str:
        return os.path.join(self.paths.images, "lock")

    @property
    def _lease_directory(self) -> str:
        return os.path.join(self.paths.images, "leases")

    def _leased(self) -> Lease:
        if self._lease is None:
            self.prepare()
            if self._has_leftovers():
                self.collect_garbage(keep_downloads=True)
            self.layers.settle()
            with self._adding(), self._lease_made:
                self._lease = self._lease or Lease(self._lease_directory)
        return self._lease

    def _has_leftovers(self) -> bool:
        """Whether another command is adding something, or was killed while it did."""
        return os.path.isdir(self._lease_directory) and bool(os.listdir(self._lease_directory))

    @contextmanager
    def _adding(self) -> Iterator[None]:
        with locked(self._lock_path, exclusive=False):
            yield

    def _commit(
        self,
        writer: BlobWriter,
        unpacked: Unpacked,
        what: str,
        diff_id: str | None,
        blob: str | None,
        temporary: str | None = None,
    ) -> None:
        """Make a layer and its blob visible, under the lease."""
        if diff_id is not None and unpacked.diff_id != diff_id:
            raise InvalidInput(f"{what} does not match its digest: expected {diff_id}, got {unpacked.diff_id}")
        with self._adding():
            lease = self._leased_now()
            lease.hold(writer.digest)
            lease.hold(unpacked.diff_id)
            writer.commit(blob)
            if temporary is not None:
                self.layers.adopt(temporary, unpacked, writer.digest)

    def _leased_now(self) -> Lease:
        assert self._lease is not None
        return self._lease

    def _extract(self, diff_id: str) -> None:
        row = self.state.row("SELECT blob FROM image_layers WHERE diff_id = ?", (diff_id,))
        if row is None:
            raise NotFound(f"no layer {_short(diff_id)} in the image store")
        what = f"layer {_short(diff_id)}"
        lease = self._leased()
        with self.layers.making(diff_id), full_disk_explained(what, self.paths.root):
            if self.layers.has(diff_id):
                return
            with self.layers.temporary(lease.name) as temporary, self.blobs.open(row["blob"]) as file:
                unpacked = unpack(file, os.path.join(temporary, "fs"), None, what, lease=lease)
                if unpacked.diff_id != diff_id:
                    raise InvalidInput(
                        f"{what} in the image store is damaged", hint="remove the image and load it again"
                    )
                with self._adding():
                    self.layers.adopt(temporary, unpacked, row["blob"])

    def _manifest(self, config: bytes, layers: Sequence[LayerRef]) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": _digest(config), "size": len(config)},
            "layers": [
                {
                    "mediaType": self._layer_type(layer.blob),
                    "digest": layer.blob,
                    "size": self.blobs.size_bytes(layer.blob),
                }
                for layer in layers
            ],
        }

    def _layer_type(self, blob: str) -> str:
        with self.blobs.open(blob) as file:
            compression = detect(file.read(6))
        return LAYER_TYPE + (f"+{compression}" if compression else "")

    def _record(
        self, image_id: str, manifest: bytes, document: Mapping[str, Any], config: bytes, layers: Sequence[LayerRef]
    ) -> None:
        self.state.execute(
            "INSERT OR IGNORE INTO images"
            " (id, created_at, manifest, manifest_type, size_bytes, architecture, os, config)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                image_id,
                created_at(document),
                _digest(manifest),
                str(parse_json(manifest, "the image manifest").get("mediaType", MANIFEST_TYPE)),
                sum(layer.size_bytes for layer in layers),
                str(document.get("architecture", "")),
                str(document.get("os", "")),
                config.decode(),
            ),
        )
        for position, layer in enumerate(layers):
            self.state.execute(
                "INSERT OR IGNORE INTO image_layers (image_id, position, diff_id, blob) VALUES (?, ?, ?, ?)",
                (image_id, position, layer.diff_id, layer.blob),
            )

    def _point(self, reference: str, image_id: str) -> None:
        self.state.execute(
            "INSERT INTO tags (reference, image_id) VALUES (?, ?)"
            " ON CONFLICT (reference) DO UPDATE SET image_id = excluded.image_id",
            (reference, image_id),
        )

    def _write_index(self) -> None:
        """Repeat the database as the layout's index.json. Called within a transaction, so writers take turns."""
        rows = self.state.rows(
            "SELECT images.manifest, images.manifest_type, images.architecture, images.os, tags.reference FROM images"
            " LEFT JOIN tags ON tags.image_id = images.id ORDER BY images.created_at, images.id, tags.reference"
        )
        manifests = []
        for row in rows:
            if not self.blobs.has(row["manifest"]):
                continue  # damaged from outside; the other images need not suffer from it
            descriptor: dict[str, Any] = {
                "mediaType": row["manifest_type"],
                "digest": row["manifest"],
                "size": self.blobs.size_bytes(row["manifest"]),
                "platform": {"architecture": row["architecture"], "os": row["os"]},
            }
            if row["reference"]:
                reference = Reference.parse(row["reference"])
                descriptor["annotations"] = {
                    "io.containerd.image.name": str(reference),
                    "org.opencontainers.image.ref.name": row["reference"],
                }
            manifests.append(descriptor)
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
        replace_file(os.path.join(self.paths.images, "index.json"), to_json(index))

    def _images(self, ids: Sequence[str]) -> list[Image]:
        images = []
        for image_id in ids:
            row = self.state.row("SELECT * FROM images WHERE id = ?", (image_id,))
            if row is None:
                continue
            layers = self.state.rows(
                "SELECT diff_id FROM image_layers WHERE image_id = ? ORDER BY position", (image_id,)
            )
            images.append(
                Image(
                    id=image_id,
                    tags=tuple(self._tags(image_id)),
                    created_at=row["created_at"],
                    size_bytes=row["size_bytes"],
                    architecture=row["architecture"],
                    os=row["os"],
                    config=image_config(parse_json(row["config"].encode(), f"the configuration of {image_id}")),
                    layers=tuple(layer["diff_id"] for layer in layers),
                )
            )
        return images

    def _tags(self, image_id: str) -> list[str]:
        rows = self.state.rows("SELECT reference FROM tags WHERE image_id = ? ORDER BY reference", (image_id,))
        return [row["reference"] for row in rows]

    def _users(self, image_id: str) -> list[str]:
        rows = self.state.rows("SELECT name FROM containers WHERE image_id = ? ORDER BY name", (image_id,))
        return [f"container {row['name']}" for row in rows]

    def _image_id(self, reference: str) -> str | None:
        """A full ID, else a tag, else a manifest's digest, else the beginning of an ID."""
        if is_digest(reference):
            return self._by_digest(reference)
        prefix = reference.removeprefix("sha256:")
        is_prefix = 1 < len(prefix) <= 64 and not prefix.strip("0123456789abcdef")
        tag = None if reference.startswith("sha256:") else _parse_or_none(reference, strict=not is_prefix)
        if tag is not None and tag.digest is not None:
            return self._by_digest(tag.digest)
        if tag is not None:
            row = self.state.row("SELECT image_id FROM tags WHERE reference = ?", (tag.familiar,))
            if row is not None:
                return str(row["image_id"])
        return self._by_prefix(prefix) if is_prefix else None

    def _by_digest(self, digest: str) -> str | None:
        row = self.state.row(
            "SELECT id FROM images WHERE id = ? OR manifest = ? UNION SELECT image_id FROM repo_digests WHERE digest = ?",
            (digest, digest, digest),
        )
        return row["id"] if row else None

    def _by_prefix(self, prefix: str) -> str | None:
        rows = self.state.rows("SELECT id FROM images WHERE id GLOB ? LIMIT 2", (f"sha256:{prefix}*",))
        if len(rows) > 1:
            raise Conflict(f"image ID {prefix} is ambiguous", hint="give more digits of it")
        return rows[0]["id"] if rows else None

    def _not_found(self, reference: str) -> NotFound:
        import difflib

        names = [row["reference"] for row in self.state.rows("SELECT reference FROM tags")]
        wanted = _parse_or_none(reference, strict=False)
        shown = wanted.familiar if wanted is not None and not is_digest(reference) else reference
        close = difflib.get_close_matches(shown, names, n=1, cutoff=0.75)
        if close:
            hint = f"did you mean {close[0]!r}?"
        elif shown.startswith("debian:"):
            hint = f"make it with `umiak image bootstrap {shown}`"
        else:
            hint = "make it with `umiak build` or `umiak image bootstrap`, or bring it with `umiak image load`"
        return NotFound(f'no image "{shown}"', hint=hint)

    def _referenced(self) -> set[str]:
        used = {digest for row in self.state.rows("SELECT id, manifest FROM images") for digest in row}
        used.update(digest for row in self.state.rows("SELECT diff_id, blob FROM image_layers") for digest in row)
        return used

    def _forget_blobs(self) -> None:
        """Forget which registry has what of images that are gone."""
        self.state.execute("DELETE FROM compressed_layers WHERE diff_id NOT IN (SELECT diff_id FROM image_layers)")
        self.state.execute(
            "DELETE FROM remote_blobs WHERE digest NOT IN"
            " (SELECT blob FROM image_layers UNION SELECT digest FROM compressed_layers)"
        )

    def _sweep_blobs(self, used: set[str], leases: Mapping[str, set[str]]) -> int:
        freed = 0
        for digest in list(self.blobs.all()):
            if digest not in used:
                freed += self.blobs.size_bytes(digest)
                self.blobs.remove(digest)
        for name in os.listdir(self.blobs.ingest):
            if name.partition("-")[0] not in leases:
                os.unlink(os.path.join(self.blobs.ingest, name))
        return freed


def _tag(reference: str) -> str:
    """A reference that may be a tag, in its familiar form."""
    parsed = Reference.parse(reference)
    if parsed.digest is not None:
        raise InvalidInput(f"cannot use {reference!r} as a tag: it has a digest", hint="write name:tag")
    return parsed.familiar


def _tag_or_none(reference: str) -> str | None:
    parsed = _parse_or_none(reference, strict=False)
    return parsed.familiar if parsed is not None else None


def _parse_or_none(reference: str, *, strict: bool) -> Reference | None:
    try:
        return Reference.parse(reference)
    except InvalidInput:
        if strict:
            raise
        return None


def _lists(manifest: bytes, config: str, layers: Sequence[LayerRef]) -> bool:
    """Whether a manifest is of that configuration and those blobs."""
    document = parse_json(manifest, "the image manifest")
    listed = [layer.get("digest") for layer in document.get("layers", ())]
    return document.get("config", {}).get("digest") == config and listed == [layer.blob for layer in layers]


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _short(digest: str | None) -> str:
    return (digest or "").removeprefix("sha256:")[:_SHORT_ID]
