"""What processes and counters look like to `top` and `stats`."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from engine.usage import Usage, processes

USAGE = Usage(
    time=10.0,
    cpu_ns=1_000_000_000,
    memory_bytes=25,
    memory_limit_bytes=100,
    network_received_bytes=0,
    network_sent_bytes=0,
    io_read_bytes=0,
    io_written_bytes=0,
    processes=1,
    processes_limit=None,
)


def test_percentages_are_of_one_processor_and_of_the_limit() -> None:
    later = replace(USAGE, time=12.0, cpu_ns=4_000_000_000)
    assert later.cpu_percent_since(USAGE) == pytest.approx(150)
    assert USAGE.cpu_percent_since(USAGE) == 0
    assert replace(USAGE, time=12.0, cpu_ns=0).cpu_percent_since(USAGE) == 0, "it was started anew"
    assert USAGE.memory_percent == 25
    assert replace(USAGE, memory_limit_bytes=0).memory_percent == 0


def test_processes_are_described_as_ps_does_and_gone_ones_left_out() -> None:
    [own] = processes([1 << 30, os.getpid()])
    assert (own.pid, own.ppid) == (os.getpid(), os.getppid())
    assert "pytest" in own.command
    assert len(own.time.split(":")) == 3
