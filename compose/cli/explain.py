"""`umiak explain E012`: what an error code means, an example that raises it, and how to mend it."""

from __future__ import annotations

from compose.cli.context import Context
from compose.cli.options import Args, Command
from engine.errors import InvalidInput

COMMAND = Command("explain", "Explain an error code", words="[CODE...]")


def run(context: Context, args: Args) -> int:  # noqa: ARG001 (all commands share one signature)
    """Print the text of each code; without one, the list of all."""
    from compose.errors import CODES

    if not args.words:
        for code, (title, _) in CODES.items():
            print(f"{code}  {title}")
        return 0
    print("\n\n".join(_text(word.upper()) for word in args.words))
    return 0


def _text(code: str) -> str:
    from compose.errors import CODES
    from compose.explanations import EXPLANATIONS

    if code not in CODES:
        raise InvalidInput(f'there is no error code "{code}"', hint="umiak explain lists them all")
    title, meaning = CODES[code]
    wrong, right = EXPLANATIONS[code]
    return f"{code}: {title}\n\n{meaning}\n\nFor example:\n\n{_indented(wrong)}\n\nInstead:\n\n{_indented(right)}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
