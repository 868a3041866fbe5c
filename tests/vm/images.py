"""The third disk: an engine's root directory with the images that scenarios need. Machines have no network to make them with."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.vm.image import PROJECT, kept, make_file_system

GUESTBOOK = PROJECT / "samples" / "guestbook"
UMIAK = str(Path(sys.executable).with_name("umiak"))
SIZE = "6G"


def images(say: Callable[[str], None]) -> Path:
    """The disk, made now if it was not yet or if the guestbook has changed."""
    files = sorted(path for path in GUESTBOOK.rglob("*") if path.is_file())
    inputs = [Path(__file__).read_bytes(), *(part for path in files for part in (str(path), path.read_bytes()))]
    return kept("images", inputs, lambda directory: _make(directory, say)) / "images.img"


def _make(directory: Path, say: Callable[[str], None]) -> None:
    engine = directory / "engine"
    with tempfile.TemporaryDirectory(prefix="umiak-vm-") as run:
        environment = {**os.environ, "UMIAK_ROOT": str(engine / "root"), "UMIAK_RUN": run}
        say("building the guestbook's images")
        for arguments in (
            ("image", "bootstrap", "debian:bookworm-slim"),
            ("-f", str(GUESTBOOK / "compose.yaml"), "build"),
        ):
            subprocess.run([UMIAK, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
        say("writing the disk of images")
        make_file_system(engine, directory / "images.img", SIZE)
        subprocess.run(["rm", "-rf", "--one-file-system", engine], check=True)
