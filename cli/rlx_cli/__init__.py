"""The command line `rlx`.

* main.py, group.py: the commands, and those that installed distributions add.
* boundary.py: every way in which a command can end, as a message and an exit code.
* run.py, check.py: `rlx run`, `rlx check`.
* commands/: the commands for before and after a run.
* plugins.py, plugins_show.py, plugins_check.py, plugin_commands.py: `rlx plugins ...`.
* scaffold.py, templates/: `rlx plugin new`.
* schema.py: `rlx schema`.
* paste.py, messages.py: TOML lines to paste; errors and notes on the screen.

Rule: a command imports what it needs when it is called, so `rlx --help` is fast.
"""

from __future__ import annotations
