"""Finds the answer in a completion that reasons first: the content of the last `<answer>...</answer>`."""

from __future__ import annotations


def tagged_answer(text: str, tag: str) -> str | None:
    """Return the tagged answer, stripped; None without a complete pair of tags. With an empty `tag`, all of `text`."""
    if not tag:
        return text.strip()
    opening, closing = f"<{tag}>", f"</{tag}>"
    last = text.rfind(closing)
    start = text.rfind(opening, 0, last) if last >= 0 else -1
    if start < 0:
        return None
    start += len(opening)
    return text[start : text.find(closing, start)].strip()
