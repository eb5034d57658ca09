"""Configs that can't work are refused with exit code 2 and a single message, and nothing is left behind."""

from __future__ import annotations

import shutil
import socket
import time

import psutil
import pytest
import tomli

pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def refused(call, tmp_path):
    """`refused(config, *options)`: the message with which `rlx run` and `rlx check` refuse it, writing nothing."""

    def refused(config, *args):
        before, children = sorted(tmp_path.rglob("*")), psutil.Process().children(recursive=True)
        code, out, err = call("run", "--config", config, *args)
        assert code == 2, err
        assert out == ""
        assert "Traceback" not in err
        assert set(psutil.Process().children(recursive=True)) <= set(children)
        after = sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts)
        assert after == [path for path in before if "__pycache__" not in path.parts]
        assert call("check", config, *args)[0::2] == (2, err)
        return err

    return refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "./data.py:empty"}, "dataset './data.py:empty'"),
        ({"dataset": "./data.py:columns"}, "'question', 'answer'"),
        ({"dataset": "./data.py:chat"}, "has no chat template"),
        ({"dataset": "./data.py:Pictures"}, "): item['images'][1] can't be sent to the"),
        ({"dataset": "./data.py:Complex"}, "): reference can't be sent to the"),
        ({"dataset": "./data.py:broken"}, "OSError: no such table"),
        ({"dataset": "./data.py:rwos"}, "Did you mean 'rows'?"),
        ({"dataset": "./dta.py:rows"}, "dta.py does not exist"),
        ({"dataset": "arithmetik"}, "Unknown dataset 'arithmetik'. Did you mean 'arithmetic'?"),
        ({"dataset": "./data.py:many", "extra": 'args = {count = "2"}\n'}, '): count: expected an integer, got "2"'),
        ({"dataset": "./data.py:many", "extra": "args = {cuont = 2}\n"}, "Did you mean 'count'?"),
        ({"rewards": "exact_mach"}, "Unknown reward 'exact_mach'. Did you mean 'exact_match'?"),
        ({"rewards": "./data.py:not_callable"}, "not a function"),
        ({"rewards": None}, "needs at least one reward"),
        ({"algorithm": "grop"}, "Unknown algorithm 'grop'. Did you mean 'grpo'?"),
        ({"algorithm": "./data.py:not_callable"}, "is a int, not a class"),
        ({"algorithm": "./data.py:Odd"}, "size: this is missing"),
        ({"algorithm": "sft"}, "it ignores rewards"),
        ({"algorithm": "sft", "rewards": None}, "no target"),
    ],
)  # fmt: skip
def test_wrong_plugins_and_rows_are_refused(refused, project, options, message):
    assert message in refused(project(**options))


