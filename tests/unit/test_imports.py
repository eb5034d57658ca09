from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "modules",
    [
        "rlx.datasets.open, rlx.packers.base, rlx.rewards.base, rlx.loggers.base, rlx.packers.tokenizer",
        "rlx.rewards.pool, rlx.rewards.worker",
        "rlx_datasets.arithmetic, rlx_datasets.hf, rlx_datasets.gsm8k",
        "rlx_rewards.exact_match, rlx_rewards.gsm8k, rlx_rewards.math, rlx_rewards.boxed_math, rlx_rewards.overlong",
        "rlx_rewards.direct_math, rlx_rewards.format, rlx_rewards.http, rlx_rewards.single_choice",
    ],
)
def test_importing_loads_no_heavy_packages(modules):
    heavy = "torch transformers vllm datasets math_verify sympy numpy"
    code = f"import sys, {modules}\nprint([m for m in '{heavy}'.split() if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["rlx_datasets", "rlx_rewards"])
def test_public_names_exist_and_unknown_names_raise(package):
    module = __import__(package)
    assert all(callable(getattr(module, name)) for name in module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing
