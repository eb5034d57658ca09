"""Commands for before and after a run.

* export.py: `rlx export`.
* generate.py: `rlx generate`.
* init.py, guess.py: `rlx init`, and what it finds out.
* ledger.py: `rlx ledger`.
* models.py: `rlx models make-tiny`.
* version.py: `rlx --version`.
* toml_text.py: the TOML text of a config.

Rule: as in rlx_cli, a command imports what it needs when it is called.
"""

from __future__ import annotations
