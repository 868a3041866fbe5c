"""What all models share: they are frozen, they know nothing but their fields, and they keep `x-` keys aside."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Bytes", "Extensible", "Model"]

Bytes = int
"""A size in bytes; `config` prints it as a decimal string."""


class Model(BaseModel):
    """A frozen part of the project. Attributes bear the names of the Compose specification, in Docker's order."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=())


class Extensible(Model):
    """A part that may carry keys of the user's own."""

    extensions: dict[str, Any] = {}
    """Keys that start with `x-`, as they stand in the file."""
