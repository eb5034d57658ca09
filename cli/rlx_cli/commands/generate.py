"""`rlx generate`: completions of a prompt by a run or a model."""

from __future__ import annotations

import sys

from rlx.earlier.generate import Ask, generate
from rlx.errors import UsageError
from rlx.terminal import visible


def generate_command(source: str, ask: Ask) -> None:
    """Print the completions. The prompt `-` is read from stdin."""
    if ask.samples < 1 or ask.max_tokens < 1:
        raise UsageError("--n and --max-tokens must be at least 1.")
    if ask.temperature != 0 and not 0.01 <= ask.temperature <= 100:
        raise UsageError(f"--temperature {ask.temperature:g}: it must be 0 (greedy), or from 0.01 to 100.")
    texts = generate(source, ask)
    for number, text in enumerate(texts, 1):
        head = f"--- {number} of {len(texts)}\n" if len(texts) > 1 else ""
        sys.stdout.write(f"{head}{visible(text)}\n")
