from __future__ import annotations

from compose.builds import told as as_event
from compose.cli.view.plain import line_of
from engine.events import Event
from engine.images.build.events import BuildEvent
from engine.images.build.pulls import told
from engine.images.registry.events import Transfer


def test_a_build_tells_which_image_it_fetches_how_far_it_is_and_how_long_it_took() -> None:
    events: list[BuildEvent] = []
    with told("debian:12", events.append) as take:
        take(Transfer("", "resolving"))
        take(Transfer("a", "downloading", 1_000_000, 3_000_000))
        take(Transfer("b", "done", 2_000_000, 2_000_000))
        take(Transfer("", "retrying", message="trying again in 1 s"))
    assert [(event.kind, event.text) for event in events] == [
        ("pulling", "pulling debian:12"),
        ("transfer", "pulling debian:12 1.0/3.0 MB"),
        ("transfer", "pulling debian:12 3.0/5.0 MB"),
        ("warning", "trying again in 1 s"),
        ("pulled", "pulled debian:12"),
    ]
    lines = [line_of(Event("build", state, "app", data=data)) for state, data in map(as_event, events)]
    assert lines[:4] == [" Image app  pulling debian:12", "", "", "warning: trying again in 1 s"]
    assert lines[4].startswith(" Image app  pulled debian:12  0.0")
