"""Where a build takes files and images from beside its Dockerfile: the context, and further ones by name.

A named context is a directory, a repository, an archive on a server, an image (`docker-image://`), or an image in a layout
(`oci-layout://`). In FROM and --from its name goes before those of stages and images.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from engine.errors import InvalidInput, NotFound, UmiakError, Unsupported
from engine.images.build.context import Context, open_context
from engine.images.build.download import is_url
from engine.images.build.git import is_git

if TYPE_CHECKING:
    from engine.images.build.bases import BaseImages
    from engine.images.build.download import Downloads
    from engine.images.store import ImageStore
    from engine.types import Image

IMAGE_SCHEME = "docker-image://"
BUILT_SCHEME = "built-image://"
LAYOUT_SCHEME = "oci-layout://"


class Contexts:
    """The contexts of one build, each opened when it is first asked for. Use it as a context manager."""

    def __init__(
        self,
        main: Context,
        named: Mapping[str, str],
        store: ImageStore,
        bases: BaseImages,
        scratch: str,
        downloads: Downloads,
    ) -> None:
        self.main = main
        self._named = {name.lower(): value for name, value in named.items()}
        self._store = store
        self._bases = bases
        self._scratch = scratch
        self._downloads = downloads
        self._opened: dict[str, Context | Image] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Contexts:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def named(self, name: str) -> Context | Image | None:
        """The context of that name; None where there is none."""
        name = name.lower()
        value = self._named.get(name)
        if value is None:
            return None
        if name not in self._opened:
            try:
                self._opened[name] = self._open(value)
            except UmiakError as error:
                error.message = f"context {name!r}: {error.message}"
                raise
        return self._opened[name]

    def _open(self, value: str) -> Context | Image:
        if value.startswith(IMAGE_SCHEME):
            return self._bases.find(value.removeprefix(IMAGE_SCHEME))
        if value.startswith(BUILT_SCHEME):
            return self._bases.find(value.removeprefix(BUILT_SCHEME), local=True)
        if value.startswith(LAYOUT_SCHEME):
            return self._layout(value.removeprefix(LAYOUT_SCHEME))
        if value.startswith("service:"):
            raise Unsupported(f"{value} is known to Compose alone", hint="build with `umiak build`")
        if is_git(value):
            from engine.images.build import git

            source = git.find(value, self._downloads.cancellation)
            value = self._stack.enter_context(git.checked_out(source, self._scratch, self._downloads.cancellation))
        elif is_url(value):
            from engine.images.build.archivecontext import unpacked

            value = self._stack.enter_context(unpacked(value, self._downloads, self._scratch))
        context = open_context(os.path.abspath(value), None)
        self._stack.callback(context.close)
        return context

    def _layout(self, text: str) -> Image:
        """An image of a layout: `path`, `path:tag` or `path@digest`."""
        from engine.images.archive import load_one

        path, at, wanted = text.partition("@")
        if not at and not os.path.exists(path):
            path, _, wanted = path.rpartition(":")
        if not os.path.exists(path):
            raise NotFound(f"there is no image layout {text}")
        if not wanted and not os.path.isdir(path):
            raise InvalidInput(f"{text} is not a directory")
        return load_one(self._store, path, wanted or None)
