"""The only place that assembles an engine with its drivers."""

from __future__ import annotations

import sys

from engine.facade import Engine
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State
from networking.driver import BridgeNetworks
from networking.links import LinkWorker
from volumes.driver import Volumes


def open_engine(*, warm: bool = False) -> Engine:
    """Open the engine of this user's directories.

    With `warm` the processes that a start will need come up at once, in parallel with what the caller does next.
    """
    paths = Paths.from_environment()
    state = State(paths.database)
    is_import_awaited = warm and "pyroute2" not in sys.modules
    networks = BridgeNetworks(paths, state, LinkWorker.spawn() if is_import_awaited else None)
    engine = Engine(paths, state, ImageStore(paths, state), networks, Volumes(paths, state))
    if warm:
        engine.zygote()
    return engine
