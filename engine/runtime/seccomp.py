"""stub"""

from __future__ import annotations

from typing import Any


def from_config(profile: dict[str, Any] | None, settings: dict[str, Any]) -> bytes | None:
    return None
