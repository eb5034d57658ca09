"""The suites need only the base install of rlx."""

from __future__ import annotations

import subprocess
import sys

import pytest

EXTRAS = ["torch", "transformers", "tokenizers", "datasets", "numpy", "pyarrow", "safetensors", "math_verify", "vllm"]
SETUP = f"import sys\nsys.modules.update(dict.fromkeys({EXTRAS}))\nimport rlx\nfrom rlx.testing import *\n"
HOOKS = """
class Notes:
    @rlx.hookimpl
    def rlx_step_end(self, metrics):
        metrics["mine"] = 1.0

check_hooks(Notes, call=True)
"""


@pytest.mark.parametrize(
    "code",
    [
        "check_reward(lambda text, reference: text == reference, examples=[('1', '1', 1)])",
        "check_dataset(['1+1=', [{'role': 'user', 'content': '1+1='}]])",
        "check_packer(rlx.DecoderOnlyLLMDataPacker, items=['1+1='])",
        HOOKS,
    ],
    ids=["reward", "dataset", "packer", "hooks"],
)
def test_suites_run_without_the_extras(code):
    done = subprocess.run([sys.executable, "-c", SETUP + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
