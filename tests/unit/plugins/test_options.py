from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlx.config.errors import problems
from rlx.config.sections.base import Section
from rlx.datasets.open import make_dataset
from rlx.errors import ConfigError
from rlx.plugins.options import Options
from rlx.rewards.bound import BoundReward

if TYPE_CHECKING:
    from somewhere import Unknown


@dataclass
class Point:
    x: int


def plain(point: Point, y: int = 0): ...


def odd_names(schema: int, json: int, model_config: int, _x: int): ...


def build(
    path: str,
    count: int = 1,
    *,
    rate: float = 0.5,
    exact: bool = False,
    mode: Literal["fast", "slow"] = "fast",
    names: list[str] | None = None,
    pair: tuple[int, int] = (0, 0),
    place: Path = Path(),
    untyped=None,
    odd: Unknown = None,
): ...


def reward(text: str, reference: Any = None, *, scale: float = 1.0, **kwargs: Any) -> float: ...


def accepts_all(**kwargs: Any): ...


class Made:
    def __init__(self, *, size: int) -> None: ...


HEAD = "[dataset] args of dataset 'd' (x 1, m:d): "


def check(target, args, **options):
    Options(target, **options).check(args, where="[dataset] args", owner="dataset 'd' (x 1, m:d)")


@pytest.mark.parametrize(
    "args",
    [
        {"path": "x"},
        {"path": "x", "count": 3, "rate": 1, "exact": True, "mode": "slow", "names": ["a"], "pair": [1, 2]},
        {"path": "x", "place": "/tmp", "untyped": object, "odd": 3},
    ],
)
def test_valid_args_are_accepted(args):
    check(build, args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"path": "x", "cuont": 3}, "cuont: unknown key. Did you mean 'count'?"),
        (
            {"path": "x", "zzz": 3},
            "zzz: unknown key. Options: path: str (required), count: int = 1, rate: float = ",
        ),
        ({"path": "x", "zzz": {}}, "[zzz]: unknown section. Options: path: str (required), count: int = 1,"),
        ({}, "path: this is missing"),
        ({"path": 3}, "path: expected text, got 3"),
        ({"path": "x", "count": "3"}, 'count: expected an integer, got "3" (text)'),
        ({"path": "x", "count": 2.5}, "count: expected an integer, got 2.5"),
        ({"path": "x", "count": True}, "count: expected an integer, got true"),
        ({"path": "x", "rate": "much"}, "rate: expected a number"),
        ({"path": "x", "exact": 1}, "exact: expected true or false, got 1"),
        ({"path": "x", "mode": "fats"}, "Did you mean 'fast'?"),
        ({"path": "x", "names": [1]}, "names[0]: expected text, got 1"),
    ],
)
def test_invalid_args_are_errors(args, message):
    with pytest.raises(ConfigError) as caught:
        check(build, args)
    assert message in str(caught.value)
    assert str(caught.value).startswith(HEAD)


def test_all_problems_are_in_one_message():
    with pytest.raises(ConfigError) as caught:
        check(build, {"cuont": 3, "rate": "x", "names": [1, 2]})
    assert str(caught.value).splitlines() == [
        f"{HEAD}5 problems",
        "  path: this is missing",
        '  rate: expected a number, got "x" (text)',
        "  names[0]: expected text, got 1",
        "  names[1]: expected text, got 2",
        "  cuont: unknown key. Did you mean 'count'?",
    ]


def test_a_class_is_checked_by_its_constructor():
    check(Made, {"size": 3})
    with pytest.raises(ConfigError, match="size: expected an integer"):
        check(Made, {"size": "3"})


def test_kwargs_accept_unknown_options_only_if_open_ended():
    check(reward, {"scale": 2}, positional=2, open_ended=False)
    with pytest.raises(ConfigError, match=r"scael: unknown key\. Did you mean 'scale'"):
        check(reward, {"scael": 2}, positional=2, open_ended=False)
    check(accepts_all, {"anything": 1})


