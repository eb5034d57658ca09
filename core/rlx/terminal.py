"""Text that is safe to print.

Others write the keys and values of a config, the names and docstrings of plugins, the rows of a dataset and the
completions of a model. Printed raw, they could move the cursor, recolour or rename the terminal, or show words in
another order than they are read in. Every output of rlx goes through `visible`, whether a terminal or a program reads
it.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_WORD = 400
"""Characters of a word (a name, a path, a number) that `shortened` keeps whole."""
LONGEST_LINE = 6000
"""Characters of a line that `shortened` keeps whole."""

_KEPT = frozenset("\n\t")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
_LONG_LINE = re.compile(rf"[^\n]{{{LONGEST_LINE + 1},}}")


def visible(text: str) -> str:
    r"""Return `text` with an escape in place of each character that is not shown as itself: `\x1b`, `\u202e`.

    They are control characters (line feed and tab excepted), the invisible ones (bidirectional marks, joiners,
    zero-width spaces, line and paragraph separators), private and unassigned ones, and halves of a surrogate pair,
    which can't be encoded. Escapes are those of Python's string literals. Text without such characters is unchanged.
    """
    if text.isprintable():
        return text
    # Of the characters that repr() escapes, spaces of other widths are harmless and common in text.
    return "".join(
        char if char.isprintable() or char in _KEPT or unicodedata.category(char) == "Zs" else _escape(char)
        for char in text
    )


def shortened(text: str) -> str:
    """Return `text` with the middle of very long words and lines left out: the number of characters is in its place."""
    text = _LONG_WORD.sub(lambda found: _ends(found.group(), LONGEST_WORD), text)
    return _LONG_LINE.sub(lambda found: _ends(found.group(), LONGEST_LINE), text)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _ends(text: str, limit: int) -> str:
    end = limit // 8
    return f"{text[: limit // 4]}[... {len(text) - limit // 4 - end:,} characters ...]{text[-end:]}"
