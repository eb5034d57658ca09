from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from rlx.errors import ConfigError
from rlx.plugins.args import check_args

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
        ({"path": "x", "names": [1]}, "names: expected text, got 1"),
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
