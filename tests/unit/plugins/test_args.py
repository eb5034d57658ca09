from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlx.datasets.open import make_dataset
from rlx.errors import ConfigError
from rlx.plugins.args import bind_args, check_args
from rlx.rewards.base import BoundReward

if TYPE_CHECKING:
    from somewhere import Unknown


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


def soak(**kwargs: Any): ...


class Made:
    def __init__(self, *, size: int) -> None: ...


def check(target, args, **options):
    check_args(target, args, where="[dataset] args", owner="dataset 'd' (x 1, m:d)", **options)


@pytest.mark.parametrize(
    "args",
    [
        {"path": "x"},
        {"path": "x", "count": 3, "rate": 1, "exact": True, "mode": "slow", "names": ["a"], "pair": [1, 2]},
        {"path": "x", "place": "/tmp", "untyped": object, "odd": 3},
    ],
)
def test_fits(args):
    check(build, args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"path": "x", "cuont": 3}, "'cuont' is not an option of dataset 'd' (x 1, m:d). Did you mean 'count'?"),
        ({}, "'path' is required"),
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
def test_does_not_fit(args, message):
    with pytest.raises(ConfigError) as caught:
        check(build, args)
    assert message in str(caught.value)
    assert str(caught.value).startswith("[dataset] args: ")


def test_all_problems_come_in_one_message():
    with pytest.raises(ConfigError) as caught:
        check(build, {"cuont": 3, "rate": "x"})
    assert len(str(caught.value).splitlines()) == 3


def test_class_is_checked_by_its_constructor():
    check(Made, {"size": 3})
    with pytest.raises(ConfigError, match="size: expected an integer"):
        check(Made, {"size": "3"})


def test_soaking_kwargs_take_no_options_where_they_are_not_open_ended():
    check(reward, {"scale": 2}, positional=2, open_ended=False)
    with pytest.raises(ConfigError, match="'scael' is not an option"):
        check(reward, {"scael": 2}, positional=2, open_ended=False)
    check(soak, {"anything": 1})


def test_what_rlx_passes_can_not_be_set():
    def wants(text: str, reference: Any, *, tokenizer: Any, prompt: str): ...

    check(wants, {}, offered=["tokenizer", "prompt"], positional=2)
    with pytest.raises(ConfigError, match="'prompt' is given by rlx itself"):
        check(wants, {"prompt": "x"}, offered=["tokenizer", "prompt"], positional=2)
    with pytest.raises(ConfigError, match="'prompt' is required"):
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
        (build, {"path": "x", "pair": [1, 2]}, {"path": "x", "pair": [1, 2]}),
    ],
)
def test_a_component_gets_its_own_model(target, args, bound):
    check(target, args)
    assert bind_args(target, args) == bound


@pytest.mark.parametrize(
    ("target", "args", "message"),
    [
        (whole, {"raet": 1}, ("'raet' is not an option of dataset 'd' (x 1, m:d). Did you mean 'rate'? "
                             "Its options: rate, warmup, stages.")),
        (whole, {"rate": 2.0}, "rate: must be at most 1, got 2.0."),
        (whole, {"rate": "much"}, 'rate: expected a number, got "much" (text).'),
        (whole, {"warmup": {"step": 1}}, ("'warmup.step' is not an option of dataset 'd' (x 1, m:d). "
                                         "Did you mean 'steps'? The options of 'warmup': steps, shape.")),
        (whole, {"warmup": {"shape": "linaer"}}, ("warmup.shape: expected 'linear' or 'cosine', got \"linaer\" (text). "
                                                 "Did you mean 'linear'?")),
        (whole, {"stages": [{}, {"steps": "1"}]}, 'stages[1].steps: expected an integer, got "1" (text).'),
        (whole, {"rate": 0.0, "warmup": {"steps": 1}}, "warmup without a rate does nothing."),
        (beside, {"size": 1, "warmup": {"step": 1}}, ("'warmup.step' is not an option of dataset 'd' (x 1, m:d). "
                                                     "Did you mean 'steps'? The options of 'warmup': steps, shape.")),
        (beside, {"size": 1, "warmup": 3}, "warmup: expected a table, got 3."),
        (beside, {"warmup": {}}, "'size' is required by dataset 'd' (x 1, m:d)."),
        (loose, {"rate": "x"}, 'rate: expected a number, got "x" (text).'),
    ],
)  # fmt: skip
def test_problems_of_a_model_are_told_as_those_of_a_signature(target, args, message):
    with pytest.raises(ConfigError) as caught:
        check(target, args)
    assert str(caught.value) == f"[dataset] args: {message}"


def test_reward_and_dataset_are_given_their_models():
    def reward(text: str, reference: Any = None, *, settings: Settings = Settings(), **kwargs: Any) -> float:
        return settings.rate

    def rows(options: Settings, config=None):
        return ["x"] * int(options.rate * 10)

    assert BoundReward(reward, {"rate": 0.25})("text", None, {"prompt": "p"}) == 0.25
    assert len(make_dataset(rows, {"rate": 0.4}, None, None)) == 4
