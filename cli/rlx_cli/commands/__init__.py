"""Commands for before and after a run.

* export.py: `rlx export`.

Rule: as in rlx_cli, a command imports what it needs when it is called.
"""

from __future__ import annotations
