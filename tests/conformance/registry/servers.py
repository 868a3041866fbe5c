"""Debian's docker-registry on loopback: open, with a password file, or with a token server of our own."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "maria", "geheim:1"
_HTPASSWD = "maria:$2b$04$aZf8XCoSe4w2Pp42HjkQPu7XJV7EbCJrwY6KCipScyQQaL0Sfq9/K\n"


@contextmanager
def docker_registry(directory: Path, auth: str = "") -> Iterator[str]:
    """A docker-registry with its data in a directory; gives `127.0.0.1:port`. `auth` is YAML for its `auth:` key."""
    port = _free_port()
    config = directory / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: secret}}\n{auth}"
    )
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait_until_it_answers(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def with_passwords(directory: Path) -> str:
    """The `auth:` of a registry that wants a name and password."""
    (directory / "htpasswd").write_text(_HTPASSWD)
    return f"auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"


class TokenServer:
    """Gives tokens for what is asked: anybody may pull `public/…`, the user everything. `asked` notes (user, scopes)."""

    def __init__(self, directory: Path) -> None:
        self.key, self.certificate = directory / "key.pem", directory / "certificate.pem"
        subprocess.run(
            f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=tokens -days 2 -keyout {self.key} -out {self.certificate}",
            shell=True,
            check=True,
            capture_output=True,
        )
        self.asked: list[tuple[str, list[str]]] = []
        self.life_s = 300
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                status, body = owner.answer(self.headers.get("Authorization", ""), query.get("scope", []))
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def auth(self) -> str:
        """The `auth:` of a registry that believes this server."""
        realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        return f"auth: {{token: {{realm: '{realm}', service: test, issuer: tokens, rootcertbundle: {self.certificate}}}}}\n"

    def answer(self, authorization: str, scopes: list[str]) -> tuple[int, dict[str, Any]]:
        user = ""
        if authorization.startswith("Basic "):
            user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
            if (user, password) != (USER, PASSWORD):
                return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong name or password"}]}
        self.asked.append((user, scopes))
        access = [self._access(user, scope) for scope in scopes]
        return 200, {
            "token": self._token(user, [entry for entry in access if entry["actions"]]),
            "expires_in": self.life_s,
        }

    def _access(self, user: str, scope: str) -> dict[str, Any]:
        kind, name, actions = scope.split(":")
        allowed = actions.split(",") if user else ["pull"] if name.startswith("public/") else []
        return {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action in allowed]}

    def _token(self, user: str, access: list[dict[str, Any]]) -> str:
        der = subprocess.run(
            ["openssl", "x509", "-in", str(self.certificate), "-outform", "DER"], check=True, capture_output=True
        ).stdout
        now = int(time.time())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {"iss": "tokens", "sub": user, "aud": "test", "exp": now + self.life_s, "nbf": now - 60, "iat": now}
        signed = f"{_part(header)}.{_part(claims | {'jti': str(time.time_ns()), 'access': access})}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.key)],
            input=signed.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "docker-registry ended"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5).close()
            return
        except HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("docker-registry does not answer")
