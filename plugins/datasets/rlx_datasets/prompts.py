"""Makes prompts of the built-in datasets: chat messages, or text for models without a chat template.

The instruction asks for the form in which the reward finds the answer. A dataset's option `instruction` replaces it; an
empty one leaves it out.
"""

from __future__ import annotations

Prompt = str | list[dict[str, str]]

THINK_AND_ANSWER = (
    "Reason first, between <think> and </think>. Then give your final answer, and nothing else, between <answer> and "
    "</answer>."
)
"""The form that the rewards `format`, `countdown` and `reasoning_gym` expect."""


def make_prompt(instruction: str, question: str, *, chat: bool, lead: str) -> Prompt:
    """Return a prompt: a system message and the question; or, as text, the instruction, the question, and `lead`, which
    the completion continues.
    """
    if chat:
        system = [{"role": "system", "content": instruction}] if instruction else []
        return [*system, {"role": "user", "content": question}]
    head = f"{instruction}\n\n" if instruction else ""
    return f"{head}Question: {question}\n{lead}"
