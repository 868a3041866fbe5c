from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.rig import Rig
from tests.workshop import Workshop, opened


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Containers of the runtime alone, removed after the test. The path is short, as sockets lie below it."""
    made = Rig(Path(tempfile.mkdtemp(prefix="umiak-rig-")))
    yield made
    made.close()


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with opened(tmp_path) as made:
        yield made
