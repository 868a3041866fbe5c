"""Users and groups of an image, read from its own files by hand: never through NSS, which would load the image's code."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HIGHEST_ID = 2**31 - 1


class UserError(ValueError):
    """The user or group asked for does not exist in the image, or is no id."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def resolve(user_spec: str, passwd: bytes, group: bytes) -> tuple[int, int, list[int], str]:
    """Return (uid, gid, supplementary groups, home) for "user", "uid", "user:group" and so on, as Docker does.

    An id need not be in the files, a name must. Without a group it is the user's own from `passwd`, else 0. The supplementary
    groups are that group, so that a file which it may not touch stays out of reach for who drops it (CVE-2022-36109), and, where
    no group was asked for, those that list the user by name.
    """
    user_name, _, group_name = user_spec.partition(":")
    uid, gid, home, name = _find_user(user_name or "0", passwd)
    if group_name:
        gid = _find_group(group_name, group)
        return uid, gid, [gid], home
    return uid, gid, [gid, *(_groups_of(name, gid, group) if name else ())], home


def _find_user(wanted: str, passwd: bytes) -> tuple[int, int, str, str]:
    number = _id(wanted) if wanted.isdigit() else None
    for fields in _entries(passwd, 6):
        if fields[0] == wanted or (number is not None and _number(fields[2]) == number):
            uid, gid = _number(fields[2]), _number(fields[3])
            if uid is not None and gid is not None:
                return uid, gid, fields[5] or "/", fields[0]
    if number is None:
        raise UserError(
            f'no user "{wanted}" in the image\'s /etc/passwd', "use a numeric id, or create the user in the image"
        )
    return number, 0, "/", ""


def _find_group(wanted: str, group: bytes) -> int:
    number = _id(wanted) if wanted.isdigit() else None
    for fields in _entries(group, 3):
        gid = _number(fields[2])
        if fields[0] == wanted and gid is not None:
            return gid
    if number is None:
        raise UserError(
            f'no group "{wanted}" in the image\'s /etc/group', "use a numeric id, or create the group in the image"
        )
    return number


def find_groups(names: list[str], group: bytes) -> list[int]:
    """Return the ids of groups given by name or number, as `group_add` has them."""
    return [_find_group(name, group) for name in names]


def _groups_of(name: str, gid: int, group: bytes) -> list[int]:
    found: list[int] = []
    for fields in _entries(group, 4):
        number = _number(fields[2])
        if name in fields[3].split(",") and number is not None and number not in (gid, *found):
            found.append(number)
    return found


def _entries(text: bytes, least: int) -> Iterator[list[str]]:
    """Yield the fields of each well-formed line; a damaged one is passed over, as libc does."""
    for line in text.decode("utf-8", "surrogateescape").splitlines():
        fields = line.strip().split(":")
        if len(fields) >= least and fields[0] and not line.startswith("#"):
            yield fields


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _HIGHEST_ID else None


def _id(text: str) -> int:
    number = _number(text)
    if number is None:
        raise UserError(f"{text} is not a user or group id", f"ids go from 0 to {_HIGHEST_ID}")
    return number
