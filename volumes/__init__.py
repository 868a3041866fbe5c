"""Named volumes, binds and tmpfs behind `engine.ports.VolumeDriver`. Read `driver.py` first."""
