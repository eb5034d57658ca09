"""The table of answers and references, decided by hand: `math_pairs.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

TABLE = tomllib.loads(Path(__file__).with_name("math_pairs.toml").read_text(encoding="utf-8"))
FORMS = {"math": "so it is $\\boxed{{{}}}$.", "boxed_math": "\\boxed{{{}}}", "direct_math": "Answer: {}"}


def families(reward: str) -> list[str]:
    """The names of the families that say something about a reward."""
    named = [family["name"] for family in TABLE["family"]]
    return [*named, *(family["name"] for family in TABLE["completions"] if reward in family["rewards"])]


def cases(reward: str, name: str) -> Iterator[tuple[str, str, bool]]:
    """(completion, reference, whether it is right) for a family's pairs."""
    for family in [*TABLE["family"], *TABLE["completions"]]:
        if family["name"] != name:
            continue
        for verdict, pairs in ((True, family["right"]), (False, family["wrong"])):
            if verdict and family.get("algebra") and reward == "direct_math":
                continue
            for answer, reference, *_ in pairs:
                whole = answer.replace("↵", "\n") if "rewards" in family else FORMS[reward].format(answer)
                yield whole, reference, verdict
