from __future__ import annotations

import pytest

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.preflight.epochs import with_steps


def config(run, groups=8, **optimizer):
    policy = {"groups_per_step": groups, "optimizer": optimizer}
    return Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, "run": run, "policy": policy})


@pytest.mark.parametrize(
    ("epochs", "rows", "steps"), [(1, 80, 10), (3, 81, 31), (0.5, 80, 5), (2, 3, 1), (1.1, 80, 11)]
)
def test_epochs_become_whole_steps(epochs, rows, steps):
    resolved = with_steps(config({"epochs": epochs}), rows)
    assert (resolved.run.steps, resolved.run.epochs) == (steps, None)
    again = Config.model_validate(resolved.model_dump(by_alias=True, mode="json"))
    assert with_steps(again, rows + 9).run.steps == steps, "a resumed run is as long as it was"


def test_a_config_with_steps_is_unchanged():
    plain = config({"steps": 7})
    assert with_steps(plain, 80) is plain


def test_epochs_too_short_for_the_warmup_are_refused():
    with pytest.raises(ConfigError, match=r"\[run\] epochs = 1 of 80 rows: .*warmup_steps = 11 is more than .* = 10"):
        with_steps(config({"epochs": 1}, warmup_steps=11), 80)
