r"""Units of measurement, percent, currencies, and words that say what was counted.

A unit may be missing on one side. If both sides have one, it must be the same: `9 cents` aren't `9 dollars`, and, as in
math-verify and Minerva, no unit is converted: `100 cm` isn't `1 m`.
"""

from __future__ import annotations

import re

_SPELLINGS = """
m: meter meters metre metres
km: kilometer kilometers kilometre kilometres kms
cm: centimeter centimeters centimetre centimetres cms
mm: millimeter millimeters millimetre millimetres
dm: decimeter decimeters
nm: nanometer nanometers
mi: mile miles
ft: foot feet
in: inch inches
yd: yard yards yds
s: second seconds sec secs
ms: millisecond milliseconds
min: minute minutes mins
h: hour hours hr hrs
day: days
week: weeks wk wks
month: months
year: years yr yrs
g: gram grams gm gms
kg: kilogram kilograms kgs kilo kilos
mg: milligram milligrams
t: ton tons tonne tonnes
lb: lbs
pound: pounds
oz: ounce ounces
L: l liter liters litre litres
mL: ml milliliter milliliters millilitre millilitres
cL: cl
gal: gallon gallons
pt: pint pints
qt: quart quarts
acre: acres
ha: hectare hectares
N: newton newtons
kN: kilonewton kilonewtons
J: joule joules
kJ: kilojoule kilojoules
W: watt watts
kW: kilowatt kilowatts
V: volt volts
A: ampere amperes amp amps
Pa: pascal pascals
kPa: kilopascal kilopascals
Hz: hertz
kHz: kilohertz
MHz: megahertz
K: kelvin
mol: mole moles mols
ohm: ohms \\Omega
cal: calorie calories
kcal: kilocalorie kilocalories
mph: mi/h
km/h: kmh kph kmph
\u00b0: degree degrees deg degs
\u00b0C: celsius
\u00b0F: fahrenheit
rad: radian radians
$: dollar dollars usd bucks
cent: cents \u00a2
\u20ac: euro euros eur
\u00a3: gbp
\u00a5: yen yuan rmb
\u20b9: rupee rupees rs
%: percentage
unit: units
th: st nd rd
dozen: dozens
"""
_SINGLE = frozenset(["m", "s", "h", "g", "t", "L", "l", "N", "J", "W", "V", "A", "K"])
"""Units that could be variables: read as units behind a space only."""
_CANONICAL = {
    spelling: line.partition(":")[0]
    for line in _SPELLINGS.strip().replace("\\\\", "\\").splitlines()
    for spelling in (line.partition(":")[0], *line.partition(":")[2].split())
}
_LOWER = {spelling.lower(): unit for spelling, unit in _CANONICAL.items() if len(spelling) > 2}
_CURRENCY = "$\u20ac\u00a3\u00a5\u20b9"
_LEADING = re.compile(rf"(-?)\s*(?:US)?([{re.escape(_CURRENCY)}])\s*(-?)\s*(?=[\d.\\])")
_RUPEES = re.compile(r"(?i)^rs\.? ?(?=\d)")
_REMARK = re.compile(r"(?i) (?:old|long|tall|wide|high|deep|away|each|apiece|total|in total|in all|altogether)$")
_IN_BRACKETS = re.compile(r"(-?\d[\d.,]*) ?\(([A-Za-z][^()]*)\)")
_INVERSE = re.compile(r"([A-Za-z]+) ([A-Za-z]+) ?\^ ?\{? ?-([12]) ?\}?")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_WORD = r"(?:[A-Za-z]+|%|\\Omega(?![a-zA-Z])|\u00a2|\u20ac|\u00a3|\u00b0 ?[CF](?![a-zA-Z])|\u00b0|\$)"
_POWER = r"(?: ?\^ ?(?:\{ ?-?[1-4] ?\}|-?[1-4])| squared| cubed)"
_PREFIX = r"(?:(?:square|cubic|sq\.?|cu\.?) )"
_FACTOR = rf"{_PREFIX}?{_WORD}{_POWER}?"
_UNIT = re.compile(rf"({_FACTOR})(?: ?(/|per|\\cdot) ?({_FACTOR}))?(?: ?/ ?({_FACTOR}))?")
_TRAILING = re.compile(
    r"(?<=[\d.})!])\s*(?P<glued>[A-Za-z%\u00a2\u20ac\u00a3\u00b0$].*)$|\s(?P<apart>[A-Za-z%\u00a2\u20ac\u00a3\u00b0$\\].*)$"
)
_VALUE_END = re.compile(r"(?:[\d.)}!]|\\[a-zA-Z]+|(?<![A-Za-z])[a-z])$")
_LABEL = re.compile(r"[A-Za-z][A-Za-z'-]+(?: [A-Za-z'-]+){0,3}")
_NO_LABEL = frozenset(
    [
        "is",
        "isn't",
        "are",
        "was",
        "not",
        "no",
        "or",
        "and",
        "if",
        "than",
        "more",
        "less",
        "of",
        "the",
        "to",
        "for",
        "in",
        "on",
        "at",
        "with",
        "x",
        "times",
        "plus",
        "minus",
        "over",
        "by",
        "mod",
        "sin",
        "cos",
        "tan",
        "log",
        "ln",
        "when",
        "where",
        "for",
        "all",
        "but",
        "nor",
        "either",
        "neither",
        "between",
        "from",
        "until",
        "maybe",
        "possibly",
    ]
)
_POWERS = {"squared": "^2", "cubed": "^3", "square": "^2", "sq": "^2", "cubic": "^3", "cu": "^3"}


