"""The images that a build starts from or copies from: those in the store, and those that can be pulled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import NotFound, UmiakError

if TYPE_CHECKING:
    from engine.images.store import ImageStore
    from engine.types import Image

Pull = Callable[[str], "Image"]


class BaseImages:
    """Finds images by reference, each once. `pull` fetches one from its registry; with `always` even if the store has it."""

    def __init__(self, store: ImageStore, pull: Pull | None = None, *, always: bool = False) -> None:
        self._store = store
        self._pull = pull
        self._always = always
        self._found: dict[str, Image] = {}
        self._lock = threading.Lock()

    def find(self, reference: str, *, local: bool = False) -> Image:
        """The image of that name. `local` says that it was made here: it is never pulled. Raise NotFound."""
        with self._lock:
            if reference not in self._found:
                self._found[reference] = self._resolve(reference, local)
            return self._found[reference]

    def _resolve(self, reference: str, local: bool) -> Image:
        if self._pull is None or local:
            return self._store.resolve(reference)
        if self._always and not reference.startswith("sha256:"):
            return self._pull(reference)
        try:
            return self._store.resolve(reference)
        except NotFound as missing:
            return self._pulled(reference, missing)

    def _pulled(self, reference: str, missing: NotFound) -> Image:
        assert self._pull is not None
        try:
            return self._pull(reference)
        except UmiakError as error:
            error.hint = error.hint or missing.hint
            raise
