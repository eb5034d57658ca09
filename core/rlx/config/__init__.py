"""The TOML config: strict, frozen, with a docstring under each field.

* schema.py: `Config`, with a field for each table of the file.
* sections/: the tables, one module each.
* rules.py: contradictions between settings.
* changes.py: which keys a resumed run may change.
* load.py: loads a file and command-line settings into a validated `Config`.
* errors.py: messages for values that do not fit.
* unknown.py, guesses.py: messages for keys that don't exist, and the names that newcomers write first.
* places.py: tables of the schema, and where in them a value is.

Rules:

* Unknown keys are errors, wherever they come from.
* Sections import no other part of the config; they are data.
"""

from __future__ import annotations
