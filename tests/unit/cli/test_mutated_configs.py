"""Configs that were changed at random: each is fine or refused with a message; the same ones in each run.

The model's folder does not exist, so that no check of weights or rows is made: these have tests of their own.
"""

from __future__ import annotations

import json
import random

import pytest

from rlx.config.errors import inline
from rlx.config.places import keys, tables
from rlx.config.schema import Config
from rlx.terminal import visible

RL = {
    "run": {"name": "a", "steps": 3, "loggers": ["jsonl"]},
    "model": {"path": "./absent"},
    "dataset": {"name": "arithmetic", "args": {"high": 49, "reverse": True}},
    "rewards": [{"name": "exact_match"}, {"name": "format", "weight": 0.1}],
    "rollout": {"max_tokens": 6, "vllm": {"max_num_seqs": 8}},
    "policy": {"dtype": "float32", "optimizer": {"lr": 1e-4}},
}
EVALUATED = {
    **RL,
    "eval": {"dataset": {"name": "arithmetic", "args": {"split": "eval"}}, "every": 2, "rewards": [{"name": "gsm8k"}]},
    "checkpoint": {"every": 2, "best": {"metric": "eval/accuracy"}},
    "filter_rewards": [{"name": "exact_match"}],
}
SFT = {"model": {"path": "./absent"}, "dataset": {"name": "jsonl", "args": {"path": "x"}}, "algorithm": {"name": "sft"}}
VALUES = [
    0, -1, 2**31, 2**63 - 1, 2**63, 10**400, 1e308, 1e-308, float("nan"), float("inf"), True, "", "x", "12",
    "a" * 5000, "\x1b[31mred\x1b]0;t\x07", "\u202eevil", "nul\0", "é/ü", "/proc/x", "./x.py:f", "builtins:int",
    "builtins:print", "json:loads", "email", "data/train.jsonl", "openai/gsm8k", "https://a.b/c", "..", "~", "--help",
    [], {}, [1], [[[]]], {"a": 1}, {"name": "x"}, {"args": {}}, ["x"], [{"name": "exact_match"}],
]  # fmt: skip
NAMES = [
    "name",
    "args",
    "high",
    "learning_rate",
    "\x1b[1mk",
    "a" * 5000,
    "path",
    "beta",
    "weight",
    "__class__",
    "é",
    "self",
]
TEXT = ["\0", "\x1b[2J", "=", "[[", '"', "'''", "\r", "\ufeff", "{", "#", "\u2028", "\n[[run]]\n", "\n[rewards]\n"]
PLACES = [(path.split(".") if path else [], key) for path, table in tables(Config) for key in keys(table)]


def holders(tree):
    """Every table and list of a config."""
    if isinstance(tree, dict | list):
        yield tree
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from holders(inner)


def change(tree, rng):
    """Change a config in one place."""
    holder = rng.choice([found for found in holders(tree) if found])
    key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    match rng.choice(["value", "delete", "repeat", "name", "schema", "schema", "schema"]):
        case "value":
            holder[key] = rng.choice(VALUES)
        case "delete":
            del holder[key]
        case "repeat" if isinstance(holder, list):
            holder.append(holder[key])
        case "name":
            rng.choice([found for found in holders(tree) if isinstance(found, dict)])[rng.choice(NAMES)] = rng.choice(
                VALUES
            )
        case _:
            path, name = rng.choice(PLACES)
            table = tree
            for part in path:
                inner = table.setdefault(part, {}) if isinstance(table, dict) else None
                table = inner[0] if isinstance(inner, list) and inner else inner
            if isinstance(table, dict):
                table[name] = rng.choice(VALUES)


def written(tree, rng):
    """A config as TOML, in one of ten with something in it that isn't."""
    text = "".join(f"{inline({key: value})[2:-2]}\n" for key, value in tree.items())
    if rng.random() < 0.1:
        middle = rng.randrange(len(text))
        text = text[:middle] + rng.choice(TEXT) + text[middle:]
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("seed", range(5))
def test_a_changed_config_is_fine_or_refused_with_a_message(rlx, tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(seed)
    for _ in range(16):
        tree = json.loads(json.dumps(rng.choice([RL, EVALUATED, SFT])))
        for _ in range(rng.choice([1, 1, 2])):
            change(tree, rng)
        (tmp_path / "x.toml").write_bytes(written(tree, rng))
        code, out, err = rlx("check", "x.toml")
        assert code == 2, (code, tree, out + err)
        assert visible(out + err) == out + err, (tree, out + err)
        assert "Traceback" not in err, (tree, err)
        assert "Please report it" not in err, (tree, err)
        assert len(out + err) < 20_000, tree
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.toml"]
