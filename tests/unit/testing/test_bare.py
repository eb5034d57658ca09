from __future__ import annotations

import pytest

from rlx.testing.bare import check_bare

RANDOM_ROWS = """
import random

class target:
    def __len__(self):
        return 9

    def __getitem__(self, index):
        return str(random.random())
"""
OF_BOARDS = """
import rlx

class target(rlx.DecoderOnlyLLMDataPacker):
    def get_rollout_input(self, item):
        return item["board"]
"""


NONE_FOR_TEXT = """
import rlx

class target(rlx.DecoderOnlyLLMDataPacker):
    def get_rollout_input(self, item):
        return None
"""
EMPTY_FOR_TEXT = NONE_FOR_TEXT.replace("None", "[]")
LOGGER = """
class target:
    def __init__(self, *a): ...
    def close(self, summary): ...
    def log(self, step, metrics, kind): ...
"""


@pytest.mark.parametrize(
    ("kind", "text", "broken", "untested"),
    [
        ("rewards", "target = 3", "it is an int (3), not a function or a class with __call__", ""),
        ("rewards", "def target(text, reference=None): return None", "returned None, which is not a reward", ""),
        ("rewards", "def target(text, reference, *, url: str): return 1.0", "", "it needs args: url"),
        ("rewards", "class target:\n    def __init__(self): raise OSError('no key')\n    def __call__(self, *a): ...",
         "", "it can't be made without args: OSError: no key"),
        ("datasets", "target = ['a', 'b']", "", ""),
        ("datasets", "target = [1, 2]", "a int is not a prompt", ""),
        ("datasets", "def target(): return iter([])", "has no __len__", ""),
        ("datasets", "def target(): raise OSError('no network')", "", "it can't be opened here: "),
        ("datasets", RANDOM_ROWS, "row 0 was", ""),
        ("packers", "import rlx\nclass target(rlx.DecoderOnlyLLMDataPacker): ...", "", ""),
        ("packers", "target = 3", "it is an int (3), not a class", ""),
        ("packers", OF_BOARDS, "", "it does not take text as an item: "),
        ("algorithms", "from rlx.algorithms.grpo import GRPO as target", "", ""),
        ("algorithms", "from rlx.algorithms.grpo import GRPO\nclass target(GRPO):\n    rollouts = None",
         "rollouts is None", ""),
        ("hooks", "import rlx\nclass target:\n    @rlx.hookimpl\n    def rlx_step_edn(self): ...",
         "Did you mean 'rlx_step_end'?", ""),
        ("models", "target = 3", "it is an int (3), not an rlx.ModelPlugin", ""),
        ("models", "import rlx\ntarget = rlx.ModelPlugin(build=print, weight_mapper=print)", "", "a folder of weights"),
        ("rewards", "def target(text, reference=None): raise ValueError('no')",
         "", "it refused every text: ValueError: no"),
        ("rewards", "def target(text, reference=None): raise SystemExit(3)",
         "", "it refused every text: SystemExit: 3"),
        ("rewards", "def target(text, reference=None): return 1 / len(text)", "", ""),
        ("rewards", "def target(text, reference=None): return float(text == reference[:2])", "", ""),
        ("rewards", "class target: ...", "its instances can't be called: target has no __call__", ""),
        ("datasets", "class target(list):\n    def setup(self, a, b, c): ...", "setup", ""),
        ("datasets", "class target:\n    def __len__(self): return -1\n    def __getitem__(self, i): ...",
         "__len__", ""),
        ("packers", "class target:\n    def get_rollout_input(self, item): return item", "setup", ""),
        ("packers", NONE_FOR_TEXT, "None", ""),
        ("packers", EMPTY_FOR_TEXT, "empty", ""),
        ("loggers", "target = 3", "it is an int (3), not a class", ""),
        ("loggers", "def target(config, run_dir, steps): ...", "not a class", ""),
        ("loggers", "class target:\n    def __init__(self, *a): ...\n    def close(self, summary): ...",
         "it has no method `log`", ""),
        ("loggers", LOGGER, "", ""),
        ("loggers", LOGGER.replace("metrics, kind", "metrics"), "`log` can't be called with step, metrics, kind", ""),
        ("loggers", LOGGER + "    def status(self): ...", "`status` can't be called with status", ""),
        ("loggers", LOGGER + "    def log_samples(self, samples): ...", "`log_samples` can't be called with step", ""),
        ("loggers", LOGGER + "    def log_samples(self, step, samples, kind): samples[9]", "", "IndexError"),
        ("loggers", LOGGER.replace("*a): ...", "*a): raise OSError('no API key')"), "", "OSError: no API key"),
        ("loggers", LOGGER.replace("metrics, kind): ...", "metrics, kind): metrics['own']"), "", "KeyError: 'own'"),
        ("launchers", "class target:\n    def start(self, process): ...", "it has no method `close`", ""),
        ("launchers", "from rlx.launchers.local import LocalLauncher as target", "", "rlx.testing.check_launcher"),
        ("commands", "target = 3", "it is an int (3), not a typer.Typer or a function", ""),
        ("commands", "def target(where: str): ...", "", ""),
        ("commands", "def target(where: int | str): ...", "typer can't make a command of it", ""),
    ],
)  # fmt: skip
def test_the_contract_is_checked_as_far_as_possible(kind, text, broken, untested):
    namespace = {"__name__": "bare_plugin"}
    exec(text, namespace)
    found = check_bare(kind, namespace["target"])
    assert broken in found.broken
    assert untested in found.untested
    assert (bool(found.broken), bool(found.untested)) == (bool(broken), bool(untested))
