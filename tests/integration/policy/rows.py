"""A dataset for tests, named in configs as `./rows.py:UnevenRows`."""

from __future__ import annotations

import os


class UnevenRows:
    """Rows that only rank 1 cannot read."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if os.environ["RANK"] == "1":
            raise KeyError("rank 1 has no such row")
        return {"prompt": "1+1=", "completion": "2"}
