"""Plugins: found by metadata, named by the config, imported one at a time.

The rules of this part:

* Installing a distribution changes no run. A component takes part when the config names it, a hook when the config
  enables it.
* Finding reads metadata only. Nothing is imported before it is named, and then just that one.
* There is no global registry: a `Catalog` and a `Registry` are values that are passed.
* The launcher resolves names into `PluginRecord`s; every process loads from those and stops where its
  environment differs.
"""

from __future__ import annotations
