"""Images, containers, state and events; knows nothing of Compose. Read `facade.py` first."""
