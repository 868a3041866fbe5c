"""A registry of our own on loopback that can be told to misbehave. Pulls and uploads as the distribution specification has them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OCI = "application/vnd.oci.image"
MANIFEST = f"{OCI}.manifest.v1+json"
INDEX = f"{OCI}.index.v1+json"

Hook = Callable[["Handler"], bool]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def packed(data: bytes) -> bytes:
    """gzip, always to the same bytes."""
    return gzip.compress(data, 1, mtime=0)


def layer_tar(name: str = "file", data: bytes = b"content") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _do(self) -> None:
        registry = self.server.registry
        registry.requests.append((self.command, self.path, dict(self.headers)))
        for hook in tuple(registry.hooks):
            if hook(self):
                return
        registry.answer(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _do

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, code: str, message: str = "", **headers: str) -> None:
        self.reply(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), **headers)

    def drop(self) -> None:
        """End the connection as it is."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(2)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, registry: FakeRegistry) -> None:
        self.registry = registry
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class FakeRegistry:
    """`requests` notes what was asked; a hook that returns True has answered. `user` (name, password) makes it want tokens."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.hooks: list[Hook] = []
        self._server = Server(self)
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self, method: str, pattern: str) -> list[dict[str, str]]:
        """The headers of the requests of that kind."""
        return [headers for verb, path, headers in self.requests if verb == method and re.search(pattern, path)]

    def add_blob(self, data: bytes) -> dict[str, Any]:
        self.blobs[sha256(data)] = data
        return {"digest": sha256(data), "size": len(data)}

    def add_manifest(self, document: dict[str, Any], media_type: str, *names: str, repository: str = "app") -> str:
        data = json.dumps(document).encode()
        for name in (*names, sha256(data)):
            self.manifests[repository, name] = data, media_type
        return sha256(data)

    def add_image(
        self,
        *tars: bytes,
        tag: str = "1",
        repository: str = "app",
        architecture: str = "amd64",
        pack: Callable[[bytes], bytes] = packed,
        suffix: str = "+gzip",
    ) -> str:
        """An image of these layers; return its manifest's digest."""
        tars = tars or (layer_tar(),)
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["run"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in tars]},
        }
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": f"{OCI}.config.v1+json", **self.add_blob(json.dumps(config).encode())},
            "layers": [{"mediaType": f"{OCI}.layer.v1.tar{suffix}", **self.add_blob(pack(tar))} for tar in tars],
        }
        return self.add_manifest(document, MANIFEST, tag, repository=repository)

    def answer(self, handler: Handler) -> None:
        path = handler.path.partition("?")[0]
        if path == "/v2/":
            handler.reply(200, b"{}")
        elif match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            self._manifest(handler, match[1], match[2])
        elif match := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", path):
            self._blob(handler, match[2])
        else:
            handler.error(404, "NOT_FOUND")

    def _manifest(self, handler: Handler, repository: str, name: str) -> None:
        found = self.manifests.get((repository, name))
        if found is None:
            handler.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        else:
            handler.reply(200, found[0], Content_Type=found[1], Docker_Content_Digest=sha256(found[0]))

    def _blob(self, handler: Handler, digest: str) -> None:
        data = self.blobs.get(digest)
        start = handler.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        if data is None:
            handler.error(404, "BLOB_UNKNOWN", "blob unknown")
        elif not start:
            handler.reply(200, data)
        else:
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            handler.reply(206, data[int(start) :], Content_Range=span)
