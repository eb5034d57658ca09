from __future__ import annotations

import pytest

from rlx.config.schema import Config
from rlx.errors import ConfigError, RunError, UsageError
from rlx.preflight.checks.plugins import Sources
from rlx.preflight.checks.problems import Problems


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


def test_a_distribution_that_offers_a_built_ins_name_is_noted_and_changes_nothing(fake_dist, tmp_path):
    fake_dist("em", {"rlx.rewards": {"exact_match": "em_m:fn"}}, {"em_m.py": "raise SystemError('imported')\n"})
    tables = {"model": {"path": "m"}, "dataset": {"name": "arithmetic"}, "rewards": [{"name": "exact_match"}]}
    config, problems = Config.model_validate(tables), Problems()
    sources = Sources.open(config, tmp_path, problems)
    _, plugins = sources.open_plugins(config, None, problems)
    assert {record.name: record.dist for record in plugins.records}["exact_match"] == "rlx"
    assert not problems
    (note,) = problems.notes
    assert "em 1.0 offers that name, too: write 'em/exact_match' for it." in note
