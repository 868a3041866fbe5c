"""How errors look: what could not be done, where in which file, and what to do next.

error[E012]: unknown key "port" in service "web"
  --> compose.yaml:7:5
 7 |     port: "8080:80"
   |     ^^^^
   = help: did you mean "ports"?
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

from engine.errors import UmiakError

_RED, _BOLD, _BLUE, _PLAIN = "\x1b[1;31m", "\x1b[1m", "\x1b[1;34m", "\x1b[0m"

_CIRCUMSTANCES: dict[int | None, str] = {
    errno.ENOSPC: "free some space; `umiak system df` shows what is kept, `umiak down` works on a full disk, too",
    errno.EDQUOT: "free some space; `umiak system df` shows what is kept",
    errno.EROFS: "see `dmesg` for why that file system is read-only",
    errno.EIO: "see `dmesg`: the disk may be failing",
    errno.EMFILE: "raise the limit of this shell: ulimit -n 4096",
    errno.ENFILE: "raise the limit of this host: sysctl fs.file-max",
    errno.EAGAIN: "no more processes may be started: see `ulimit -u` and the pids.max of this cgroup",
    errno.ENOMEM: "free some memory, or raise the limit of this cgroup",
}
"""What the operating system refuses for want of something, by errno, and what to do; any other OSError is a defect."""


def report(error: BaseException, argv: Sequence[str] = ()) -> int:
    """Print an error to stderr and return the exit code, 1. With UMIAK_DEBUG set, print its traceback too."""
    if os.environ.get("UMIAK_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if _wants_json(argv):
        import json

        record = {"error": True, "message": _message(error)} | ({"hint": hint} if (hint := _hint(error)) else {})
        print(json.dumps(record), file=sys.stderr)
    else:
        print(render(error, colour=uses_colour(sys.stderr)), file=sys.stderr)
    return 1


def warn(message: str) -> None:
    """Print a warning to stderr."""
    start, end = ("\x1b[33m", "\x1b[0m") if uses_colour(sys.stderr) else ("", "")
    print(f"{start}warning{end}: {message}", file=sys.stderr)


def render(error: BaseException, *, colour: bool = False) -> str:
    """An error as text of several lines."""
    several = getattr(error, "errors", ())
    if several and isinstance(error, UmiakError):
        omitted = getattr(error, "omitted", 0)
        more = [f"... and {omitted} more errors"] if omitted else []
        return "\n".join([*(render(one, colour=colour) for one in several), *more])
    red, bold, plain = (_RED, _BOLD, _PLAIN) if colour else ("", "", "")
    first, *more = _message(error).split("\n")
    code = getattr(error, "code", "")
    shown = f"[{code}]" if isinstance(code, str) and code.startswith("E") else ""
    lines = [f"{red}error{shown}{plain}{bold}: {first}{plain}", *more]
    place = error.place if isinstance(error, UmiakError) else None
    if place:
        lines += _excerpt(place, getattr(error, "line_text", None), getattr(error, "width", 1), colour=colour)
    lines += [f"   | {line}" for line in getattr(error, "details", ())]
    if hint := _hint(error):
        lines.append(f"   = help: {hint}")
    return "\n".join(lines)


def uses_colour(stream: object) -> bool:
    """Whether colours may go to a stream: NO_COLOR forbids, FORCE_COLOR and COMPOSE_ANSI=always ask for them, else a terminal decides."""
    if os.environ.get("NO_COLOR") or os.environ.get("COMPOSE_ANSI") == "never":
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("COMPOSE_ANSI") == "always":
        return True
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty()) and os.environ.get("TERM") != "dumb"


def _message(error: BaseException) -> str:
    if isinstance(error, UmiakError):
        return error.message
    if isinstance(error, OSError) and error.errno in _CIRCUMSTANCES:
        what = (error.strerror or os.strerror(error.errno or 0)).lower()
        return f"{what}: {os.fsdecode(error.filename)}" if error.filename else what
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"umiak itself failed: {text}"


def is_defect(error: BaseException) -> bool:
    """Whether an error is neither one of umiak's own nor something that the operating system refused for want of something."""
    return not isinstance(error, UmiakError) and not (isinstance(error, OSError) and error.errno in _CIRCUMSTANCES)


def _hint(error: BaseException) -> str | None:
    if isinstance(error, UmiakError):
        return error.hint
    if isinstance(error, OSError) and error.errno in _CIRCUMSTANCES:
        return _CIRCUMSTANCES[error.errno]
    return "this is a defect of umiak; UMIAK_DEBUG=1 shows where it happened"


def _excerpt(place: str, text: str | None, width: int, *, colour: bool) -> list[str]:
    """The place, and the line it points to with a caret below: its text is known, or the file can be read again."""
    blue, plain = (_BLUE, _PLAIN) if colour else ("", "")
    lines = [f"  {blue}-->{plain} {place}"]
    path, line, column = _split_place(place)
    text = _shown(text) if text is not None else _line_of(path, line)
    if text is None or not line:
        return lines
    margin = len(str(line))
    before = text[: column - 1]
    # Tabs stay tabs, so that the caret lands below its character whatever the terminal's tab width is.
    indent = "".join("\t" if character == "\t" else " " for character in before)
    rest = text[len(before) :]
    caret = "^" * max(_token_width(rest), min(width, len(rest.rstrip())))
    lines.append(f" {blue}{line} |{plain} {text}")
    lines.append(f" {blue}{' ' * margin} |{plain} {indent}{blue}{caret}{plain}")
    return lines


def _split_place(place: str) -> tuple[str, int, int]:
    """`file:line:column` or `file:line` or `file` → (file, line, column); 0 where there is none."""
    path, _, last = place.rpartition(":")
    if not path or not last.isdecimal():
        return place, 0, 0
    shorter, _, middle = path.rpartition(":")
    if shorter and middle.isdecimal():
        return shorter, int(middle), max(int(last), 1)
    return path, int(last), 1


def _line_of(path: str, line: int) -> str | None:
    if line < 1 or not os.path.isfile(path):  # reading a pipe again would wait for ever
        return None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, text in enumerate(file, start=1):
                if number == line:
                    return _shown(text)
    except (OSError, ValueError):
        return None
    return None


def _shown(text: str) -> str:
    """A line without what would disturb a terminal, cut after 200 characters."""
    return "".join(c for c in text.rstrip("\n")[:200] if c == "\t" or c.isprintable())


def _token_width(rest: str) -> int:
    """How much of the line to underline: the word that starts there."""
    if rest[:1] in ("'", '"'):
        end = rest.find(rest[0], 1)
        return end + 1 if end > 0 else len(rest)
    width = 0
    while width < len(rest) and rest[width] not in " \t,:]}#":
        width += 1
    return max(width, 1)


def _wants_json(argv: Sequence[str]) -> bool:
    return "--progress=json" in argv or ("--progress", "json") in pairwise(argv)
