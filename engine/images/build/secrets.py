"""Secrets of a build: what a caller hands over for `RUN --mount=type=secret`. They reach neither layers nor cache keys."""

from __future__ import annotations

import os
from dataclasses import field

from engine.errors import InvalidInput, NotFound
from engine.frozen import frozen
from engine.images.build.context import explained

MAX_SECRET_BYTES = 500 << 10


@frozen
class Secret:
    """A secret's value: a file, or a text that the caller has read already."""

    file: str | None = None
    text: str | None = field(default=None, repr=False)

    def read(self, name: str) -> bytes:
        """The value. Raise NotFound or Denied where its file cannot be read."""
        if self.file is None:
            return (self.text or "").encode()
        try:
            with open(self.file, "rb") as file:
                data = file.read(MAX_SECRET_BYTES + 1)
        except FileNotFoundError as error:
            raise NotFound(f"secret {name!r}: there is no {self.file}") from error
        except OSError as error:
            raise explained(error, f"cannot read secret {name!r}") from error
        if len(data) > MAX_SECRET_BYTES:
            raise InvalidInput(f"secret {name!r} is larger than {MAX_SECRET_BYTES >> 10} KiB")
        return data


def read_option(text: str) -> tuple[str, Secret]:
    """Read `--secret id=name[,src=file|,env=VARIABLE]`; without a source a variable of that name, else a file of it."""
    words = dict(word.partition("=")[::2] for word in text.split(","))
    unknown = set(words) - {"id", "src", "source", "env", "type"}
    name = words.get("id", "")
    if unknown or not name:
        raise InvalidInput(f'cannot read "{text}" as a secret', hint="for example --secret id=token,src=token.txt")
    path, variable = words.get("src") or words.get("source"), words.get("env")
    kind = words.get("type")
    if variable is None and kind == "env":
        variable, path = path or name, None
    if variable is None and path is None and kind != "file" and name in os.environ:
        variable = name
    if variable is not None:
        if variable not in os.environ:
            raise NotFound(f"secret {name!r}: the variable {variable} is not set")
        return name, Secret(text=os.environ[variable])
    return name, Secret(file=os.path.abspath(path or name))
