r"""Finds the final answer in a completion.

* The reasoning, all before the last `</think>`, isn't searched.
* The last complete box counts, together with boxes directly before it: `\boxed{1} and \boxed{2}` are two answers.
* Without a box, the answer is what follows the last "answer:" or "answer is"; else the last formula or number. Numbers
  joined by commas, "and" or "or" are one answer: a list.
"""

from __future__ import annotations

import itertools
import re

from rlx_rewards.answers.clean import LONGEST
from rlx_rewards.answers.units import split_unit
from rlx_rewards.latex import boxes

_JOINED_AT_MOST = 60
_JOINT = re.compile(
    r"(?:[\s,;.$&*]|\\[,;:! ()\[\]]|\\\\|\\q?quad(?![a-zA-Z])"
    r"|\\text\s*\{\s*(?:and|or)\s*\}|(?:and|or)(?![a-zA-Z])|[a-zA-Z]\s*=(?=\s*\$?$))*"
)
_FORMULAS = 30
"""Formulas of the longest list."""
_SPAN = 1000
"""Characters of the longest formula."""
FORMULA = (
    rf"\$\$(?P<dd>[^$]{{1,{_SPAN}}})\$\$"
    rf"|\\\[(?P<bracket>(?:[^\\]|\\[^\[\]]){{1,{_SPAN}}})\\\]"
    rf"|\\\((?P<paren>(?:[^\\]|\\[^()]){{1,{_SPAN}}})\\\)"
    rf"|(?<![\\\d])\$(?P<d>(?![\s$])(?:[^$\n\\]|\\.){{1,{_SPAN}}}?(?<![\s]))\$(?!\d)"
    r"|\\begin\{(?P<name>equation|align|gather|aligned|gathered)(?P<star>\*?)\}"
    rf"(?P<env>(?:(?!\\begin\{{(?:equation|align|gather))[\s\S]){{1,{_SPAN}}}?)\\end\{{(?P=name)(?P=star)\}}"
)
_FORMULA = re.compile(FORMULA)
_CUE = re.compile(r"(?i)\banswers?\b[\s*_]{0,9}(?:is|are|:|=)[\s*_:]{0,9}")
_NUMBER = (
    r"(?<![\w^{\\])(?:(?<![\w.)])[-\u2212\u2013+]\s?)?(?:[$\u20ac\u00a3\u00a5]\s?)?"
    r"(?:\\frac\s?\{[^{}]{1,50}\}\s?\{[^{}]{1,50}\}|\d+\s+\d+/\d+|\d[\d,]*(?<!,)(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s?[/:^]\s?-?\d+)*|\.\d+)"
)
_LIST = re.compile(
    rf"{_NUMBER}(?:\s*%)?(?:\s*(?:,?\s*(?:and|or)\b(?:\s+(?:maybe|perhaps|possibly)\b)?|,)\s*(?:[a-z]\s?=\s?)?{_NUMBER}(?:\s*%)?){{0,50}}"
)
_SIDE = re.compile(r"([^=\n,;:]{1,40})=\s*$")
_VARIABLE = re.compile(r"\d[a-zA-Z]\b|\b[a-zA-Z]\s?[-+*/^]|[-+*/^]\s?[a-zA-Z]\b|\^")
"""In a side of an equation: an expression with a variable, as in 2x = 6."""
_AFTER = re.compile(r"\s{0,3}(?:\\?%|[A-Za-z\u00b0\u00b2\u00b3^/\\{} \d]{1,60})")
_PROSE = re.compile(r"(?<![\\a-zA-Z])[A-Za-z]{2,}[,;:]?\s+[$*]{0,3}(?:[A-Za-z]{2,}|\d)")


def answer_part(text: str) -> str:
    """Return what follows the reasoning: all after the last `</think>`; the whole text without one."""
    return text.rpartition("</think>")[2]