def test_a_missing_column_is_named_with_those_that_exist(refused, call, project, tmp_path):
    (tmp_path / "project" / "rows.jsonl").write_text('{"question": "1+1=", "answer": "2"}\n')
    config = project(dataset="hf", extra='args = {path = "json", data_files = "rows.jsonl"}\n')
    call("check", config)  # datasets shows a progress bar the first time
    assert "no column 'prompt' or 'messages'; the columns are: question, answer" in refused(config)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("policy.optimizer.lrr=1", "[policy.optimizer] lrr: unknown key. Did you mean 'lr'?"),
        ("rollot.replicas=1", "[rollot]: unknown section. Did you mean 'rollout'?"),
        ('rollout.max_tokens="512"', '[rollout] max_tokens: expected an integer, got "512" (text)'),
        ("rollout.temperature=-1", "[rollout] temperature: must be at least 0.01, got -1"),
        ("policy.parallel.tp=3", "does not fit the model: tp = 3 does not divide its 4 attention heads"),
        ("policy.parallel.tp=4", "does not fit the model: tp = 4 does not divide its 2 key-value heads"),
        ("policy.parallel.cp=3", "does not fit the model: cp = 3 does not divide its 4 attention heads"),
        ("policy.parallel={tp = 2, cp = 4}", "cp = 4 times tp = 2 does not divide its 4 attention heads"),
        (
            "policy={packing = false, parallel = {cp = 2}}",
            "cp = 2 needs packed rows, and [policy] packing = false or attention is set",
        ),
        ("policy.parallel.pp=2", "does not fit the model: pp = 2 is more than its 1 layers"),
        (
            "policy={packing = false, parallel = {pp = 2}}",
            "pp = 2 needs packed rows, and [policy] packing = false or attention is set",
        ),
        ("policy.parallel.ep=2", "does not fit the model: Qwen3ForCausalLM has no expert-parallel plan"),
        ("policy.optimizer.warmup_steps=9", "warmup_steps = 9 is more than [run] steps = 2"),
        ("rewards.0.args={strikt=true}", "): strikt: unknown key."),
        ('rewards.0.args={strict="yes"}', "strict: expected true or false"),
        ("rewards.0.args={prompt=1}", "): prompt: rlx sets this itself; it can't be chosen"),
        ("algorithm.args={clip_lo=0.1}", "rlx.algorithms.grpo:GRPO): clip_lo: unknown key. Did you mean"),
        ("algorithm.args={clip_low=-1}", "clip_low must be"),
        ("algorithm.group_size=1", "[algorithm] group_size = 1"),
        ("rollout.tensor_parallel=3", "the model's 4 attention heads (2 of keys and values). Possible: 1, 2, 4."),
        ("rollout.max_tokens=1024", "leaves no room for a prompt: the model's context is 1024 tokens"),
        ("rollout.vllm.gpu_memory_utilisation=0.5", "Did you mean 'gpu_memory_utilization'?"),
        ("rollout.vllm.dtype=float32", "use [rollout] dtype"),
        ("run.launcher=locl", "Unknown launcher 'locl'. Did you mean 'local'?"),
        ('run.loggers=["jsonll"]', "Unknown logger 'jsonll'. Did you mean 'jsonl'?"),
        ('plugins.enable=["nothing"]', "Unknown hooks plugin 'nothing'"),
        ("model.plugin=hff", "Unknown model plugin 'hff'. Did you mean 'hf'?"),
        ("model.path=./absent", "the folder './absent' does not exist"),
        ("packer.name=decoder", "Unknown packer 'decoder'"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(refused, project, setting, message):
    assert message in refused(project(), "--set", setting)


def test_a_toml_syntax_error_is_shown_with_its_line(refused, project):
    config = project(extra="args = {size = }\n")
    message = refused(config)
    assert f"{config}, line 12, column 16: Invalid value" in message
    assert message.splitlines()[-2:] == ["  args = {size = }", " " * 17 + "^"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "isn't JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "names no model_type"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no safetensors weights"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100),
            "isn't a safetensors file, or is damaged",
        ),
        (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "No tokenizer could be loaded"),
        (shutil.rmtree, "does not exist (looked for from"),
    ],
)
def test_damaged_models_are_refused(refused, project, model, damage, message):
    config = project()
    damage(model)
    assert message in refused(config)


def test_a_port_in_use_is_refused(refused, project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"[run] port = {port}: can't listen there" in refused(project(), "--set", f"run.port={port}")


def test_too_little_memory_is_refused_with_what_is_needed_and_available(refused, project, monkeypatch):
    monkeypatch.setattr("rlx.preflight.plan.available_memory", lambda: 2**30)
    message = refused(project())
    assert "1.00 GiB are available" in message
    assert "key-value cache" in message


def test_a_plugin_that_cannot_be_imported_is_refused(refused, project, tmp_path):
    (tmp_path / "project" / "bad.py").write_text("import not_there_xyz\n")
    message = refused(project(rewards="./bad.py:score"))
    assert "reward './bad.py:score'" in message
    assert "Install the distribution that provides the module 'not_there_xyz'" in message


PACKER = """
from rlx import DecoderOnlyLLMDataPacker

class Mine(DecoderOnlyLLMDataPacker):
    def {method}:
        {body}
"""


@pytest.mark.parametrize(
    ("method", "body", "message"),
    [
        ("get_policy_input(self)", "...", "packer Mine: row 0 of dataset './data.py:rows'"),
        (
            "get_policy_input(self, item, text)",
            "return super().get_policy_input(item, str(text))",
            "retokenizes = True",
        ),
        ("policy_collate_fn(self, samples, longest)", "return {}", "policy_collate_fn returned no 'input_ids'"),
        ("rollout_collate_fn(self, items)", "return items * 2", "It must return as many inputs as it got"),
    ],
)
def test_wrong_packers_are_refused(refused, project, tmp_path, method, body, message):
    (tmp_path / "project" / "packer.py").write_text(PACKER.format(method=method, body=body))
    assert message in refused(project(), "--set", "packer.name=./packer.py:Mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import rlx\n@rlx.hookimpl\ndef rlx_step_edn(step): ...\n", "Did you mean 'rlx_step_end'?"),
        ("import rlx\n@rlx.hookimpl\ndef rlx_configure(config): 1 / 0\n", "rlx_configure raised ZeroDivisionError"),
    ],
)  # fmt: skip
def test_wrong_hooks_are_refused(refused, project, tmp_path, text, message):
    (tmp_path / "project" / "hooks.py").write_text(f"{text}\nimport sys\nme = sys.modules[__name__]\n")
    assert message in refused(project(), "--set", 'plugins.enable=["./hooks.py:me"]')


