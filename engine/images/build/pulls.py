"""What a build tells while it fetches a base image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.images.build.events import BuildEvent

if TYPE_CHECKING:
    from engine.images.registry.events import Transfer


@contextmanager
def told(reference: str, progress: Callable[[BuildEvent], None]) -> Iterator[Callable[[Transfer], None]]:
    """Tell that an image is pulled, how far it is, and how long it took; gives what takes the news of the pull."""
    begun = time.monotonic()
    layers: dict[str, tuple[int, int]] = {}

    def take(transfer: Transfer) -> None:
        if transfer.state in ("warning", "retrying"):
            progress(BuildEvent("warning", "", 0, 0, transfer.message, ""))
        elif transfer.id and transfer.total:
            layers[transfer.id] = transfer.done, transfer.total
            done, total = (sum(amounts) for amounts in zip(*layers.values(), strict=True))
            text = f"pulling {reference} {done / 1e6:.1f}/{total / 1e6:.1f} MB"
            progress(BuildEvent("transfer", "", 0, 0, text, ""))

    progress(BuildEvent("pulling", "", 0, 0, f"pulling {reference}", ""))
    yield take
    progress(BuildEvent("pulled", "", 0, 0, f"pulled {reference}", "", time.monotonic() - begun))
