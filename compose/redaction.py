"""`config --redact`: a project without the values that may be secret, to be shown to others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from compose.origins import ENV_FILE, Finder, Path
from compose.spec.interpolate import is_secret
from compose.spec.load import LoadOptions
from compose.spec.yamltext import Sorted

REDACTED = "<redacted>"
_CREDENTIALS = re.compile(r"(?<=://)([^/?#@\s]+)@")


def redaction(options: LoadOptions) -> Callable[[Any], Any]:
    """What hides, in the data of the project that the options describe, all that may be secret.

    That is: what stands under a name that says so, what comes from an env file, what a variable with such a name was
    replaced with, the contents of secrets, and user names and passwords in URLs.
    """
    finder = Finder(options)

    def hide(node: Any, path: Path = ()) -> Any:
        if isinstance(node, dict):
            copy = {key: hide(value, (*path, key)) for key, value in node.items()}
            return Sorted(copy) if isinstance(node, Sorted) else copy
        if isinstance(node, list):
            return [hide(item, (*path, index)) for index, item in enumerate(node)]
        return _hidden(node, path, finder) if isinstance(node, str) and node else node

    return hide


def _hidden(text: str, path: Path, finder: Finder) -> str:
    if is_secret(str(path[-1])) or (path[0] == "secrets" and path[-1] == "content"):
        return REDACTED
    origin = finder.origin(path, text)
    if origin.how == ENV_FILE:
        return REDACTED
    for value in map(finder.value, filter(is_secret, origin.variables)):
        if not value:
            return REDACTED  # a default of the file's
        text = text.replace(value, REDACTED)
    return _CREDENTIALS.sub(f"{REDACTED}@", text)
