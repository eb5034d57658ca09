"""`rlx check` of the engines and of the machine: by vLLM itself where only it knows, and without torch where not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

DEEPSEEK = Path(__file__).parents[3] / "examples" / "deepseek"
IMPORTED = """
import sys
from rlx_cli.main import main
sys.argv = ["rlx", "check", "x.toml"]
try:
    main()
finally:
    print("imported:", *sorted({"torch", "vllm", "transformers"} & set(sys.modules)))
"""


def test_a_plain_model_is_checked_without_torch(project):
    config = project()
    command = [sys.executable, "-c", IMPORTED]
    ended = subprocess.run(command, cwd=config.parent, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2:] == ["x.toml is fine.", "imported: transformers"]


def test_vllm_refuses_values_that_only_it_knows_each_with_its_key(call, project, model):
    """One process asks vLLM about all of them; arguments that need no process are refused beside it."""
    arguments = {
        "max_num_seqs": "0",
        "gpu_memory_utilization": "5.0",
        "max_logprobs": "-3",
        "attention_backend": '"JUNK"',
        "speculative_config": "{ junk = 1 }",
        "block_size": "16",
        "max_model_len": '"x"',
        "quantization": '"fp8"',
    }
    before = set(psutil.Process().children(recursive=True))
    code, out, err = call(
        "check", project(), *(f"--set=rollout.vllm.{name}={value}" for name, value in arguments.items())
    )
    assert set(psutil.Process().children(recursive=True)) <= before
    assert (code, out) == (2, "")
    for text in (
        '[rollout.vllm] max_model_len: expected an integer, got "x" (text)',
        '[rollout.vllm] quantization = "fp8": rlx can\'t work with it',
        "[rollout.vllm] max_num_seqs = 0: vLLM refuses it: Input should be greater than or equal to 1\n",
        "[rollout.vllm] gpu_memory_utilization = 5.0: vLLM refuses it: Input should be less than or equal to 1\n",
        "[rollout.vllm] max_logprobs = -3: vLLM refuses it: Input should be greater than or equal to -1\n",
        '[rollout.vllm] attention_backend = "JUNK": vLLM refuses it: Unknown attention backend',
        "[rollout.vllm] speculative_config = a table: vLLM refuses it: junk: Unexpected keyword",
    ):
        assert text in f"{err}\n"
    assert "block_size" not in err
    assert "7 problems" in err
    assert "pydantic" not in err
    assert len(err.splitlines()) == 8


@pytest.mark.parametrize("size", [16, 48])
def test_heads_that_the_engine_cannot_compute_with_are_refused(call, project, model, size):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "head_dim": size}))
    code, _, err = call("check", project())
    assert code == 2
    assert f'have the size {size}. vLLM\'s attention on device "cpu" computes with 32, 64, 80,' in err


def test_settings_of_the_model_that_are_not_used_have_a_note(call, project, model):
    (model / "generation_config.json").write_text('{"eos_token_id": 1, "temperature": 0.6, "top_k": 20}')
    code, _, err = call("check", project())
    assert code == 0
    assert "generation_config.json sets temperature = 0.6, top_k = 20, which rlx does not use" in err


without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA devices")


@without_cuda
@pytest.mark.parametrize("name", ["moonlight-grpo", "deepseek-v3-671b"])
def test_a_config_for_other_machines_is_fine_with_a_word_about_this_one(call, monkeypatch, name):
    monkeypatch.chdir(DEEPSEEK.parents[1])
    code, out, err = call("check", f"examples/deepseek/{name}.toml")
    assert code == 0, err
    assert f"{name}.toml is fine, but not for this machine: `rlx run` here would fail." in out
    assert 'note: [run] device = "cuda": PyTorch' in err


@without_cuda
def test_a_run_without_its_devices_is_refused_before_anything_starts(call, project, tmp_path):
    config = project()
    code, out, err = call("run", "--config", config, "--set", "run.device=cuda")
    assert (code, out) == (2, "")
    assert 'This machine can\'t run it.\n[run] device = "cuda": PyTorch' in err
    assert not (config.parent / "runs").exists()
    assert call("run", "--config", config, "--set", "run.device=cuda", "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "run.dir=x.toml"], "[run] dir: nothing can be written in '"),
        (["--set", "run.dir=/proc/x"], "/proc belongs to the kernel"),
        (["--run-dir", "/proc/self/x"], "the run directory: nothing can be written in '/proc/self/x'"),
        (["--run-dir", "x.toml/y"], "x.toml isn't a folder"),
        (["--set", f"run.dir={'a' * 300}"], "has 300 bytes, and a name has at most 255"),
        (["--set", f"run.name={'a' * 300}"], "[run] name: must have at most 200 character(s)"),
    ],
)
def test_a_run_directory_that_cannot_be_made_is_refused(call, project, options, message):
    code, out, err = call("run", "--config", project(), *options)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("setting", "cause"),
    [
        ("policy.parallel.dp_shard=1000", "[policy.parallel] dp_shard = 1,000"),
        ("policy.parallel={cp = 4, dp_shard = 1000}", "[policy.parallel] dp_shard = 1,000, [policy.parallel] cp = 4"),
        ("policy.parallel.dp_replicate=4000", "[policy.parallel] dp_replicate = 4,000"),
        ("rollout.replicas=500", "VLLM_CPU_KVCACHE_SPACE in [rollout] env, [rollout] replicas = 500"),
        ('rollout.env={VLLM_CPU_KVCACHE_SPACE = "5000"}', "VLLM_CPU_KVCACHE_SPACE in [rollout] env."),
    ],
)
def test_too_little_memory_names_the_key_at_fault(call, project, setting, cause):
    code, _, err = call("check", project(), "--set", setting)
    assert code == 2
    assert "Too little memory: the run needs at least" in err
    assert f"Most of it follows from {cause}" in err