def test_arguments_that_rlx_passes_cannot_be_set():
    def wants(text: str, reference: Any, *, tokenizer: Any, prompt: str): ...

    check(wants, {}, offered=["tokenizer", "prompt"], positional=2)
    with pytest.raises(ConfigError, match="prompt: rlx sets this itself; it can't be chosen"):
        check(wants, {"prompt": "x"}, offered=["tokenizer", "prompt"], positional=2)
    with pytest.raises(ConfigError, match="prompt: this is missing"):
        check(wants, {}, offered=["tokenizer"], positional=2)


class Warmup(BaseModel):
    steps: int = 0
    shape: Literal["linear", "cosine"] = "linear"


class Settings(BaseModel):
    rate: float = Field(0.5, ge=0, le=1)
    warmup: Warmup = Warmup()
    stages: list[Warmup] = []

    @model_validator(mode="after")
    def _early(self):
        if self.rate == 0 and self.warmup.steps:
            raise ValueError("warmup without a rate does nothing")
        return self


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    rate: float = 0.5


def whole(settings: Settings = Settings()): ...


def required(settings: Settings): ...


def beside(size: int, warmup: Warmup | None = None): ...


def loose(settings: Open): ...


def either(size: int | str = 0, warmup: str | Warmup = "", by_name: dict[str, Warmup] = {}): ...


class Limit(BaseModel):
    word: str
    length: int = 3


def needs(limit: Limit, size: int = 1): ...


def optional(limit: Limit | None = None): ...


class Node(BaseModel):
    children: list[Node] = []


def tree(top: Node, size: int = 1): ...


@pytest.mark.parametrize(
    ("target", "args", "bound"),
    [
        (whole, {}, {}),
        (whole, {"rate": 0.25}, {"settings": Settings(rate=0.25)}),
        (required, {}, {"settings": Settings()}),
        (required, {"warmup": {"steps": 3}}, {"settings": Settings(warmup=Warmup(steps=3))}),
        (beside, {"size": 3}, {"size": 3}),
        (beside, {"size": 3, "warmup": {"steps": 2}}, {"size": 3, "warmup": Warmup(steps=2)}),
        (loose, {"rate": 1.0, "more": 2}, {"settings": Open(rate=1.0, more=2)}),
        (optional, {}, {}),
        (optional, {"word": "x"}, {"limit": Limit(word="x")}),
        (either, {"size": "x", "by_name": {"a": {}}}, {"size": "x", "by_name": {"a": Warmup()}}),
        (either, {"warmup": "none"}, {"warmup": "none"}),
        (build, {"path": "x", "pair": [1, 2]}, {"path": "x", "pair": [1, 2]}),
        (odd_names, {"schema": 1, "json": 2, "model_config": 3, "_x": 4},
         {"schema": 1, "json": 2, "model_config": 3, "_x": 4}),
        (plain, {"point": {"x": 1, "more": 2}}, {"point": {"x": 1, "more": 2}}),
    ],
)  # fmt: skip
def test_options_are_bound_to_the_components_model(target, args, bound):
    check(target, args)
    assert Options(target).bind(args) == bound


