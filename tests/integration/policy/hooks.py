"""Hooks of a policy's ranks."""

from __future__ import annotations

import rlx


class Watch:
    @rlx.hookimpl
    def rlx_worker_start(self, process): ...

    @rlx.hookimpl
    def rlx_model_built(self, model): ...
