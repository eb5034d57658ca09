"""For people who test rlx or a plugin of it."""

from __future__ import annotations
