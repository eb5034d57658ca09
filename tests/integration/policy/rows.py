"""Datasets for tests, named in configs as `./rows.py:UnevenRows`."""

from __future__ import annotations

import os


class UnevenRows:
    """Rows of which rank 1 can't read row 1. The ranks don't compare this row when they start."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        if os.environ["RANK"] == "1" and index == 1:
            raise KeyError("rank 1 has no such row")
        return {"prompt": "1+1=", "completion": "2"}


class DifferentRows:
    """Rows that differ between ranks from row 30 on."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"prompt": f"{index}=", "completion": os.environ["RANK"] if index >= 30 else "2"}
