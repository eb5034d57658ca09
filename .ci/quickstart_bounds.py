"""Fails where the quickstart's last run falls short of what README promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path

BOUNDS = {
    "eval/accuracy_first": (0.0, 0.6),
    "eval/accuracy_last": (0.9, 1.0),
    "sync/logprob_diff_max": (0.0, 1e-5),
    "groups/lost": (0, 0),
    "seconds": (0, 300),
}


def main() -> int:
    summary = json.loads(Path("runs/quickstart/summary.json").read_text())
    wrong = [
        f"{key} is {summary.get(key)}, must be within {low} .. {high}"
        for key, (low, high) in BOUNDS.items()
        if summary.get(key) is None or not low <= summary[key] <= high
    ]
    if summary.get("status") != "done":
        wrong.append(f"status is {summary.get('status')}, must be 'done'")
    print("\n".join(wrong) if wrong else "quickstart: within its bounds")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
