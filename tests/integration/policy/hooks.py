"""Hooks for tests, named in configs as `./hooks.py:Watch`: every rank calls them."""

from __future__ import annotations

import rlx


class Watch:
    @rlx.hookimpl
    def rlx_worker_start(self, process): ...

    @rlx.hookimpl
    def rlx_model_built(self, model): ...
