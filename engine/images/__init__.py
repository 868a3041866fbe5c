"""Content-addressed images: store, layers, archives, bootstrap and builder. Read `store.py` first."""
