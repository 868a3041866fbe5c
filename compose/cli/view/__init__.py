"""Renderers of the event stream: `plain` (one line for each change), `tty` (a live region), `jsonlines`, and none."""
