"""In what turns providers are called: after the providers and the containers that they depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from compose.verdicts import with_dependencies

if TYPE_CHECKING:
    from compose.desired import Desired
    from compose.plan import Provider


def turns(desired: Desired, providers: Iterable[Provider]) -> Iterator[tuple[list[Provider], tuple[str, ...]]]:
    """Groups of providers that can be called at once, each with the services whose containers must be ready before."""
    left = list(providers)
    while left:
        group = [one for one in left if not any(_comes_before(desired, other, one) for other in left)] or left
        needed = dict.fromkeys(name for one in group for name in one.after if name in desired.services)
        yield group, tuple(needed)
        left = [one for one in left if one not in group]


def _comes_before(desired: Desired, other: Provider, one: Provider) -> bool:
    """Whether a provider needs another one, or containers that do."""
    needed = with_dependencies(desired, [name for name in one.after if name in desired.services])
    return other.service in one.after or bool(needed & set(other.needed_by))
