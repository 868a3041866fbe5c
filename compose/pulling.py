"""When an image is to be pulled: what `pull_policy` and `--pull` mean. Pure."""

from __future__ import annotations

import re

from engine.errors import InvalidInput

POLICIES = ("always", "missing", "never", "build")
_REFRESH_S = {"daily": 86400.0, "weekly": 7 * 86400.0}
_PART = re.compile(r"([0-9]+)([wdhms])")
_UNIT_S = {"w": 7 * 86400.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def check_policy(text: str | None) -> str | None:
    """The value of `--pull`. Raise InvalidInput for what is none."""
    if text in (None, "if_not_present"):
        return text and "missing"
    if text not in POLICIES[:3]:
        raise InvalidInput(f'option --pull cannot be "{text}"', hint=f"use one of: {', '.join(POLICIES[:3])}")
    return text


def is_wanted(policy: str, *, missing: bool, age_s: float | None = None) -> bool:
    """Whether an image is to be asked of its registry under a policy; `missing` says that it is not here."""
    return policy not in ("never", "build") if missing else is_due(policy, age_s)


def is_due(policy: str, age_s: float | None) -> bool:
    """Whether an image that is here is to be asked for again. `age_s`: how long ago its registry confirmed it, if it ever did."""
    if policy == "always":
        return True
    refresh_s = refresh_after_s(policy)
    # An age below zero is that of a clock that was ahead then.
    return refresh_s is not None and (age_s is None or not 0 <= age_s < refresh_s)


def refresh_after_s(policy: str) -> float | None:
    """The seconds in `daily`, `weekly` and `every_<duration>`; None for other policies."""
    if policy.startswith("every_"):
        return sum(int(number) * _UNIT_S[unit] for number, unit in _PART.findall(policy))
    return _REFRESH_S.get(policy)
