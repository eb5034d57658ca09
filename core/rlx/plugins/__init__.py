"""Discovery, resolution and use of plugins: components that the config names, and hooks that it enables.

catalog     Kinds of plugins, and the entry points of installed distributions, from their metadata.
resolve     From a name in the config to a plugin record, without importing the plugin.
records     Names of records and owners in messages.
load        Import of one plugin.
options     The config's `args` and the signature of the component that they are for.
signature   Which of the arguments that rlx offers a callable accepts.
hookspecs   Every hook, with its process, frequency and permissions.
hooks       The enabled hooks plugins of one process.
registry    Components that hooks plugins add by code.
timings     Seconds, calls and failures of rewards and hooks.
session     The plugins of one process of a run: `Plugins.open(boot)`.

Rules:

* Installing a distribution changes no run. A component takes part if the config names it, a hook if the config enables
  it.
* Discovery reads metadata only. A plugin is imported when it is used, and no other with it.
* There is no global registry: a `Catalog` and a `Registry` are values that are passed.
* The launcher resolves names into `PluginRecord`s; every process loads from those, and stops if its environment
  differs.
"""

from __future__ import annotations
