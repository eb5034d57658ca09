"""Brings an answer to one notation: Unicode becomes LaTeX, LaTeX and Markdown that only change the looks disappear.

Nothing is dropped that could be part of an answer: units, signs, brackets, dots and both sides of an equation stay.
Spaces stay too, because `1 1/2` isn't `11/2`; `compact` removes those that mean nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

LONGEST = 1000
"""Characters. A longer answer is compared as it is: rules and parsers are slow on such texts."""

_BEFORE, _AFTER = " \n,:;*_`'\"", " \n.,:;*_`'\"!"
"""Characters around an answer that aren't part of it."""

_SIGNS = {
    **dict.fromkeys("\u2212\u2013\u2014\u2012\u2010\u2011\ufe63\uff0d", "-"),
    **dict.fromkeys("\u00d7\u2715\u2a2f", r"\times "),
    **dict.fromkeys("\u22c5\u00b7\u2219\u2217", r"\cdot "),
    **dict.fromkeys("\u00f7\u2215\u2044", "/"),
    **dict.fromkeys("\u201c\u201d\u2018\u2019\u201e", '"'),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    "\u2032": "'",
    "\u221a": r"\sqrt",
    "\u221b": r"\sqrt[3]",
    "\u03c0": r"\pi ",
    "\u221e": r"\infty ",
    "\u2264": r"\le ",
    "\u2a7d": r"\le ",
    "\u2265": r"\ge ",
    "\u2a7e": r"\ge ",
    "\u2260": r"\ne ",
    "\u2248": r"\approx ",
    "\u2261": r"\equiv ",
    "\u00b1": r"\pm ",
    "\u2213": r"\mp ",
    "\u222a": r"\cup ",
    "\u2229": r"\cap ",
    "\u2216": r"\setminus ",
    "\u2208": r"\in ",
    "\u2205": r"\emptyset ",
    "\u211d": r"\mathbb{R}",
    "\u2124": r"\mathbb{Z}",
    "\u2115": r"\mathbb{N}",
    "\u2220": r"\angle ",
    "\u25b3": r"\triangle ",
    "\u2026": r"\ldots ",
    "\u22ef": r"\ldots ",
    "\u27e8": r"\langle ",
    "\u27e9": r"\rangle ",
    "\u230a": r"\lfloor ",
    "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ",
    "\u2309": r"\rceil ",
    "\u00b0": " \u00b0 ",
    "\u00ba": " \u00b0 ",
    "\u2103": " \u00b0 C",
    "\u2109": " \u00b0 F",
    "\uff05": "%",
    "\ufe6a": "%",
    "\u066a": "%",
    "\u066b": ".",
    "\u066c": ",",
}
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega"
)
_SIGNS |= {
    unicodedata.lookup(f"GREEK SMALL LETTER {'LAMDA' if name == 'lambda' else name.upper()}"): f"\\{name} "
    for name in _GREEK.split()
}
_SCRIPT = re.compile("([\u00b2\u00b3\u00b9\u2070-\u207f]+)|([\u2080-\u208e]+)")

_TEXT = (
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|normal)|[mh]box|operatorname\*?"
    r"|underline|emph|bm|boldsymbol)"
)
_ARGUMENT = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
_SPACES = r"(?<!\\)\\(?:[,;:!> ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z])|thinspace(?![a-zA-Z])|enspace(?![a-zA-Z]))|~"

_DISPLAYS = r"(?:aligned|align|gathered|gather|equation|split|cases|array|displaymath|multline)\*?"

