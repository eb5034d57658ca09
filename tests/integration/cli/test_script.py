"""`rlx check` and `rlx run` with a launch script, until processes would be started."""

from __future__ import annotations

import pytest

SCRIPT = """
import sys, rlx
from data import rows, score

ARGUMENTS = sys.argv[1:]

class Hook:
    @rlx.hookimpl
    def rlx_configure(self, config):
        print("configured", config.run.steps, ARGUMENTS)

if __name__ == "__main__":
    rlx.launch_worker(dataset=lambda config: rows, reward_fns=[score], val_dataset=rows, hooks=[Hook])
"""


@pytest.fixture
def script(project):
    """`script(text)`: a config that names neither dataset nor reward, with the launch script entry.py beside it."""

    def write(text=SCRIPT, extra=""):
        path = project(rewards="", extra=extra)
        path.write_text(path.read_text().replace('[dataset]\nname = "./data.py:rows"\n', ""))
        (path.parent / "entry.py").write_text(text)
        return path

    return write


def test_check_shows_the_components_of_the_script(call, script):
    code, out, err = call("check", script(), "entry.py", "--", "--mine")
    assert code == 0, err
    assert "configured 2 ['--mine']" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["dataset", "entry", "the", "launch", "script:", "dataset"] in [row[:6] for row in rows]
    assert ["reward", "score", "the", "launch", "script:", "reward_fns"] in [row[:6] for row in rows]
    assert ["dataset", "entry-validation", "the", "launch", "script:", "val_dataset"] in [row[:6] for row in rows]
    assert "2 rows, 2 to evaluate" in out


def test_options_after_the_script_are_its_own(call, script):
    code, out, err = call("run", "--dry-run", "--config", script(), "entry.py", "--dry", "--config", "y")
    assert code == 0, err
    assert "configured 2 ['--dry', '--config', 'y']" in out


@pytest.mark.parametrize(
    ("text", "extra", "message"),
    [
        ("1 / 0\n", "", "entry.py: running it raised ZeroDivisionError: division by zero"),
        (
            "import rlx\nrlx.launch_worker(dataset=[], reward_fns=[lambda text, reference: 1])\n",
            "",
            "entry.py, dataset) is empty.",
        ),
        (
            SCRIPT.replace("val_dataset=rows", "sampler=lambda d: [9]"),
            "",
            "gave 9, which isn't a row of a dataset of 2",
        ),
        (
            SCRIPT.replace("[score]", "[lambda text, reference, extra: 1]"),
            "",
            "extra: this is missing",
        ),
        (SCRIPT, '[[rewards]]\nname = "exact_match"\n', "[[rewards]] names 'exact_match'"),
        (SCRIPT, '[dataset]\nname = "arithmetic"\n', "dataset 'arithmetic' is offered by rlx/arithmetic and given by"),
    ],
)
def test_an_error_in_a_script_is_one_message(call, script, tmp_path, text, extra, message):
    code, _, err = call("run", "--run-dir", tmp_path / "run", "--config", script(text, extra), "entry.py")
    assert code == 2, err
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config", "x.toml", "absent.py"], "The launch script 'absent.py' was not found"),
        (["x.toml"], "Did you mean --config x.toml?"),
        (["--resume", "somewhere", "entry.py"], "leave out the launch script"),
    ],
)
def test_wrong_arguments_around_a_script_are_refused(call, script, args, message):
    script()
    code, _, err = call("run", *args)
    assert (code, message in err) == (2, True), err
