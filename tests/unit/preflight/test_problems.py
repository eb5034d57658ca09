from __future__ import annotations

import pytest

from rlx.errors import ConfigError, RunError, UsageError
from rlx.preflight.problems import Problems


def fail(text="bad", family=ConfigError):
    raise family(text)


def test_no_problem_stops_nothing():
    problems = Problems()
    assert problems.attempt(len, "abc") == 3
    assert problems.passes(len, "abc")
    problems.stop("x.toml")
    assert not problems


def test_a_single_problem_is_its_own_text_after_the_file():
    problems = Problems()
    assert problems.attempt(fail, "[a] b: bad\nWrite good.") is None
    with pytest.raises(UsageError) as caught:
        problems.stop("x.toml")
    assert str(caught.value) == "x.toml: [a] b: bad\nWrite good."
    assert caught.value.exit_code == 2
    assert isinstance(caught.value.__cause__, ConfigError), "--traceback shows where it came from"


def test_several_problems_are_numbered_in_the_order_of_the_checks_each_once():
    problems = Problems()
    with problems.collecting("[dataset]"):
        fail("unknown\nInstalled: c")
    assert not problems.passes(fail, "two")
    problems.attempt(fail, "two")
    with pytest.raises(UsageError) as caught:
        problems.stop("x.toml")
    assert str(caught.value) == "x.toml: 2 problems\n1. [dataset]: unknown\n   Installed: c\n2. two"
    assert isinstance(caught.value.__cause__, ExceptionGroup)


def test_errors_of_other_families_pass():
    with pytest.raises(RunError), Problems().collecting():
        fail(family=RunError)
    with pytest.raises(ZeroDivisionError):
        Problems().attempt(lambda: 1 / 0)
