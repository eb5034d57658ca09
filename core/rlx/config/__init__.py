"""The TOML config: strict, frozen, with a docstring under each field.

schema      `Config`, with a field for each table of the file.
sections/   The tables, one module each.
rules       Contradictions between settings.
load        From a file and the command line to a validated `Config`.
errors      Messages for values that do not fit.

Rules:

* Unknown keys are errors, wherever they come from.
* Sections import no other part of the config; they are data.
"""

from __future__ import annotations
