"""`rlx check` calls rewards and tokenises rows as a run does: what fails there is found before a process starts."""

from __future__ import annotations

import json

import psutil
import pytest

from rlx.testing.models import make_char_model

REWARDS = """
import os, time

def raises(text, reference=None):
    return 1 / len(text)

def none(text, reference=None):
    return None

def nan(text, reference=None):
    return float("nan")

def words(text, reference=None):
    return "good"

def hangs(text, reference=None):
    time.sleep(100)

def aborts(text, reference=None):
    print("out of luck")
    os._exit(3)

def unfit(text, reference=None):
    return reference["target"]

def unreached(text, reference=None):
    raise ConnectionRefusedError(111, "Connection refused")

def takes_all(text, reference=None, *, prompt, token_ids, finish_reason, example):
    assert (prompt, finish_reason, len(token_ids)) == (example, "stop", len(text))
    return float(text == reference)

def group(texts, reference=None):
    assert len(texts) == 2
    return [1.0]
group.group_reward = True

class Keyed:
    def __init__(self):
        self.key = os.environ["NO_SUCH_KEY"]

    def __call__(self, text, reference=None):
        return 1.0
"""
OBJECTS = """
import os

def function():
    pass

class NoLog:
    def __init__(self, config, run_dir, steps):
        (run_dir / "written").write_text("by a logger")

class KeyedLog(NoLog):
    def __init__(self, config, run_dir, steps):
        raise KeyError("NO_SUCH_KEY")

class AbortsLog(NoLog):
    def __init__(self, config, run_dir, steps):
        print("out of luck")
        os._exit(4)

class NoStart:
    def close(self):
        pass

class NoLoss:
    rollouts, needs_reference = True, False

    def advantages(self, groups):
        return [[float(number) for number in range(len(group))] for group in groups]
"""
ROWS = """
import rlx

class Packer(rlx.DecoderOnlyLLMDataPacker):
    def get_rollout_input(self, item):
        return [10**9]

class Chat:
    def __init__(self, chat: bool = True):
        self.rows = [[{"role": "user", "content": "1+1="}] if chat else "1+1="]

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.rows[index]

class Rows:
    def __init__(self, count: int = 1, longest: int = 4):
        self.rows = ["1+1="] * count
        self.rows[-1] = "1" * longest

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]

    def get_reference_answer(self, index):
        return "2"

class Torn(Rows):
    def __getitem__(self, index):
        if index in (5, 6):
            raise OSError("torn page")
        return {7: "", 8: "1" * 64, 9: "1" * 70, 11: "3+1="}.get(index, f"{index}+1=")
"""


@pytest.fixture(scope="module")
def char_model(tmp_path_factory):
    shape = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "head_dim": 32}
    return make_char_model(tmp_path_factory.mktemp("model"), **shape, max_position_embeddings=64)


@pytest.fixture
def check(call, project, tmp_path):
    """`check(**settings)`: exit code, stdout and stderr of `rlx check`; no process is left, and nothing is written."""
    (tmp_path / "project" / "own.py").write_text(REWARDS + OBJECTS + ROWS)

    def check(*flags, command=("check",), **settings):
        config = project(dataset="./own.py:Rows", rewards="./own.py:takes_all")
        settings = {"rollout__max_tokens": 8} | settings
        sets = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
        before, children = sorted(tmp_path.rglob("*")), psutil.Process().children(recursive=True)
        outcome = call(*command, config, *flags, *[word for one in sets for word in ("--set", one)])
        assert set(psutil.Process().children(recursive=True)) <= set(children)
        after = sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts)
        assert after == [path for path in before if "__pycache__" not in path.parts]
        return outcome

    return check


def rewards(*named):
    """The rewards of a config: names, or (name, further keys)."""
    pairs = [(one, "") if isinstance(one, str) else one for one in named]
    return "[" + ", ".join(f'{{name = "./own.py:{name}"{keys}}}' for name, keys in pairs) + "]"


def test_rewards_that_give_no_reward_are_refused_all_at_once(check):
    slow = ", timeout_seconds = 0.5"
    names = ["raises", "none", "nan", "words", ("hangs", slow), "aborts", "unfit", "group", "takes_all"]
    code, _, err = check(rewards=rewards(*names))
    assert code == 2
    assert "8 problems" in err, err
    for number, found in enumerate(
        [
            "raised ZeroDivisionError: division by zero",
            "returned None, which is not a reward",
            "returned float nan, which is not a reward",
            "returned str 'good', which is not a reward",
            "took more than 0.5 s and was killed.",
            "its process exited with code 3.",
            "raised TypeError: string indices must be integers",
            "returned 1 values for 2 completions.",
        ],
        1,
    ):
        name = names[number - 1] if isinstance(names[number - 1], str) else names[number - 1][0]
        assert f"\n{number}. [[rewards]] number {number}: reward './own.py:{name}' (" in err
        assert found in err
    assert "It was called for row 0 of dataset './own.py:Rows'" in err
    assert "It printed:\n   out of luck" in err
    assert "return 1 / len(text)" in err, "the line of the reward that raised"


def test_a_constructor_that_raises_is_refused_with_its_reward(check):
    code, _, err = check(rewards=rewards("takes_all", "Keyed"))
    assert code == 2
    assert "[[rewards]] number 2: reward './own.py:Keyed' (" in err
    assert "its constructor raised KeyError: 'NO_SUCH_KEY'" in err


def test_failures_that_are_dropped_and_services_that_are_not_there_are_notes(check):
    drop = ', on_error = "drop"'
    code, _, err = check(rewards=rewards(("raises", drop), "unreached"))
    assert code == 0, err
    assert "number 1: reward './own.py:raises'" in err
    assert "It failed in 1 of 2 calls." in err
    assert "Connection refused" in err
    assert "Nothing listens there now." in err
    code, _, err = check(rewards=rewards(("none", drop)))
    assert code == 2
    assert "failed in 2 of 2 calls: every group would be dropped" in err


def test_rewards_of_held_out_rows_are_called_with_those(check):
    held_out = '{dataset = {name = "./data.py:rows"}, rewards = [{name = "./own.py:unfit"}]}'
    code, _, err = check(rewards=rewards("takes_all"), eval=held_out)
    assert code == 2
    assert "[[eval.rewards]] number 1: reward './own.py:unfit'" in err
    assert "row 0 of dataset './data.py:rows'" in err


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"longest": 63}, 0, "max_tokens = 8: completions of 1 of 2 rows of [dataset] are cut before that"),
        ({"longest": 63}, 0, "the model's context of 64 tokens: at 1 tokens after the longest prompt"),
        ({"longest": 64, "fail": True}, 2, "[dataset]: the prompts of 1 of 2 rows leave no room for a completion"),
        ({"longest": 64, "fail": True}, 2, "the model's context of 64 tokens: row 1 has 64 tokens."),
        ({"longest": 40, "vllm": 32, "fail": True}, 2, "[rollout.vllm] max_model_len = 32: row 1 has 40 tokens."),
        ({"longest": 64, "count": 500, "fail": True}, 2, "1 of 64 rows tried"),
        ({"longest": 64}, 0, 'row 1 has 64 tokens. [dataset] on_bad_row = "drop": such rows are dropped and counted.'),
    ],
)
def test_prompts_are_compared_with_the_context(check, settings, code, words):
    args = {"count": 2, **settings}
    limit = {"rollout__vllm__max_model_len": args.pop("vllm")} if "vllm" in args else {}
    limit |= {"dataset__on_bad_row": "fail"} if args.pop("fail", False) else {}
    given = ", ".join(f"{key} = {value}" for key, value in args.items())
    found = check(rewards=rewards("takes_all"), dataset__args=f"{{{given}}}", **limit)
    assert found[0] == code
    assert words in found[2]


LOGGERS = [f"./own.py:{name}" for name in ("function", "NoLog", "KeyedLog", "AbortsLog")]


