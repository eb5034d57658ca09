from __future__ import annotations

import sys
import unicodedata

import pytest

from rlx.terminal import LONGEST_LINE, LONGEST_WORD, shortened, visible

INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 3 < 4", "plain text, 3 < 4"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("naïve Straße 東京　は é 🙂 1\u202f000\u00a0€", "naïve Straße 東京　は é 🙂 1\u202f000\u00a0€"),
        ("a\x1b[31mred\x1b[0m", "a\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("over\rwrite", "over\\x0dwrite"),
        ("back\b\x7f\0", "back\\x08\\x7f\\x00"),
        ("a\u202edcb\u202c\u2066x\u2069\u200f", "a\\u202edcb\\u202c\\u2066x\\u2069\\u200f"),
        ("na\u200bme\ufeff\u00ad", "na\\u200bme\\ufeff\\xad"),
        ("line\u2028end\u2029", "line\\u2028end\\u2029"),
        ("half \ud800 tag \U000e0041", "half \\ud800 tag \\U000e0041"),
    ],
)
def test_characters_that_are_not_shown_are_escaped(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown


def test_nothing_invisible_is_left_of_any_character():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    left = {char for char in visible(everything) if unicodedata.category(char) in INVISIBLE}
    assert left == {"\n", "\t"}
    visible(everything).encode()


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("x" * LONGEST_WORD, LONGEST_WORD),
        ("x" * 5000, 200),
        (" ".join(["word"] * 400), 1999),
        (" ".join(["word"] * 100_000), LONGEST_LINE),
        ("\n".join(["y" * 5000] * 3), 600),
    ],
)
def test_long_words_and_lines_are_shortened_in_the_middle(text, longest):
    short = shortened(text)
    assert len(short) <= longest
    assert (short == text) == (len(text) <= longest)
    assert short[:20] == text[:20]
    assert short[-20:] == text[-20:]
    assert short == text or " characters ...]" in short


def test_the_number_of_characters_that_are_left_out_is_exact():
    assert shortened("x" * 1000) == f"{'x' * 100}[... 850 characters ...]{'x' * 50}"
