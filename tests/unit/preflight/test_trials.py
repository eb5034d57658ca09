"""The parts of the trials that need no process: lengths, forms of answers, reports of slow work."""

from __future__ import annotations

import time

import pytest

from rlx.config.schema import Config
from rlx.errors import PluginError, UsageError
from rlx.plugins.objects import Contract, make_object
from rlx.preflight.checks.model_facts import ModelFacts
from rlx.preflight.checks.problems import Problems
from rlx.preflight.trials.lengths import Lengths, check_completions_fit, engine_limit, report_prompts
from rlx.preflight.trials.progress import Progress
from rlx.preflight.trials.rewards import as_answer


def config(**sections):
    return Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, **sections})


def found_in(problems):
    try:
        problems.stop("")
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("tokens", "max_tokens", "problem", "note"),
    [
        ([10, 20, 30], 70, "", ""),
        ([10, 20, 30], 71, "", "completions of 1 of 3 rows of [dataset] are cut before that"),
        ([10, 20, 30], 95, "", "completions of 3 of 3 rows of [dataset] are cut"),
        ([10, 99, 30], 5, "", "at 1 tokens after the longest prompt"),
        ([10, 100, 30], 5, "1 of 3 rows leave no room for a completion", ""),
        ([10, 100, 300], 5, "row 1 has 100 tokens, row 2 has 300 tokens", ""),
        ([*[200] * 7], 5, "row 4 has 200 tokens, and 2 more", ""),
    ],
)
def test_prompts_and_completions_share_the_context(tokens, max_tokens, problem, note):
    problems, facts = Problems(), ModelFacts(model_type="x", context=100)
    lengths = Lengths(len(tokens), dict(enumerate(tokens)))
    limit = engine_limit(config(), facts)
    report_prompts(lengths, limit, max_tokens, problems, table="[dataset]", key="[rollout] max_tokens")
    assert (problem in found_in(problems)) == bool(problem) or not problem
    assert bool(found_in(problems)) == bool(problem)
    assert bool(problems.notes) == bool(note)
    assert note in "".join(problems.notes)


@pytest.mark.parametrize(
    ("vllm", "context", "limit"),
    [
        ({}, 100, 100),
        ({}, None, None),
        ({"max_model_len": 50}, 100, 50),
        ({"max_model_len": 50}, None, 50),
        ({"max_model_len": -1}, 100, 100),
        ({"max_model_len": "auto"}, 100, 100),
    ],
)
def test_the_limit_is_the_models_or_the_configs(vllm, context, limit):
    found = engine_limit(config(rollout={"vllm": vllm}), ModelFacts(model_type="x", context=context))
    assert (found.tokens if found else None) == limit


def test_max_tokens_of_an_evaluation_must_leave_room_too():
    problems, facts = Problems(), ModelFacts(model_type="x", context=100)
    sections = {"rollout": {"max_tokens": 99}, "eval": {"dataset": {"name": "d"}, "max_tokens": 100}}
    check_completions_fit(config(**sections), facts, problems)
    assert (
        found_in(problems) == "[eval] max_tokens = 100 leaves no room for a prompt: the model's context is 100 tokens."
    )


@pytest.mark.parametrize(
    ("reference", "prompt", "answer"),
    [
        ("7", "3+4=", "7"),
        (7, "3+4=", "7"),
        (None, "3+4=", "1"),
        ({"numbers": [3], "target": 3}, "reach 3", '{"numbers": [3], "target": 3}'),
        ("7", "End with #### <number>", "#### 7"),
        ("so it is\n#### 7", "End with #### <number>", "so it is\n#### 7"),
        ("7", "Put it into \\boxed{}", "\\boxed{7}"),
        ("7", "between <think> and </think>, then <answer> and </answer>", "<think></think><answer>7</answer>"),
        ("7", "between <answer> and </answer>\n<think>\n", "</think><answer>7</answer>"),
    ],
)
def test_a_right_answer_has_the_form_that_its_prompt_asks_for(reference, prompt, answer):
    assert as_answer(reference, prompt) == answer


def test_slow_work_is_reported_while_it_lasts_and_quick_work_is_not():
    said = []
    progress = Progress(said.append, seconds=0.05)
    with progress.doing("nothing"):
        pass
    with progress.doing("reading row 3"):
        deadline = time.monotonic() + 10
        while len(said) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    count = len(said)
    assert count >= 2
    assert all(line.startswith("still reading row 3, for ") for line in said)
    time.sleep(0.1)
    assert len(said) == count


class Whole:
    def __init__(self, config, run_dir):
        self.config = config

    def log(self, step, *others, kind="x"):
        """Takes what it is called with, in a way of its own."""


class NoLog:
    def __init__(self, *args):
        pass


class OddLog(NoLog):
    def log(self, metrics):
        """Takes too little."""


class OddStatus(Whole):
    def status(self):
        """Takes too little."""


class Raises(Whole):
    def __init__(self, config, run_dir):
        raise SystemExit("no key")


CONTRACT = Contract(("config", "run_dir"), {"log": ("step", "metrics")}, {"status": ("status",)})


def test_an_object_with_the_methods_is_returned():
    assert make_object(Whole, (1, 2), owner="logger 'x'", contract=CONTRACT).config == 1
    assert make_object(lambda config, run_dir: Whole(config, run_dir), (1, 2), owner="", contract=CONTRACT).config == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "logger 'x' is a int, and must be a class."),
        (lambda: None, "logger 'x' takes ()."),
        (lambda config, run_dir: None, "logger 'x' returned a NoneType, which has no method log(step, metrics)."),
        (NoLog, "logger 'x' has no method log(step, metrics)."),
        (OddLog, "logger 'x' has log(metrics), which is called as log(step, metrics)."),
        (OddStatus, "logger 'x' has status(), which is called as status(status)."),
        (Raises, "logger 'x': its constructor raised SystemExit: no key"),
    ],
)
def test_other_objects_are_refused_with_what_to_write(target, message):
    with pytest.raises(PluginError) as caught:
        make_object(target, (1, 2), owner="logger 'x'", contract=CONTRACT)
    assert str(caught.value).startswith(message)
    if target is not Raises:
        assert str(caught.value).endswith(
            "Write a class, made as cls(config, run_dir), with the methods log(step, metrics)."
        )