@pytest.mark.parametrize(
    ("target", "args", "message"),
    [
        (whole, {"raet": 1}, "raet: unknown key. Did you mean 'rate'?"),
        (
            whole,
            {"zzz": 1},
            (
                "zzz: unknown key. Options: rate: float = 0.5, warmup.steps: int = 0, "
                'warmup.shape: "linear" | "cosine" = "linear", stages: list[Warmup] = [].'
            ),
        ),
        (whole, {"rate": 2.0}, "rate: must be at most 1, got 2.0"),
        (whole, {"rate": "much"}, 'rate: expected a number, got "much" (text)'),
        (whole, {"warmup": {"step": 1}}, "[warmup] step: unknown key. Did you mean 'steps'?"),
        (whole, {"warmup": {"rate": 1}}, "[warmup] rate: unknown key. Keys: steps, shape."),
        (whole, {"shape": "linear"}, "shape: unknown key. It is a key of [warmup] and of [stages]."),
        (whole, {"warmup": {"shape": "linaer"}},
         ("[warmup] shape: expected 'linear' or 'cosine', got \"linaer\" (text). "
         "Did you mean 'linear'?")),
        (whole, {"stages": [{}, {"steps": "1"}]}, '[[stages]] number 2, steps: expected an integer, got "1" (text)'),
        (whole, {"stages": [{}, 3]}, "stages[1]: expected a table, got 3"),
        (whole, {"rate": 0.0, "warmup": {"steps": 1}}, "warmup without a rate does nothing"),
        (beside, {"size": 1, "warmup": {"step": 1}}, "[warmup] step: unknown key. Did you mean 'steps'?"),
        (beside, {"size": 1, "warmup": 3}, "warmup: expected a table, got 3"),
        (beside, {"warmup": {}}, "size: this is missing"),
        (plain, {"point": {"x": "1"}}, 'point.x: expected an integer, got "1" (text)'),
        (plain, {"point": {}}, "point.x: this is missing"),
        (loose, {"rate": "x"}, 'rate: expected a number, got "x" (text)'),
        (either, {"size": 1.5}, "size: expected an integer, got 1.5"),
        (either, {"warmup": {"step": 1}}, "[warmup] step: unknown key. Did you mean 'steps'?"),
        (either, {"warmup": 3}, "warmup: expected text, got 3"),
        (either, {"by_name": {"a": {"step": 1}}}, "[by_name.a] step: unknown key. Did you mean 'steps'?"),
        (needs, {}, "[limit]: this section is missing. It needs: word"),
        (tree, {"top": {"children": [{"chlidren": []}]}},
         "[[top.children]] number 1, chlidren: unknown key. Did you mean 'children'?"),
    ],
)  # fmt: skip
def test_model_errors_read_like_signature_errors(target, args, message):
    with pytest.raises(ConfigError) as caught:
        check(target, args)
    assert str(caught.value) == f"{HEAD}{message}"


def test_rewards_and_datasets_get_their_models():
    def reward(text: str, reference: Any = None, *, settings: Settings = Settings(), **kwargs: Any) -> float:
        return settings.rate

    def rows(options: Settings, config=None):
        return ["x"] * int(options.rate * 10)

    assert BoundReward(reward, {"rate": 0.25})("text", None, {"prompt": "p"}) == 0.25
    assert len(make_dataset(rows, {"rate": 0.4}, None, None)) == 4


class Table(Section):
    """A section of the config with the options of `listed`."""

    count: int
    word: str = ""
    limits: Limits


class Limits(Section):
    characters: int = 3


def listed(count: int, limits: Limits, word: str = ""): ...


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"cuont": 1, "count": 1, "limits": {}}, "cuont: unknown key. Did you mean 'count'?"),
        ({"limits": {}}, "count: this is missing"),
        ({"count": 1}, "[limits]: this section is missing."),
        ({"count": "1", "limits": {}}, 'count: expected an integer, got "1" (text)'),
        ({"count": 1, "limits": 3}, "limits: expected a table, got 3"),
        ({"count": 1, "limits": {"charcters": 1}}, "[limits] charcters: unknown key. Did you mean 'characters'?"),
        ({"count": 1, "limits": {"characters": 1.5}}, "[limits] characters: expected an integer, got 1.5"),
    ],
)
def test_sections_and_args_share_their_error_messages(values, sentence):
    with pytest.raises(ValidationError) as found:
        Table.model_validate(values)
    with pytest.raises(ConfigError) as caught:
        check(listed, values)
    (line,) = problems(Table, found.value.errors())
    assert line.startswith(sentence)
    assert str(caught.value) == f"{HEAD}{line}"


def test_schema_and_list_of_options():
    assert Options(plain).json_schema()["properties"]["y"] == {"default": 0, "type": "integer"}
    assert Options(build).json_schema()["properties"]["odd"] == {"default": None}
    assert Options(optional).json_schema()["anyOf"][0] == {"maxProperties": 0}
    assert Options(accepts_all).json_schema()["additionalProperties"] is True
    assert Options(reward, positional=2, open_ended=False).json_schema()["additionalProperties"] is False
    shown = {option.name: option for option in Options(build).shown()}
    assert (shown["mode"].type, shown["mode"].default) == ('"fast" | "slow"', "fast")
    assert (shown["pair"].type, shown["pair"].default) == ("tuple[int, int]", [0, 0])
    assert (shown["place"].type, shown["path"].required) == ("Path", True)
    assert [option.name for option in Options(beside).shown()] == ["size", "warmup"]
