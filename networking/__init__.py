"""Bridges, addresses, names and published ports behind `engine.ports.NetworkDriver`. Read `driver.py` first."""
