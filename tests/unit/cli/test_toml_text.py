"""TOML of configs: tomli reads what is written."""

from __future__ import annotations

import json

import pytest
import tomli

from rlx.config.load import validate
from rlx.config.schema import Config
from rlx_cli.commands.toml_text import document, value_text

MINIMAL = {"model": {"path": "m"}, "dataset": {"name": "d"}}


@pytest.mark.parametrize(
    "value",
    [
        True, 0, -3, 2**62, 1.0, 1e-5, 1e16, 0.1, "", "a b", 'a "b"', "back\\slash", "two\nlines\ttab",
        "\x7f\x00\x1b[0m", "\u202e\u2028", "é \U0001f600", "# no comment", "'", '"""',
        [], [1, 2], [[1], []], [{"a": 1}, {"b": "]"}],
        {}, {"a b": 1, "c": {"d": [{}]}}, {'"': "x", "": "y", "é": 1},
    ],
)  # fmt: skip
def test_a_value_is_read_as_it_was(value):
    assert tomli.loads(f"x = {value_text(value)}") == {"x": value}
    text = document({"x": value, "table": {"y": value, "inner": {"z": value}}, "list": [{"y": value}, {"y": value}]})
    assert tomli.loads(text) == {
        "x": value,
        "table": {"y": value, "inner": {"z": value}},
        "list": [{"y": value}, {"y": value}],
    }
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"rewards": [{"name": "./a.py:[b]", "args": {"numbers": [1, 2], "deep": {"x": [{"y": 1}]}}}, {"name": "b"}]},
        {"eval": {"dataset": {"name": "e", "args": {}}, "rewards": [{"name": "r"}]}},
        {"plugins": {"enable": ["a", {"name": "b", "args": {"x": 1}}]}},
        {"plugins": {"enable": [{"name": "b", "args": {"x": 1}}]}},
        {"policy": {"env": {"A.B": "c d"}, "optimizer": {"betas": [0.9, 0.95]}}, "meta": {"a b": {"c": 1}}},
        {"rollout": {"vllm": {"max_model_len": 64, "override": {"a": None}}}},
    ],
)
def test_a_resolved_config_is_read_as_it_was(tables):
    config = Config.model_validate({**MINIMAL, **tables})
    tree = config.model_dump(by_alias=True, mode="json")
    again = validate(tomli.loads(document(tree)), (), "x.toml")
    if "rollout" in tables:  # TOML has no null
        tree["rollout"]["vllm"]["override"] = {}
    assert json.dumps(again.model_dump(by_alias=True, mode="json")) == json.dumps(tree)


def test_sections_are_tables_that_a_person_would_write():
    text = document({"run": {"steps": 3, "epochs": None}, "rewards": [{"name": "a", "args": {"b": 1}}], "meta": {}})
    assert text == 'meta = {}\n\n[run]\nsteps = 3\n\n[[rewards]]\nname = "a"\n\n[rewards.args]\nb = 1\n'
