"""How long tests wait for what must happen. On a slow machine (one that is emulated, `make vm-test`) all waits are longer."""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("UMIAK_TEST_PATIENCE") or 1)
"""What to multiply a limit by that holds on an ordinary machine."""