Rules = Sequence[tuple[str, str]]
_RARE: Rules = (
    (r"\\(?:left|right)(?=[(\[)\]])", ""),
    (r"[(\[]\s*\\begin\{array\}\s*\{[lcr|]*\}(.*?)\\end\{array\}\s*[)\]]", r"\\begin{pmatrix}\1\\end{pmatrix}"),
    (r"\\\\(?=(?:[dt]?frac|sqrt|pi|text|cdot|times|left|right|infty|boxed)(?![a-zA-Z]))", r"\\"),
    (rf"\\begin\{{{_DISPLAYS}\}}(?:\{{[lcr|]*\}})?|\\end\{{{_DISPLAYS}\}}", " "),
    (r"\\(?:left|right)\s*\.", ""),
    (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|hfill|noindent)(?![a-zA-Z])", ""),
    (r",\s*\\!\s*(?=\d{3})", ","),
    (r"(?<=\d)\\[,;:](?=\d{3}(?!\d))", ""),
    (r"\\q?quad(?=\s*[a-z]\s*=)", ", "),
    (rf"\\(?:text)?color\s*\{{[a-z!0-9]*\}}\s*(?:{_ARGUMENT})?", r" \1 "),
    (r"\{\s*\\(?:rm|bf|it)\s+([^{}]*)\}", r" \1 "),
    (r"\\(?:leq|leqslant|leqq)(?![a-zA-Z])", r"\\le "),
    (r"\\(?:geq|geqslant|geqq)(?![a-zA-Z])", r"\\ge "),
    (r"\\lt(?![a-zA-Z])", "<"),
    (r"\\gt(?![a-zA-Z])", ">"),
    (r"\\(?:neq|not\s*=)", r"\\ne "),
    (r"\\(?:approxeq|simeq|cong|sim)(?![a-zA-Z])", r"\\approx "),
    (r"\\(?:l?dots|cdots|dotsc|dotsb|dotso|hdots)(?![a-zA-Z])", r"\\ldots "),
    (r"\{\s*(\w+)\s*\\choose\s*(\w+)\s*\}", r"\\binom{\1}{\2}"),
    (r"\\varnothing(?![a-zA-Z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"\\lbrace(?![a-zA-Z])", r"\\{"),
    (r"\\rbrace(?![a-zA-Z])", r"\\}"),
    (r"\\lbrack(?![a-zA-Z])", "["),
    (r"\\rbrack(?![a-zA-Z])", "]"),
    (r"\\(?:l|r)?vert(?![a-zA-Z])", "|"),
    (r"\\(?:vec|overrightarrow|widehat|hat)\s*\{([^{}]*)\}", r"\1"),
    (r"\\mathbb\s*([A-Z])", r"\\mathbb{\1}"),
)
"""For text with a command that isn't one of those that answers are full of."""
_LATEX: Rules = (
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (_SPACES, " "),
    (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])|\\textdegree(?![a-zA-Z])", " \u00b0 "),
    (rf"\^\s*\{{?\s*{_TEXT}\s*\{{\s*(st|nd|rd|th)\s*\}}\s*\}}?", r"\1 "),
    (rf"\s*{_TEXT}\s*{_ARGUMENT}", r" \1 "),
    (rf"\s*{_TEXT}\s*{_ARGUMENT}", r" \1 "),  # again, for one inside another
    (r"\\([%$])", r"\1"),
)
"""For text with a backslash."""
_PLAIN: Rules = (
    (r"(?<=\d)\{,\}(?=\d{3}(?!\d))", ","),
    (r"(?<=\d)\{,\}(?=\d)", "."),
    (r"~=", r"\\approx "),
    (r"~", " "),
    (r"<=|=<", r"\\le "),
    (r">=", r"\\ge "),
    (r"!=", r"\\ne "),
    (r"\+\s*/\s*-|\+-(?=\s*\d)", r"\\pm "),
    (r"(?<=[\w.)}])\s*\*\*\s*(?=[-\w({])", "^"),
)
_WORDS: Rules = (
    (r"&lt;", "<"),
    (r"&gt;", ">"),
    (r"(?i)(?<![a-z])all real(?: numbers|s)(?![a-z])", r"\\mathbb{R}"),
    (r"(?i)(?<=\d)\s*(?<![a-z\\])thousand(?![a-z])", r" \\times 10^{3} "),
    (r"(?i)(?<=\d)\s*(?<![a-z\\])million(?![a-z])", r" \\times 10^{6} "),
    (r"(?i)(?<=\d)\s*(?<![a-z\\])billion(?![a-z])", r" \\times 10^{9} "),
    (r"(?i)(?<=\d)\s*(?<![a-z\\])trillion(?![a-z])", r" \\times 10^{12} "),
    (r"(?<![a-zA-Z\\])(?:percent|per cent|pct)(?![a-zA-Z])", "%"),
    (r"(?<![a-zA-Z\\])(?:infinity|inf)(?![a-zA-Z])", r"\\infty "),
    (r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi "),
    (r"(?<![a-zA-Z\\])sqrt\s*(?=[({\d])", r"\\sqrt"),
)
"""For text with two letters in a row that aren't the beginning of a command."""
_REPAIRS: Rules = (
    (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"\\frac\s*(\\[a-zA-Z]+)(?![a-zA-Z{\[])", r"\\frac{\1}"),
    (r"\\frac\s*([^{\\\s])\s*([^{\\\s])", r"\\frac{\1}{\2}"),
    (r"\\frac\s*([^{\\\s])\s*(\{|\\[a-zA-Z]+)", r"\\frac{\1}\2"),
    (r"(\\frac\s*\{[^{}]*\})\s*([^{\\\s])", r"\1{\2}"),
    (r"(\\frac\s*\{[^{}]*\})\s*(\\[a-zA-Z]+)(?![a-zA-Z{\[])", r"\1{\2}"),
    (r"\\sqrt\s*([^\[{\\\s])", r"\\sqrt{\1}"),
    (r"\\sqrt\s*(\\[a-zA-Z]+)(?![a-zA-Z{\[])", r"\\sqrt{\1}"),
)
"""Shorthand of roots and fractions."""


def _compiled(rules: Rules) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rules)


_STAGES = (
    (
        re.compile(
            r"\\(?!(?:frac|[dt]frac|sqrt|pi|text|mathrm|cdot|times|infty|circ|log|ln|sin|cos)(?![a-zA-Z])|[%$, ])"
        ),
        _compiled(_RARE),
    ),
    (re.compile(r"\\"), _compiled(_LATEX)),
    (re.compile(r"[~<>=!+*{]"), _compiled(_PLAIN)),
    (re.compile(r"[a-zA-Z]{2}"), _compiled(_WORDS)),
    (re.compile(r"\\(?:frac|sqrt)"), _compiled(_REPAIRS)),
)
"""The rules, in order, and the pattern that a text must contain for them to apply."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_MARKDOWN = re.compile(r"(?<![\w)}])\*\*([^*]+)\*\*(?![\w({])|(?<!\w)__([^_]+)__(?!\w)|`([^`]+)`")

_DOTS = re.compile(r"\.\.\.+")
_FRAMES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i)^(?:so )?(?:the |my )?(?:final )?answer(?: is|:| =) ?(.+)$",
        r"^(-?\d+) ?\\ldots$",
        r"(?i)^(?:approximately|about|roughly|exactly|around) ([-\d$\\].*)$",
        r"^(.*?)(?:</s>|<\|\w+\|>)+$",
        r"^\\approx ?(.+)$",
        r"^(?i:option|choice) (\(?[A-J]\)?)$",
        r"^\(?([A-Za-z])\)$",  # (B) or B)
        r"^[$ ]*()$",
    )
)
"""Around an answer without being part of it; replaced by the group."""


@lru_cache(maxsize=2048)
def cleaned(text: str) -> str:
    """Return the answer in the one notation; unchanged if it is longer than LONGEST."""
    if len(text) > LONGEST:
        return text.strip()
    if text.isascii() and _NUMBER.fullmatch(text):
        return text
    text = _MARKDOWN.sub(lambda match: next(group for group in match.groups() if group is not None), text)
    text = re.sub(r"(?<=[\w)}%$])\*\*(?=\s|$)", "", text)  # bold that began before the answer
    text = _ascii(trimmed(_DOTS.sub(r" \\ldots ", text)))
    for needed, rules in _STAGES:
        if needed.search(text):
            for pattern, replacement in rules:
                text = pattern.sub(replacement, text)
    if "\\begin" not in text:
        text = _lines(text)
    text = trimmed(re.sub(r"\s+", " ", text))
    for pattern in _FRAMES:
        text = pattern.sub(r"\1", text)
    return text


def compact(text: str) -> str:
    """Return `text` without the spaces that mean nothing: all but those between two digits."""
    text = re.sub(r"(?<=\d) (?=[\d.])", "\0", text)
    text = re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])", "\\1\0", text)
    return text.replace(" ", "").replace("\0", " ")


def trimmed(text: str) -> str:
    """Return `text` without white space, punctuation and Markdown around it; `x!` and `f'` stay."""
    text = text.lstrip(_BEFORE)
    kept = text.rstrip(_AFTER)
    rest = text[len(kept) :]
    if rest[:1] == "!" and (kept[-1:].isalnum() or kept[-1:] in {")", "}"}):
        return kept + "!"  # a factorial
    return kept + "'" if rest[:1] == "'" and re.fullmatch("[a-zA-Z]", kept) else kept  # a derivative


def _ascii(text: str) -> str:
    """Replace Unicode's signs, digits and letters by LaTeX and ASCII."""
    if text.isascii():
        return text
    text = _SCRIPT.sub(_script, text)
    written = []
    for character in text:
        if character in _SIGNS:
            written.append(_SIGNS[character])
        elif unicodedata.decimal(character, None) is not None:
            written.append(str(unicodedata.decimal(character)))
        elif unicodedata.category(character) == "No":
            written.append(_vulgar_fraction(character))
        else:
            written.append(unicodedata.normalize("NFKC", character))
    return "".join(written)


def _vulgar_fraction(character: str) -> str:
    above, slash, below = unicodedata.normalize("NFKC", character).partition("\u2044")
    return f"\\frac{{{above}}}{{{below}}}" if slash and below else above


def _script(match: re.Match[str]) -> str:
    written = unicodedata.normalize("NFKC", match.group()).replace("\u2212", "-")
    return f"{'^' if match.group(1) else '_'}{{{written}}}"


def _lines(text: str) -> str:
    """Join the lines of a display: one that opens with a sign goes on; any other is an answer of its own."""
    text = re.sub(r"\\\\(?:\[[^\]]*\])?|\n\s*\n", "\n", text.replace("&", " "))
    lines = [line for line in (line.strip(" ,;") for line in text.split("\n")) if line]
    joined = lines[0] if lines else ""
    for line in lines[1:]:
        goes_on = re.match(r"[=<>+*/^)\]}]|-|\\(?:le|ge|ne|approx|times|cdot|cup|pm|right|end)(?![a-zA-Z])", line)
        joined += f" {line}" if goes_on or joined.endswith(("=", "(", "[", "{", "+", ",")) else f", {line}"
    return joined
