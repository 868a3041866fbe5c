"""Where the engine keeps things: one root directory on disk, one run directory on tmpfs."""

from __future__ import annotations

import os


class Paths:
    """The two directories and what lies in them. `root` survives a reboot, `run` does not."""

    __slots__ = ("root", "run")

    def __init__(self, root: str, run: str) -> None:
        self.root = root
        self.run = run

    @classmethod
    def from_environment(cls) -> Paths:
        """Read `UMIAK_ROOT` and `UMIAK_RUN`; else the system's directories, or the user's XDG ones when not root."""
        if os.geteuid() == 0:
            root, run = "/var/lib/umiak", "/run/umiak"
        else:
            home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
            root = os.path.join(home, "umiak")
            run = os.path.join(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/umiak-{os.getuid()}", "umiak")
        return cls(
            os.path.abspath(os.environ.get("UMIAK_ROOT") or root),
            os.path.abspath(os.environ.get("UMIAK_RUN") or run),
        )

    @property
    def database(self) -> str:
        return f"{self.root}/state.db"

    @property
    def images(self) -> str:
        """An OCI image layout: `oci-layout`, `index.json`, `blobs/`."""
        return f"{self.root}/images"

    @property
    def layers(self) -> str:
        """Extracted layers: `<diff id hex>/fs`."""
        return f"{self.root}/layers"

    @property
    def volumes(self) -> str:
        return f"{self.root}/volumes"

    @property
    def cache(self) -> str:
        """What can be fetched or made again."""
        return f"{self.root}/cache"

    @property
    def downloads(self) -> str:
        """Files from servers that builds use, by digest."""
        return f"{self.cache}/downloads"

    @property
    def events(self) -> str:
        """The record of what happened: `engine.runtime.journal`."""
        return f"{self.root}/events"

    def container(self, container_id: str) -> str:
        """A container's lasting directory: `config.json`, `monitor.json`, `upper/`, `work/`, `log/`."""
        return f"{self.root}/containers/{container_id}"

    def container_run(self, container_id: str) -> str:
        """A container's passing directory: `status.json`, `lock`, `control.sock`, FIFOs, `hosts`, `files/`…"""
        return f"{self.run}/containers/{container_id}"

    def netns(self, container_id: str) -> str:
        """The pin (bind mount) of a container's network namespace."""
        return f"{self.run}/netns/{container_id}"

    def network_run(self, network_id: str) -> str:
        """One file per running endpoint: `<container id>` holding `{"ip": …, "names": […]}`, read by the name servers."""
        return f"{self.run}/networks/{network_id}"
