"""From Compose files to a `Project`, one module per phase. Read `load.py` first, then `docs/loading.md`."""
