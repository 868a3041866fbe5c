"""Splits a command line into words as Docker does, which is not quite as a shell does.

Quotes and backslashes work as in a shell; `` `...` `` and `$(...)` are kept as they stand, spaces included. An unquoted
`;`, `&`, `|`, `<` or `>` ends the command: what follows is dropped.
"""

from __future__ import annotations

_END = frozenset(";&|<>")
_SPACE = frozenset(" \t\r\n")
_CLOSING = {'"': '"', "'": "'", "`": "`", "(": ")", ")": ")"}


def split(line: str) -> list[str]:
    """The words of a command line; ValueError when a quote, an escape or a parenthesis is left open."""
    words: list[str] = []
    word = ""
    has_word, is_escaped, closing = False, False, ""
    for character in line:
        if is_escaped:
            word, has_word, is_escaped = word + character, True, False
        elif character == "\\" and closing != "'":
            is_escaped = True
        elif closing:
            is_end = character == closing
            closing = "" if is_end else closing
            word += "" if is_end and character in "\"'" else character
            has_word = True
        elif character in _SPACE:
            if has_word:
                words.append(word)
            word, has_word = "", False
        elif character in _END:
            # `2>file`: the number belongs to the redirection.
            has_word = has_word and not (character == ">" and word[:1].isdigit())
            break
        elif character == "(" and not word.endswith("$"):
            raise ValueError(f"unexpected {character!r} in {line!r}; quote it")
        else:
            closing = _CLOSING.get(character, "")
            word += "" if character in "\"'" else character
            has_word = True
    if is_escaped or closing:
        raise ValueError(f"unbalanced quote or escape in {line!r}")
    return [*words, word] if has_word else words