def test_objects_that_cannot_be_made_or_lack_methods_are_refused_all_at_once(check):
    objects = {"run__launcher": "./own.py:NoStart", "algorithm__name": "./own.py:NoLoss"}
    code, _, err = check(run__loggers=json.dumps([*LOGGERS, "jsonl", "console"]), **objects)
    assert code == 2
    assert "6 problems" in err, err
    for found in (
        "1. [algorithm]: algorithm './own.py:NoLoss' (",
        "has no method loss(batch, totals). Write a class,",
        "[run] launcher: launcher './own.py:NoStart' (",
        "has no method start(process). Write a class,",
        "[run] loggers: logger './own.py:function' (",
        "takes (). Write a class, made as cls(config, run_dir, steps), with the methods log(step, metrics, kind) and",
        "[run] loggers: logger './own.py:NoLog' (",
        "its constructor raised KeyError: 'NO_SUCH_KEY'",
        "its constructor ended its process with exit code 4.\n   It printed:\n   out of luck",
    ):
        assert found in err


def test_a_run_refuses_a_logger_in_the_same_words_before_it_starts(check, tmp_path):
    checked = check(run__loggers=json.dumps(LOGGERS[1:3]))
    ran = check(command=("run", "--config"), run__loggers=json.dumps(LOGGERS[1:3]))
    assert ran[0] == checked[0] == 2
    assert ran[2] == checked[2]
    assert not (tmp_path / "project" / "runs").exists()
    assert "2 problems" in ran[2]


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"packer__name": "./own.py:Packer"}, 2, "packer Packer made the token id 1000000000, and the model's vocab"),
        (
            {"dataset__name": "./own.py:Chat"},
            2,
            "has no chat template. Set model.chat_template, or use prompts of text.",
        ),
        ({"dataset__name": "./own.py:Chat"}, 2, " The dataset gives text with args = { chat = false }."),
        ({"eval__dataset__name": "./own.py:Rows"}, 0, "note: [eval.dataset] is, or holds, rows of [dataset]: the same"),
        ({"eval__dataset": '{name = "./own.py:Rows", args = {count = 1}}'}, 0, "1 of 1 rows compared are equal"),
        (
            {"rewards__0__name": "./data.py:score"},
            0,
            "a completion that is the reference answer gets the same total (1)",
        ),
        ({"model__revision": "main"}, 2, "only a model on the Hub has revisions"),
    ],
)
def test_rows_and_settings_are_compared_with_model_and_rewards(check, settings, code, words):
    found = check(**settings)
    assert found[0] == code, found[2]
    assert words in found[2]


def test_all_rows_are_tokenised_if_asked_for(check):
    args = "{count = 300, longest = 4}"
    code, out, err = check(dataset__args=args, rewards__0__name="./data.py:score")
    assert code == 0, err
    assert "4 in the longest of the 64 rows tried" in out
    code, out, err = check("--data", dataset__args=args)
    assert code == 0, err
    assert "[dataset]: 4 tokens in the median, 4 in the longest of 300 rows" in out
    assert "  duplicates: 298: row 1 is row 0, row 2 is row 0," in out


@pytest.mark.parametrize(("fail", "code"), [(False, 0), (True, 2)])
def test_all_rows_are_described(check, fail, code):
    settings = {"dataset__on_bad_row": "fail"} if fail else {}
    found = check("--data", dataset__name="./own.py:Torn", dataset__args="{count = 300}", **settings)
    assert found[0] == code, found[2]
    lines = found[1].splitlines()
    for line in (
        "[dataset]: 300 rows",
        "  tokens: shortest 4, median 6, 90 % 6, 99 % 6, longest 70, sum 1,803",
        "  empty: 1: row 7",
        "  duplicates: 1: row 11 is row 3",
        "  too long for the model's context of 64 tokens: 2: row 8 has 64, row 9 has 70",
        "  can't be used: 3",
        "    dataset './own.py:Torn' (",
    ):
        assert any(shown.startswith(line.rstrip()) for shown in lines), (line, found[1])
    assert ('on_bad_row = "drop": such rows are dropped and counted.' in found[2]) == (not fail)
