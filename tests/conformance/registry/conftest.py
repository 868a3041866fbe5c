from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.images.registry.credentials import CredentialStore
from engine.images.registry.events import Transfer
from engine.images.registry.pull import pull
from engine.images.registry.settings import Settings
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State
from engine.types import Image
from tests.conformance.registry.fake import FakeRegistry

QUICK = Settings(timeout_s=1.0, connect_timeout_s=2.0, attempts=4, backoff_s=0.01, longest_wait_s=5.0)


class Client:
    """A store of its own, and pulls into it that do not wait long. `told` is what they reported."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        paths = Paths(str(directory / "root"), str(directory / "run"))
        self.store = ImageStore(paths, State(paths.database))
        self.settings = QUICK
        self.credentials = CredentialStore(str(directory / "docker"))
        self.told: list[Transfer] = []

    def set(self, **changes: Any) -> None:
        self.settings = dataclasses.replace(self.settings, **changes)

    def pull(self, reference: str, **options: Any) -> Image:
        options = {"settings": self.settings, "credentials": self.credentials, "progress": self.told.append} | options
        return pull(self.store, reference, **options)

    def states(self) -> set[str]:
        return {transfer.state for transfer in self.told}

    def leftovers(self) -> list[str]:
        """What a failed pull must not leave, unfinished downloads apart."""
        found = [image.id for image in self.store.all()]
        if not os.path.isdir(self.store.blobs.ingest):
            return found
        self.store.close()
        self.store.collect_garbage(keep_downloads=True)
        found += [name for name in os.listdir(self.store.layers.directory) if name != ".lock"]
        return found + os.listdir(self.store.blobs.ingest) + list(self.store.blobs.all())

    def unfinished(self) -> list[str]:
        directory = self.store.blobs.downloads
        return os.listdir(directory) if os.path.isdir(directory) else []


@pytest.fixture
def new_client(tmp_path: Path) -> Iterator[Callable[[str], Client]]:
    made: list[Client] = []

    def new(name: str) -> Client:
        made.append(Client(tmp_path / name))
        return made[-1]

    yield new
    for client in made:
        client.store.close()
        client.store.state.close()


@pytest.fixture
def client(new_client: Callable[[str], Client], monkeypatch: pytest.MonkeyPatch) -> Client:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return new_client("client")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    made = FakeRegistry()
    yield made
    made.close()
