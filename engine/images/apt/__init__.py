"""Enough of apt to fetch a Debian root: sources, signed indexes, dependencies, packages. Read `archive.py` first."""