EVERY = """
import rlx

class Every:
    def __init__(self, steps: int = 10):
        self.steps = steps

    @rlx.hookimpl
    def rlx_configure(self, config):
        raise rlx.ConfigError(f"every {self.steps} steps")

made = Every()
"""


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("Every", "{ setps = 5 }", "setps: unknown key. Did you mean 'steps'?"),
        ("Every", '{ steps = "5" }', 'steps: expected an integer, got "5" (text)'),
        ("Every", "{ steps = 5 }", "every 5 steps"),
        ("made", "{ steps = 5 }", "is an object, not a class: it takes no args."),
    ],
)
def test_wrong_options_of_hooks_are_refused(refused, project, tmp_path, name, args, message):
    (tmp_path / "project" / "hooks.py").write_text(EVERY)
    enable = f'[{{ name = "./hooks.py:{name}", args = {args} }}]'
    assert message in refused(project(), "--set", f"plugins.enable={enable}")


def test_a_name_that_two_distributions_offer_is_refused(refused, project, fake_dist):
    for name in ("alpha", "beta"):
        files = {"judge_mod.py": "def score(text, reference=None): return 1.0\n"}
        fake_dist(name, {"rlx.rewards": {"judge": "judge_mod:score"}}, files)
    message = refused(project(rewards="judge"))
    assert "alpha/judge" in message
    assert "beta/judge" in message


def test_the_directory_of_another_run_is_refused(call, project, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    code, _, err = call("run", "--config", project(), "--run-dir", other)
    assert code == 2
    assert "is the directory of another run" in err
    assert [path.name for path in other.iterdir()] == ["config.json"]


def test_a_good_config_passes_in_seconds_and_starts_no_process(call, project, tmp_path):
    config = project(dataset="./data.py:many", extra="args = {count = 5}\n")
    before = psutil.Process().children(recursive=True)
    started = time.monotonic()
    code, out, err = call("check", config)
    assert (code, err) == (0, "")
    assert time.monotonic() - started < 30
    for words in ("./data.py:many", "qwen3", "5 rows", "1 policy rank(s)", "1 engine(s)", "is fine"):
        assert words in out
    assert set(psutil.Process().children(recursive=True)) <= set(before)
    assert not (tmp_path / "project" / "runs").exists()


def test_a_dry_run_prints_the_resolved_config(call, project, tmp_path):
    code, out, _ = call("run", "--config", project(), "--dry-run", "--policy", 2)
    resolved = tomli.loads(out)
    assert code == 0
    assert {name: ranks for name, ranks in resolved["policy"]["parallel"].items() if ranks > 1} == {"dp_shard": 2}
    assert resolved["model"]["plugin"] == "hf"
    assert "async" in resolved
    assert not (tmp_path / "project" / "runs").exists()
    (tmp_path / "project" / "again.toml").write_text(out)
    assert call("run", "--config", "again.toml", "--dry-run")[:2] == (0, out)


def test_an_sft_config_passes(call, project):
    code, out, err = call("check", project(algorithm="sft", rewards=None, dataset="./data.py:targets"))
    assert (code, err) == (0, "")
    assert "engine" not in out


def test_problems_come_together_each_with_its_table(refused, project, tmp_path):
    config = project(rewards="exact_mach", dataset="arithmetik", extra='[eval.dataset]\nname = "arithmetik"\n')
    settings = {
        "filter_rewards": '[{name = "./data.py:score", args = {strikt = true}}]',
        "eval.rewards": '[{name = "./data.py:not_callable"}]',
        "algorithm.args": "{clip_lo = 0.1}",
        "rollout.vllm": "{gpu_memory = 1, max_model_length = 2}",
        "run.loggers": '["jsonll"]',
        "policy.parallel.tp": "3",
    }
    found = refused(config, *[word for setting in settings.items() for word in ("--set", "=".join(setting))])
    assert found.startswith(f"error: {config}: 9 problems\n1. ")
    for problem in (
        "[dataset] name and [eval.dataset] name: Unknown dataset 'arithmetik'. Did you mean 'arithmetic'?",
        "[[rewards]] number 1, name: Unknown reward 'exact_mach'.",
        "[run] loggers: Unknown logger 'jsonll'.",
        "[algorithm] args of algorithm 'grpo'",
        "[[filter_rewards]] number 1, args of reward './data.py:score'",
        "[[eval.rewards]] number 1: reward './data.py:not_callable' (",
        "[rollout.vllm] gpu_memory: vLLM has no such engine argument.",
        "[rollout.vllm] max_model_length: vLLM has no such engine argument. Did you mean 'max_model_len'?",
        "[policy.parallel] does not fit the model: tp = 3",
    ):
        assert f". {problem}" in found


def test_a_model_that_is_not_there_hides_no_other_problem(refused, project):
    found = refused(project(rewards="exact_mach"), "--set", "model.path=./absent")
    assert "2 problems" in found
    assert "the folder './absent' does not exist" in found
    assert "Unknown reward 'exact_mach'" in found
