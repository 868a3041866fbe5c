"""All that a Dockerfile may refer to but does not hold, and what the caller lets it do."""

from __future__ import annotations

from dataclasses import field

from engine.frozen import frozen
from engine.images.build.bases import BaseImages
from engine.images.build.cancel import Cancellation
from engine.images.build.contexts import Contexts
from engine.images.build.download import Downloads

HOST_NETWORK = "network.host"
INSECURE = "security.insecure"
ENTITLEMENTS = (HOST_NETWORK, INSECURE)


@frozen
class Surroundings:
    """Sources of files and images, and rules. `network` is that of RUN unless a RUN says otherwise.

    `no_cache_filter` names stages, in lower case, that are made anew. `downloads` and git are asked only where ADD needs them.
    """

    contexts: Contexts
    bases: BaseImages
    downloads: Downloads
    cancellation: Cancellation = field(default_factory=Cancellation)
    network: str = "default"
    entitlements: frozenset[str] = frozenset()
    no_cache_filter: frozenset[str] = frozenset()