def split_unit(text: str) -> tuple[str, str]:
    """Return a cleaned answer without its unit, and the unit's canonical name; an empty name if it has none."""
    text = _RUPEES.sub("\u20b9", text)
    bracketed = _IN_BRACKETS.fullmatch(text)
    if bracketed is not None:  # 42 (km)
        text = f"{bracketed[1]} {bracketed[2]}"
    currency = _LEADING.match(text)
    if currency is not None:
        rest = text[currency.end() :]
        value, unit = split_unit(rest) if rest else ("", "")
        if not unit or unit == currency[2] or unit.startswith("word "):
            return f"{currency[1]}{currency[3]}{value or rest}", currency[2]
        return text, ""
    for match in _positions(text):
        value, unit = text[: match.start()].rstrip(), match.group().strip()
        if not any(character.isdigit() for character in value) or not _VALUE_END.search(value):
            continue
        name = _canonical(unit, glued=match.group("glued") is not None and not match.group().startswith(" "))
        if name and not (name == "\u00b0" and _TRIGONOMETRY.search(value)):
            return value, name
    return text, ""


def _positions(text: str) -> list[re.Match[str]]:
    """Return the matches of each place where a unit may begin, from the left, 40 at most."""
    found: list[re.Match[str]] = []
    place = 0
    while len(found) < 40:
        match = _TRAILING.search(text, place)
        if match is None:
            break
        found.append(match)
        place = match.start() + 1
    return found


def _canonical(text: str, glued: bool) -> str:
    """Return the canonical name of all of `text`; empty if it isn't a unit."""
    text = _REMARK.sub("", text)
    inverse = _INVERSE.fullmatch(text)
    if inverse is not None:  # m s^{-1}
        text = f"{inverse[1]}/{inverse[2]}" + ("" if inverse[3] == "1" else f"^{inverse[3]}")
    match = _UNIT.fullmatch(text)
    if match is not None:
        factors = [_factor(factor) for factor in (match[1], match[3], match[4]) if factor]
        if all(factors) and not (glued and text in _SINGLE):
            joint = "." if match[2] == "\\cdot" else "/"
            name = joint.join(factors[:2]) + "".join(f"/{factor}" for factor in factors[2:])
            return {"mi/h": "mph"}.get(name, name)
    if text.startswith("% ") and _LABEL.fullmatch(text[2:]):  # 20% increase
        return text
    words = text.lower().split()
    if not glued and _LABEL.fullmatch(text) and len(text) > 2 and not _NO_LABEL & set(words):
        return "word " + " ".join(word if len(word) < 4 else word.removesuffix("s") for word in words)
    return ""


def _factor(text: str) -> str:
    """Return the canonical name of one unit with its power; empty if it isn't known."""
    power = ""
    for word, written in _POWERS.items():
        if text.startswith(word + (" " if not text.startswith(f"{word}.") else ".")):
            text, power = text[len(word) :].lstrip(". "), written
        elif text.endswith(f" {word}"):
            text, power = text.removesuffix(f" {word}"), written
    base, caret, exponent = text.partition("^")
    if caret:
        power = "^" + exponent.strip(" {}")
    base = base.strip().replace("\u00b0 ", "\u00b0")
    name = _CANONICAL.get(base) or _LOWER.get(base.lower(), "")
    return name + power if name else ""


def same_unit(one: str, other: str) -> bool:
    """Return whether two units are the same, or one doesn't contradict the other."""
    if not one or not other or one == other:
        return True
    if "pound" in {one, other}:
        return bool({one, other} & {"lb", "\u00a3"})
    if {one, other} & {"%"}:
        return one.startswith("%") and other.startswith("%")
    degrees = {"\u00b0", "\u00b0C", "\u00b0F"}
    if one in degrees and other in degrees:
        return "\u00b0" in {one, other}
    for general, special in ((one, other), (other, one)):
        if general in {"unit", "th"} and special.startswith("word "):
            return True
        if general.startswith("unit") and not special.startswith("word "):
            return general.removeprefix("unit") == "".join(re.findall(r"\^\d$", special))
    if one.startswith("word ") and other.startswith("word "):
        words, others = set(one.split()), set(other.split())
        return words <= others or others <= words
    return False
