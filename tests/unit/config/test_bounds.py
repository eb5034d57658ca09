"""Values that can't mean anything are refused, each with its key."""

from __future__ import annotations

import pytest

from rlx.config.load import Setting, validate
from rlx.config.schema import Config
from rlx.errors import ConfigError

EVAL = {"dataset": {"name": "d"}}


def _error(settings):
    tree = {"model": {"path": "m"}, "dataset": {"name": "d"}, "rewards": [{"name": "r"}], "eval": dict(EVAL)}
    for key, value in settings.items():
        Setting(tuple(key.split(".")), value, "").apply(tree)
    try:
        validate(tree, (), "x.toml")
    except ConfigError as error:
        return str(error).removeprefix("x.toml: ")
    return None


def _numbers(schema, path=()):
    """Yield path, type and bounds of every number of a JSON Schema."""
    node = schema
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")] | {"$defs": schema["$defs"]}
    for branch in node.get("anyOf", [node]):
        if branch.get("type") in ("integer", "number"):
            yield path, branch
        if "$ref" in branch:
            yield from _numbers(branch | {"$defs": schema["$defs"]}, path)
        if branch.get("type") == "array":
            for item in branch.get("prefixItems", [branch.get("items", {})]):
                yield from _numbers(item | {"$defs": schema["$defs"]}, path)
        for key, inner in branch.get("properties", {}).items():
            yield from _numbers(inner | {"$defs": schema["$defs"]}, (*path, key))


def test_every_number_of_the_schema_has_a_lower_and_an_upper_bound():
    found = dict(_numbers(Config.model_json_schema(by_alias=True)))
    assert len(found) > 40
    unbounded = [
        ".".join(path)
        for path, node in found.items()
        if not {"minimum", "exclusiveMinimum"} & set(node) or not {"maximum", "exclusiveMaximum"} & set(node)
    ]
    assert unbounded == ["policy.optimizer.betas"], "a rule bounds them"


@pytest.mark.parametrize(
    ("key", "refused", "allowed"),
    [
        ("rollout.temperature", [0, 1e-12, 0.001, 0.00999, 10.1, 100, 1e300], [0.01, 0.6, 1, 10]),
        ("eval.temperature", [1e-12, 0.00999, 10.1, 1e300], [0, 0.01, 1]),
        ("policy.optimizer.lr", [0, 1e-300, 1.1, 1e308], [1e-9, 1e-6, 0.1]),
        ("policy.optimizer.eps", [0, 1e-300, 1.1, 1e10], [1e-8, 1e-15, 1]),
        ("policy.optimizer.weight_decay", [-1, 1e10], [0, 0.1, 10]),
        ("policy.optimizer.max_grad_norm", [-1, 1e-30, 1e-9, 1e300], [0, 1e-3, 1, 1e6]),
        ("run.steps", [-1, 10**10, 10**40], [0, 10**9]),
        ("run.epochs", [0.0, 1e300], [0.1, 3.0]),
        ("run.heartbeat_seconds", [1e-9, 2.0, 1e300], [3.0, 60]),
        ("run.start_seconds", [1e-9, 1e300], [1, 3600]),
        ("run.stall_seconds", [1e-9, 1e300], [1, 3600]),
        ("run.name", ["a" * 201, "a" * 5000, "", "é"], ["a" * 200]),
        ("run.dir", ["", "a\0b"], ["runs", "."]),
        ("sync.timeout_seconds", [1e-9, 1e300], [1, 3600]),
        ("sync.max_logprob_diff", [0, 1e-300, 11, 1e300], [1e-6, 0.2, 10]),
        ("async.max_staleness", [-1, 10**9], [0, 100]),
        ("eval.samples", [0, 10**9], [1, 64]),
        ("eval.max_tokens", [0, 10**18], [1, 10**6]),
        ("rollout.max_tokens", [0, 10**18], [1, 10**6]),
        ("rollout.reward_workers", [0, 10**9], [1, 1024]),
        ("rollout.env", [{"A=B": "1"}, {"": "1"}, {"A\0": "1"}, {"A": "\0"}], [{"A": "=", "b.c": ""}]),
        ("policy.env", [{"A=B": "1"}, {"": "1"}, {"A\0": "1"}, {"A": "\0"}], [{"A": "="}]),
        ("rewards.0.weight", [1e308, -1e308, 1e7], [-1, 0.5, 100]),
        ("rewards.0.timeout_seconds", [0, 1e-9, 1e300], [0.01, 60]),
        ("algorithm.group_size", [0, 10**9], [1, 4096]),
        ("policy.parallel.dp_shard", [0, 10**9], [1, 1000]),
        ("model.path", ["", "m\0"], ["m"]),
        ("model.tokenizer", ["", "m\0"], ["m"]),
        ("checkpoint.every", [0, 10**12], [1, 10**6]),
        ("checkpoint.every_seconds", [0, -1, 1e300], [1, 600, 86400.0]),
    ],
)
def test_values_beyond_their_bounds_are_refused(key, refused, allowed):
    assert [value for value in allowed if _error({key: value}) is not None] == []
    table, name = key.rsplit(".", 1)
    for value in refused:
        error = _error({key: value})
        assert error is not None, value
        assert name in error
        assert table.split(".")[-1].removesuffix(".0") in error or table == "rewards.0"
        assert len(error) < 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollout.temperature": 0.002}, "got 0.002: vLLM would sample at 0.01, and the trainer would"),
        ({"run.heartbeat_seconds": 1.0}, "must be at least 3, got 1.0: processes send a heartbeat every 2 s"),
        ({"sync.max_logprob_diff": 1e300}, "must be at most 10, got 1e+300: wrong weights differ by less"),
        ({"run.steps": 10**10}, "must be at most 1,000,000,000, got 10000000000"),
        ({"policy.optimizer.lr": 0.5, "policy.optimizer.weight_decay": 2.0}, "weight_decay = 2 times lr = 0.5 is"),
        ({"policy.optimizer.max_grad_norm": 1e-9}, "is less than eps = 1e-08: gradients that small"),
        ({"eval.temperature": 0.005}, "[eval] temperature = 0.005: vLLM would sample at 0.01, its least. 0 is greedy"),
    ],
)  # fmt: skip
def test_the_message_says_why(settings, message):
    assert message in _error(settings)


def test_a_run_must_have_something_to_do():
    tree = {"model": {"path": "m"}, "dataset": {"name": "d"}, "run": {"steps": 0}}
    validate(tree, (), "x.toml")
    with pytest.raises(ConfigError, match="nothing would be done"):
        validate({**tree, "checkpoint": {"export": False}}, (), "x.toml")
    validate({**tree, "checkpoint": {"export": False}, "eval": EVAL}, (), "x.toml")
