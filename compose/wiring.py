"""The only place that assembles an engine with its drivers."""

from __future__ import annotations

from engine.facade import Engine
from engine.paths import Paths
from engine.state import State
from networking.driver import BridgeNetworks
from volumes.driver import Volumes


def open_engine(*, warm: bool = False) -> Engine:
    """Open the engine of this user's directories.

    With `warm` the process that makes monitors comes up at once, in parallel with what the caller does next.
    """
    paths = Paths.from_environment()
    state = State(paths.database)
    engine = Engine(paths, state, BridgeNetworks(paths, state), Volumes(paths, state))
    if warm:
        engine.zygote()
    return engine
