"""The canonical Compose project as frozen pydantic models. Read `project.py` first, then `service.py`."""
