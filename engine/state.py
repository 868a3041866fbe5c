"""The engine's database: what must be unique or transactional across processes.

One SQLite file in WAL mode. Any number of commands open it at once; each keeps its transactions short. The parts that own
a table write their own SQL through `State`; the schema has its one home here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine import reserve
from engine.errors import Unavailable, Unsupported

BUSY_TIMEOUT_S = 20.0

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    -- `desired` is what the user last asked for: created, running or stopped, or retired for good. `rootfs` is empty, or the
    -- JSON of a root file system that is not an image's (a build step).
    CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at REAL NOT NULL, image_id TEXT NOT NULL,
        desired TEXT NOT NULL, spec TEXT NOT NULL, argv TEXT NOT NULL, volumes TEXT NOT NULL, rootfs TEXT NOT NULL,
        removing INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE container_labels (
        container_id TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE, key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (container_id, key)
    ) WITHOUT ROWID;
    CREATE INDEX container_labels_by_value ON container_labels (key, value);

    CREATE TABLE networks (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at REAL NOT NULL, spec TEXT NOT NULL,
        subnet TEXT NOT NULL UNIQUE, gateway TEXT NOT NULL, link TEXT NOT NULL UNIQUE, next_host INTEGER NOT NULL DEFAULT 2,
        removing INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE leases (
        container_id TEXT NOT NULL, network_id TEXT NOT NULL REFERENCES networks(id), position INTEGER NOT NULL,
        ipv4_address TEXT NOT NULL, mac_address TEXT NOT NULL, link TEXT NOT NULL UNIQUE, ifname TEXT NOT NULL,
        aliases TEXT NOT NULL,
        PRIMARY KEY (container_id, network_id), UNIQUE (network_id, ipv4_address)
    ) WITHOUT ROWID;

    CREATE TABLE volumes (
        name TEXT PRIMARY KEY, created_at REAL NOT NULL, spec TEXT NOT NULL, anonymous INTEGER NOT NULL,
        removing INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE volume_uses (
        volume_name TEXT NOT NULL, container_id TEXT NOT NULL, PRIMARY KEY (volume_name, container_id)
    ) WITHOUT ROWID;

    -- An image is its configuration blob, and `manifest` is the digest of the manifest blob that lists its layer blobs.
    CREATE TABLE images (
        id TEXT PRIMARY KEY, created_at REAL NOT NULL, manifest TEXT NOT NULL, size_bytes INTEGER NOT NULL,
        architecture TEXT NOT NULL, os TEXT NOT NULL, config TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE tags (reference TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id)) WITHOUT ROWID;
    CREATE TABLE image_layers (
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, position INTEGER NOT NULL, diff_id TEXT NOT NULL,
        blob TEXT NOT NULL, PRIMARY KEY (image_id, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layers_by_diff ON image_layers (diff_id);
    CREATE TABLE build_cache (
        key TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, used_at REAL NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL);
    """,
    """
    -- What registries call our images, and what they are known to have. `repository` begins with the registry.
    ALTER TABLE images ADD COLUMN manifest_type TEXT NOT NULL DEFAULT 'application/vnd.oci.image.manifest.v1+json';
    CREATE TABLE repo_digests (
        repository TEXT NOT NULL, digest TEXT NOT NULL, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        seen_at REAL NOT NULL, PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID;
    CREATE TABLE remote_blobs (
        digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository)
    ) WITHOUT ROWID;
    -- Layers that we keep uncompressed, as we push them.
    CREATE TABLE compressed_layers (
        diff_id TEXT NOT NULL, compression TEXT NOT NULL, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL,
        PRIMARY KEY (diff_id, compression)
    ) WITHOUT ROWID;
    """,
    """
    -- Events are in a file now, which monitors can write too: `engine.runtime.journal`.
    DROP TABLE events
    """,
)


class State:
    """The open database. Safe to share between threads: one connection, one lock around each use."""

    def __init__(self, path: str) -> None:
        self._lock = threading.RLock()
        self._path = path
        os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
        self._reserve = f"{path}.reserve"
        try:
            self._open(path)
        except sqlite3.Error as error:
            if not reserve.use(self._reserve):
                raise explained(error, path) from error
            self._open(path)
        os.chmod(path, 0o600)
        reserve.keep(self._reserve)

    def _open(self, path: str) -> None:
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._migrate(path)

    def make_room(self) -> None:
        """Let what removes something write, even if the disk is full."""
        reserve.use(self._reserve)

    def _migrate(self, path: str) -> None:
        if self._version() == len(MIGRATIONS):
            return
        with self.transaction():
            version = self._version()
            if version > len(MIGRATIONS):
                raise Unsupported(
                    f"{path} was written by a newer umiak (schema {version}, this one knows {len(MIGRATIONS)})",
                    hint="upgrade umiak, or set UMIAK_ROOT to another directory",
                )
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[State]:
        """Hold the write lock of the database for a block; undo all of it if the block raises. Blocks nest."""
        with self._lock:
            if self._db.in_transaction:
                yield self
                return
            try:
                # Within: Ctrl-C may be noticed as late as when this has succeeded.
                self._run("BEGIN IMMEDIATE")
                yield self
                self._run("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed. `sqlite3.IntegrityError` passes through."""
        with self._lock:
            return self._run(sql, parameters)[0]

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._run(sql, parameters)[1]

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a query."""
        with self._lock:
            found = self._run(sql, parameters)[1]
            return found[0] if found else None

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[int, list[sqlite3.Row]]:
        """The number of rows changed, the rows found."""
        try:
            cursor = self._db.execute(sql, parameters)
            return cursor.rowcount, cursor.fetchall()
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()


def explained(error: sqlite3.Error, path: str) -> Unavailable:
    """What is the matter with the database, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return Unavailable(
            f"cannot write the engine's database {path}: no space left",
            hint="free some space, or set UMIAK_ROOT to a directory on a larger disk",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Unavailable(
            f"the engine's database {path} is damaged: {error}",
            hint=f"put a copy of it back, or `mv {path} {path}.damaged` and start anew: volumes keep their "
            "content, and `umiak system prune` ends the containers that it knew",
        )
    if code == sqlite3.SQLITE_BUSY:
        return Unavailable(
            f"cannot write the engine's database {path}: another command has held it for {BUSY_TIMEOUT_S:g} s",
            hint=f"see which: fuser {path}",
        )
    if os.path.exists(path) and os.statvfs(path).f_flag & os.ST_RDONLY:
        return Unavailable(
            f"cannot open the engine's database {path}: its file system is read-only",
            hint="see `dmesg` for why, and mount it for writing again",
        )
    return Unavailable(f"cannot use the engine's database {path}: {error}")
