"""A plugin of pytest: a failure is told when it happens, as a machine may be switched off before pytest sums up."""

from __future__ import annotations

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print what failed."""
    if report.failed:
        print(f"\n{report.longreprtext}", flush=True)
