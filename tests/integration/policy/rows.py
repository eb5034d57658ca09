"""Datasets for tests, named in configs as `./rows.py:UnevenRows`."""

from __future__ import annotations

import os


class UnevenRows:
    """Rows of which rank 1 can't read row 1, which is none of those that are compared at the start."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        if os.environ["RANK"] == "1" and index == 1:
            raise KeyError("rank 1 has no such row")
        return {"prompt": "1+1=", "completion": "2"}


class OwnRows:
    """Rows that are others in every rank from the 30th on."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"prompt": f"{index}=", "completion": os.environ["RANK"] if index >= 30 else "2"}
