"""The systemd unit that runs `umiak boot` when the machine starts."""

from __future__ import annotations

import os
import sys

PATH = "etc/systemd/system/umiak.service"
"""Where it goes, below the root directory."""

_TEXT = """\
[Unit]
Description=Containers of Umiak whose restart policy asks for it
Wants=network-online.target
After=network-online.target local-fs.target

[Service]
Type=oneshot
# Containers outlive the command that starts them, and are not to end when this unit does.
RemainAfterExit=yes
KillMode=process
TimeoutStartSec=infinity
{environment}ExecStart="{command}" boot

[Install]
WantedBy=multi-user.target
"""


def unit() -> str:
    """The unit's text, for the command and the directories that are in use now."""
    kept = ((name, os.environ.get(name)) for name in ("UMIAK_ROOT", "UMIAK_RUN"))
    environment = "".join(f'Environment="{name}={value}"\n' for name, value in kept if value)
    return _TEXT.format(environment=environment, command=os.path.abspath(sys.argv[0])).replace("%", "%%")


def install(root: str) -> str:
    """Write the unit below a root directory, in place of an older one; return its path."""
    path = os.path.join(root, PATH)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.new", "w") as file:
        file.write(unit())
    os.replace(f"{path}.new", path)
    return path
