"""Which images a list shows or a prune takes: Docker's filters."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Iterable, Sequence

from engine.errors import InvalidInput
from engine.images.config import created_at
from engine.images.reference import Reference
from engine.images.store import ImageStore
from engine.types import Image

Test = Callable[[Image], bool]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def select(store: ImageStore, filters: Sequence[str] = ()) -> list[Image]:
    """The images that pass all filters (`key=value` each), newest first. Of one key several, any of them will do.

    Keys: `dangling`, `reference` (a pattern), `label`, `before` and `since` (an image), `until` (an age or a time).
    """
    tests: dict[str, list[Test]] = {}
    for key, value in map(_split, filters):
        tests.setdefault(key, []).append(_TESTS[key](store, value))
    return [image for image in store.all() if all(any(test(image) for test in each) for each in tests.values())]


def carries(labels: dict[str, str], wanted: Iterable[str]) -> bool:
    """Whether the labels have each of `key` or `key=value`."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def moment(text: str) -> float:
    """A time in seconds since the epoch: `24h` or `1h30m` ago, an RFC 3339 time, or seconds. Raise InvalidInput."""
    parts = re.fullmatch(r"(?:\d+(?:\.\d+)?[smhdw])+", text)
    if parts:
        return time.time() - sum(float(n) * _UNITS[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text))
    if re.fullmatch(r"\d{9,11}(?:\.\d+)?", text):
        return float(text)
    try:
        return created_at({"created": text})
    except InvalidInput as error:
        raise InvalidInput(f"cannot read {text!r} as a time", hint="write 24h, or 2026-01-31T12:00:00") from error


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in _TESTS:
        raise InvalidInput(f"cannot read the filter {text!r}", hint=f"KEY=VALUE with KEY one of: {', '.join(_TESTS)}")
    return key, value


def _dangling(_store: ImageStore, value: str) -> Test:
    if value.lower() not in _TRUE + _FALSE:
        raise InvalidInput(f"cannot read the filter dangling={value}", hint="use true or false")
    wanted = value.lower() in _TRUE
    return lambda image: (not image.tags) == wanted


def _reference(_store: ImageStore, value: str) -> Test:
    return lambda image: any(matches_reference(tag, value) for tag in image.tags)


def matches_reference(tag: str, pattern: str) -> bool:
    """Whether a name is meant by a pattern with or without a tag, short or in full."""
    name = Reference.parse(tag)
    return any(_matches(text, pattern) for text in (name.familiar, name.familiar.rpartition(":")[0], str(name)))


def _matches(name: str, pattern: str) -> bool:
    """Shell patterns whose `*` stays within one part of a path, as in Go's path.Match."""
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _label(_store: ImageStore, value: str) -> Test:
    return lambda image: carries(dict(image.config.labels), [value])


def _before(store: ImageStore, value: str) -> Test:
    limit = store.resolve(value).created_at
    return lambda image: image.created_at < limit


def _since(store: ImageStore, value: str) -> Test:
    limit = store.resolve(value).created_at
    return lambda image: image.created_at > limit


def _until(_store: ImageStore, value: str) -> Test:
    limit = moment(value)
    return lambda image: image.created_at < limit


_TESTS: dict[str, Callable[[ImageStore, str], Test]] = {
    "dangling": _dangling,
    "reference": _reference,
    "label": _label,
    "before": _before,
    "since": _since,
    "until": _until,
}
