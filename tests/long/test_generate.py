"""`rlx generate` starts an engine of its own, which takes longer than other tests may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlx.testing.models import make_char_model

pytestmark = pytest.mark.timeout(600)


def test_greedy_completions_are_those_of_transformers(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_char_model(tmp_path / "tiny", num_hidden_layers=2)
    command = [Path(sys.executable).parent / "rlx", "generate", folder, "-", "--temperature", "0", "--max-tokens", "8"]
    done = subprocess.run(
        [*command, "--n", "2"], input="03+04=", capture_output=True, text=True, timeout=500, check=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([tokenizer.encode("03+04=")])
    made = model.generate(prompt, do_sample=False, max_new_tokens=8)[0, prompt.shape[1] :]
    text = tokenizer.decode(made.tolist(), skip_special_tokens=True)
    assert done.stdout == f"--- 1 of 2\n{text}\n--- 2 of 2\n{text}\n"
