"""A Compose file in, a running project out; the command line. Read `orchestrator.py` first."""
