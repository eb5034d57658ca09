"""A launch script in one process: how it is found, that it runs once, and how its errors are reported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rlx.errors import PluginError, UsageError
from rlx.script.launch_worker import ScriptParts, launch_worker
from rlx.script.runner import Script, find_script

ROWS = "import rlx\nif __name__ == '__main__':\n    rlx.launch_worker(dataset=['a', 'b'])\n"


def test_parts_hold_the_arguments_of_launch_worker(script):
    found = script("import rlx\ndef judge(text): return 1\nrlx.launch_worker(dataset=['a'], reward_fns=[judge])\n")
    assert found.parts.dataset == ["a"]
    assert [function("x") for function in found.parts.reward_fns] == [1]
    assert found.record.given == ("dataset", "reward_fns")


def test_the_script_runs_as_main_with_its_own_arguments_and_folder(script, tmp_path):
    (tmp_path / "beside.py").write_text("ROWS = ['from beside']\n")
    text = "import sys, rlx\nfrom beside import ROWS\nrlx.launch_worker(dataset=[__name__, *sys.argv[1:], *ROWS])\n"
    before = list(sys.argv)
    assert script(text, "--size", "3").parts.dataset == ["__main__", "--size", "3", "from beside"]
    assert sys.argv == before
    assert sys.modules["__main__"].__name__ == "__main__"


def test_the_script_runs_once_per_process(script, tmp_path):
    found = script("import rlx\nopen('ran', 'a').write('x')\nrlx.launch_worker(dataset=['a'])\n".replace(
        "'ran'", repr(str(tmp_path / "ran"))))  # fmt: skip
    for _ in range(3):
        assert found.parts.dataset == ["a"]
    assert (tmp_path / "ran").read_text() == "x"


def test_nothing_after_launch_worker_is_run(script):
    text = "import rlx\ntry:\n    rlx.launch_worker(dataset=['a'])\nexcept Exception:\n    raise\n1 / 0\n"
    assert script(text).parts.dataset == ["a"]


def test_a_script_may_be_a_module(script, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "entry.py").write_text(ROWS)
    (tmp_path / "package" / "__main__.py").write_text(ROWS.replace("'b'", "'main'"))
    assert find_script("package.entry", [], tmp_path).parts.dataset == ["a", "b"]
    assert find_script("package", [], tmp_path).parts.dataset == ["a", "main"]


@pytest.mark.parametrize(
    ("word", "hint"), [("absent.py", ""), ("x.toml", "Did you mean --config x.toml?"), ("no_such.module", "")]
)
def test_a_missing_script_is_an_error(word, hint, tmp_path):
    with pytest.raises(UsageError, match=f"The launch script '{word}' was not found") as caught:
        find_script(word, [], tmp_path)
    assert hint in str(caught.value)


def test_an_unknown_argument_is_a_type_error_with_a_hint():
    with pytest.raises(TypeError, match=r"no argument 'reward_fn'. Did you mean 'reward_fns'\? Its arg"):
        launch_worker(reward_fn=[])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import rlx\nrlx.launch_worker(rewards=[])\n", "TypeError: launch_worker() has no argument 'rewards'"),
        ("def load():\n    raise OSError('no table')\nload()\n", "OSError: no table"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("import os\nos._exit(3)\n", "SystemExit: os._exit(3)"),
        ("raise KeyboardInterrupt\n", "RuntimeError: KeyboardInterrupt, without a Ctrl-C"),
    ],
)
def test_an_error_shows_only_the_scripts_own_traceback_lines(script, text, message):
    found = script(text)
    with pytest.raises(PluginError) as caught:
        _ = found.parts
    report = str(caught.value)
    assert f"The launch script {found.record.target}: running it raised {message}" in report
    assert f'File "{found.record.target}", line ' in report
    assert "runpy" not in report
    assert "rlx/script" not in report


def test_a_script_without_launch_worker_is_an_error(script):
    with pytest.raises(PluginError, match=r"ended without calling rlx\.launch_worker"):
        _ = script("x = 1\n").parts


def test_a_script_that_changed_since_the_launch_is_refused(script):
    found = script(ROWS)
    script(ROWS.replace("'b'", "'c'"))
    with pytest.raises(PluginError, match="not the one that the launcher ran"):
        _ = Script(found.record).parts


def test_parts_list_the_given_arguments():
    assert ScriptParts(dataset=[], hooks=[]).given == ("dataset", "hooks")


def test_a_script_started_by_python_becomes_rlx_run(tmp_path):
    (tmp_path / "entry.py").write_text(ROWS)
    (tmp_path / "x.toml").write_text('[model]\npath = "./none"\n')
    command = [sys.executable, "entry.py", "--config", "x.toml", "--set", "run.stepz=3", "--", "--mine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done
    assert "[run] stepz: unknown key. Did you mean 'steps'? (from --set run.stepz=3)" in done.stderr
