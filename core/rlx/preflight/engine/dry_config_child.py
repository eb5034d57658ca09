"""The process that makes vLLM's config objects: arguments as JSON on stdin, the result as JSON on stdout.

No engine is started, and no memory is allocated for weights or cache.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

LONGEST = 400
"""Characters of a reason that are passed on."""

Reason = tuple[str, str]
"""The field of a config object ("" if vLLM does not name one), and what is wrong with it."""


def main() -> None:
    """Make the config, and write what it says, or which argument vLLM refuses and why."""
    request = json.load(sys.stdin)
    answers = os.dup(1)
    # vLLM and what it imports print to stdout.
    os.dup2(2, 1)
    answer = examine(request["arguments"], request["own"])
    if "refused" in answer and "max_model_len" not in request["own"]:
        # A model that gives no longest sequence gets this one.
        bounded = examine({**request["arguments"], "max_model_len": request["context"]}, request["own"])
        answer = bounded if "refused" not in bounded else answer
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        json.dump(answer, out)


def examine(arguments: dict[str, Any], own: Sequence[str]) -> dict[str, Any]:
    """Return `head_size` and `latent` of the model as vLLM sees it, or `refused`: pairs of an argument and the reasons.

    own: the arguments that the user set; they are blamed one by one. None in place of an argument: none of them is at
    fault.
    """
    refused: list[tuple[str | None, list[Reason]]] = []
    remaining = list(own)
    made, reasons = _attempt(arguments)
    while made is None:
        # The argument without which vLLM says something else, or nothing.
        outcomes = {name: _attempt(_without(arguments, name)) for name in remaining}
        blamed = next((name for name, outcome in outcomes.items() if outcome[1] != reasons), None)
        refused.append((blamed, reasons))
        if blamed is None:
            break
        remaining.remove(blamed)
        arguments = _without(arguments, blamed)
        made, reasons = outcomes[blamed]
    if refused:
        return {"refused": refused}
    return {"head_size": made.model_config.get_head_size(), "latent": bool(made.model_config.use_mla)}


def _without(arguments: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key != name}


def _attempt(arguments: dict[str, Any]) -> tuple[Any, list[Reason]]:
    """Return vLLM's config and no reasons, or None and vLLM's reasons."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    try:
        return AsyncEngineArgs(**copy.deepcopy(arguments)).create_engine_config(), []
    except Exception as error:  # noqa: BLE001 - the boundary to vLLM, whose errors have no common base
        return None, _reasons(error)


def _reasons(error: Exception) -> list[Reason]:
    """Return what an error says, each problem in one line."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        return [
            (".".join(map(str, one["loc"])), _one_line(one["msg"].removeprefix("Value error, "))) for one in problems
        ]
    text = str(error).strip() or type(error).__name__
    named = isinstance(error, ValueError | RuntimeError | OSError)
    return [("", _one_line(text if named else f"{type(error).__name__}: {text}"))]


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


if __name__ == "__main__":
    main()