def boxed_answer(text: str) -> str | None:
    """Return the content of the last box, joined with those directly before it; None without a box."""
    found = boxes(text)
    if not found:
        return None
    begin, _, content = found[-1]
    answers = [content]
    for start, end, other in reversed(found[:-1]):
        between = text[end:begin]
        if end > begin:  # the last is inside of this one
            continue
        if not _joined(between):
            break
        if other.strip() != answers[0].strip():
            answers.insert(0, other)
        begin = start
    return ", ".join(answers)


def free_answer(text: str) -> str | None:
    """Return the answer of a text without a box; None if it has none."""
    cue = next(reversed(list(_CUE.finditer(text))), None)
    if cue is not None:
        after = text[cue.end() :].strip()
        found = _after_cue(after[:LONGEST]) if after else None
        if found:
            return found
    whole = text.strip()
    if (
        len(whole) <= 200
        and "\n" not in whole
        and not _FORMULA.search(whole)
        and not _PROSE.search(re.sub(r"\\[a-z]+|\band\b|\bor\b", "", whole))
    ):
        return whole
    formulas = list(_FORMULA.finditer(text))[-_FORMULAS:]
    begin = formulas[-1].end() if formulas else 0
    number = next(reversed(list(_LIST.finditer(text, begin))), None)
    if number is not None:
        side = _SIDE.search(text, begin, number.start())
        equation = side is not None and _VARIABLE.search(side[1])
        return _with_unit(text, f"{side[0]} {number.group()}" if side and equation else number.group(), number.end())
    return inner(text[_first_joined(text, formulas) :]) if formulas else None


def _first_joined(text: str, formulas: list[re.Match[str]]) -> int:
    """Return where the first of the formulas begins that are joined with the last one."""
    for one, two in zip(formulas[-2::-1], formulas[:0:-1], strict=True):
        if not _joined(text[one.end() : two.start()]):
            return two.start()
    return formulas[0].start()


def _joined(between: str) -> bool:
    """Return whether two answers with this text between them are one list."""
    return len(between) <= _JOINED_AT_MOST and bool(_JOINT.fullmatch(between))


def inner(text: str) -> str:
    """Return the formula in an answer, with a unit behind it; all of the answer if it has none, or several."""
    formulas = list(_FORMULA.finditer(text))
    if not formulas:
        return text
    contents = [_content(match) for match in formulas]
    gaps = [text[one.end() : two.start()] for one, two in itertools.pairwise(formulas)]
    if all(map(_joined, gaps)):
        joined = ", ".join(contents) if len(contents) > 1 else contents[0]
        return _with_unit(text, joined, formulas[-1].end())
    return text.replace("$", " ")


def _content(match: re.Match[str]) -> str:
    return next(match[name] for name in ("dd", "bracket", "paren", "d", "env") if match[name] is not None)


def _after_cue(after: str) -> str:
    """Return the answer at the beginning of `after`, up to the end of its line or sentence."""
    formula = _FORMULA.match(after)
    line = after if formula is not None and "\n" in formula.group() else after.split("\n", maxsplit=1)[0]
    if formula is not None or _FORMULA.search(line):
        return inner(line)
    sentence = re.split(r"(?<=[\w)}\]])[.!?](?:\s|$)", line)[0]
    if not _PROSE.search(re.sub(r"\\[a-z]+|\band\b|\bor\b", "", sentence)) or split_unit(sentence)[1]:
        return sentence
    if re.match(r"(?i)not\b", sentence):
        return sentence
    first = _LIST.match(sentence)
    numbers = [first] if first is not None else list(_LIST.finditer(sentence))
    return _with_unit(sentence, numbers[-1].group(), numbers[-1].end()) if numbers else sentence


def _with_unit(text: str, answer: str, end: int) -> str:
    """Return `answer`, which ends at `end`, with the unit that follows it in `text`."""
    after = _AFTER.match(text.replace("**", "  "), end)
    words = after.group().split() if after is not None else []
    for count in range(min(len(words), 4), 0, -1):
        whole = f"{answer} {' '.join(words[:count])}"
        if split_unit(whole)[1] and not split_unit(whole)[1].startswith("word "):
            return whole
    return answer
