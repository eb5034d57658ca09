"""Discovery, resolution and use of plugins: components that the config names, and hooks that it enables.

* catalog.py: kinds of plugins, and the entry points of installed distributions, from their metadata.
* resolve.py: resolves a name in the config to a plugin record, without importing the plugin.
* records.py: records in messages: owners, and the parts of a target.
* load.py: imports one plugin.
* contain.py: keeps a plugin's code from ending the process, or hanging, without a word.
* options.py: checks the config's `args` against the signature of their component.
* objects.py: makes components without options, and checks their methods.
* signature.py: which of the arguments that rlx offers a callable accepts.
* hookspecs.py: every hook, with its process, frequency and permissions.
* hooks.py: the enabled hooks plugins of one process.
* hook_thread.py: calls them in a thread of their own, where they stop no heartbeats.
* registry.py: components that hooks plugins add by code.
* timings.py: seconds, calls and failures of rewards and hooks.
* session.py: the plugins of one process of a run: `Plugins.open(boot)`.

Rules:

* Installing a distribution changes no run. A component takes part if the config names it, a hook if the config enables
  it.
* Discovery reads metadata only. A plugin is imported only when it is used.
* Nothing is registered globally: a `Catalog` and a `Registry` are values that are passed around.
* The launcher resolves names into `PluginRecord`s; every process loads from those, and stops if its environment
  differs.
"""

from __future__ import annotations
