"""The answer in a completion that reasons first: what the last `<answer>...</answer>` holds."""

from __future__ import annotations


def tagged_answer(text: str, tag: str) -> str | None:
    """Without the white space around it; None where no pair of tags is complete. An empty `tag` takes all of `text`."""
    if not tag:
        return text.strip()
    opening, closing = f"<{tag}>", f"</{tag}>"
    last = text.rfind(closing)
    start = text.rfind(opening, 0, last) if last >= 0 else -1
    if start < 0:
        return None
    start += len(opening)
    return text[start : text.find(closing, start)].strip()
