"""How the built-in datasets put a question: as chat messages, or as text for models without a chat template.

The rule of this part: an instruction is what the reward needs to find the answer; the dataset's option `instruction`
replaces it, and an empty one leaves it out.
"""

from __future__ import annotations

Prompt = str | list[dict[str, str]]

THINK_AND_ANSWER = (
    "Reason first, between <think> and </think>. Then give your final answer, and nothing else, between <answer> and "
    "</answer>."
)
"""As the rewards `format`, `countdown` and `reasoning_gym` read it."""


def make_prompt(instruction: str, question: str, *, chat: bool, lead: str) -> Prompt:
    """A system message and the question; or the instruction, the question, and `lead`, which the completion follows."""
    if chat:
        system = [{"role": "system", "content": instruction}] if instruction else []
        return [*system, {"role": "user", "content": question}]
    head = f"{instruction}\n\n" if instruction else ""
    return f"{head}Question: {question}\n{lead}"
