"""Tools for tests of plugins: contract suites, stand-ins, and fixtures for pytest.

Files:

* suites/: a contract suite for each kind of plugin.
* stand_ins/: a tokenizer, tiny models, a config, episodes.
* tokenizer.py, models.py: the public paths of the first two.
* fixtures.py: pytest fixtures, built on dist.py (fake distributions) and project.py (a user's project).
* probe.py, bare.py: contract checks of any installed plugin, in a separate process (`rlx plugins check`).

Rules:

* A suite `check_KIND(target, ...)` returns None, or raises one `ContractError` that lists every broken rule.
* A suite calls a plugin through the same code as a run does.
* Nothing is imported before it is used: `import rlx.testing` is cheap, and only tests of algorithms and models need
  torch.
* pytest does not load the fixtures by itself. Enable them: `pytest_plugins = ["rlx.testing.fixtures"]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx.lazy import lazy_exports

_WHERE = {
    "CharTokenizer": "rlx.testing.stand_ins.tokenizer",
    "ContractError": "rlx.testing.suites.contract",
    "Example": "rlx.testing.suites.reward_calls",
    "check_algorithm": "rlx.testing.suites.algorithm",
    "check_dataset": "rlx.testing.suites.dataset",
    "check_hooks": "rlx.testing.suites.hooks",
    "check_launcher": "rlx.testing.suites.launcher",
    "check_logger": "rlx.testing.suites.logger",
    "check_model_plugin": "rlx.testing.suites.model_plugin",
    "check_packer": "rlx.testing.suites.packer",
    "check_reward": "rlx.testing.suites.reward",
}

__all__ = [*_WHERE]  # noqa: PLE0604 - the keys are strings

if TYPE_CHECKING:
    from rlx.testing.stand_ins.tokenizer import CharTokenizer as CharTokenizer
    from rlx.testing.suites.algorithm import check_algorithm as check_algorithm
    from rlx.testing.suites.contract import ContractError as ContractError
    from rlx.testing.suites.dataset import check_dataset as check_dataset
    from rlx.testing.suites.hooks import check_hooks as check_hooks
    from rlx.testing.suites.launcher import check_launcher as check_launcher
    from rlx.testing.suites.logger import check_logger as check_logger
    from rlx.testing.suites.model_plugin import check_model_plugin as check_model_plugin
    from rlx.testing.suites.packer import check_packer as check_packer
    from rlx.testing.suites.reward import check_reward as check_reward
    from rlx.testing.suites.reward_calls import Example as Example
else:
    __getattr__, __dir__ = lazy_exports(__name__, _WHERE)
