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


@pytest.mark.parametrize(
    ("kind", "text", "broken", "untested"),
    [
        ("rewards", "target = 3", "is a int, not a function", ""),
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
        ("packers", "target = 3", "it is a int", ""),
        ("packers", OF_BOARDS, "", "it does not take text as an item: "),
        ("algorithms", "from rlx.algorithms.grpo import GRPO as target", "", ""),
        ("algorithms", "from rlx.algorithms.grpo import GRPO\nclass target(GRPO):\n    rollouts = None",
         "rollouts is None", ""),
        ("hooks", "import rlx\nclass target:\n    @rlx.hookimpl\n    def rlx_step_edn(self): ...",
         "Did you mean 'rlx_step_end'?", ""),
        ("models", "target = 3", "it is a int, not an rlx.ModelPlugin", ""),
        ("models", "import rlx\ntarget = rlx.ModelPlugin(build=print, weight_mapper=print)", "", "a folder of weights"),
        ("loggers", "target = 3", "it is a int, which can't be called", ""),
    ],
)  # fmt: skip
def test_the_contract_is_checked_as_far_as_possible(kind, text, broken, untested):
    namespace = {"__name__": "bare_plugin"}
    exec(text, namespace)
    found = check_bare(kind, namespace["target"])
    assert broken in found.broken
    assert untested in found.untested
    assert (bool(found.broken), bool(found.untested)) == (bool(broken), bool(untested))
