"""Every way in which a command can end is a message and an exit code: no traceback for mistakes of others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlx.errors import UsageError
from rlx.terminal import visible

EXTRAS = ["torch", "transformers", "tokenizers", "datasets", "pyarrow", "safetensors", "httpx2", "vllm", "tensorboard"]
BASE_INSTALL = f"import sys\nsys.modules.update(dict.fromkeys({EXTRAS}))\n"
COMMAND = "from rlx_cli.main import main\nmain()\n"
CONFIG = '[model]\npath = "m"\n[dataset]\nname = "arithmetic"\n[[rewards]]\nname = "{reward}"\n'


def started(*args, code=COMMAND, **options):
    """Run `rlx` in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **options)


@pytest.fixture
def raising(rlx, monkeypatch):
    """`raising(error)`: run a command that raises it; return exit code, stdout and stderr."""

    def call(error, *options):
        def fail(**_):
            raise error

        monkeypatch.setattr("rlx_cli.plugins.plugins_command", fail)
        return rlx("plugins", *options)

    return call


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/not/mine"), "error: /not/mine: Permission denied. ("),
        (OSError(36, "File name too long", "x" * 9), "error: xxxxxxxxx: File name too long. ("),
        (OSError(18, "Invalid cross-device link", "/a", None, "/b"), "error: /a -> /b: Invalid cross-device link. ("),
        (OSError(28, "No space left on device"), "can't be written: No space left on device. Is the disk full?"),
        (ConnectionRefusedError(111, "Connection refused"), "error: ConnectionRefusedError: [Errno 111] Connection"),
        (MemoryError(), "error: There is too little memory for this."),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 'leaves out: pip install "rlx[cpu]"'),
        (ModuleNotFoundError("...", name="reasoning_gym.factory"), 'leaves out: pip install "rlx[reasoning-gym]"'),
        (ImportError("libcudart.so: not found", name="torch._C"), "torch can't be imported here: libcudart.so: not"),
        (UsageError("mine"), "error: mine\n"),
    ],
)
def test_errors_that_are_not_mistakes_of_rlx_are_one_message(raising, error, message):
    code, out, err = raising(error)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert "bug" not in err


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ModuleNotFoundError("No module named 'rlx.gone'", name="rlx.gone"), RecursionError(), TypeError()],
)
def test_mistakes_of_rlx_are_shown_with_their_traceback(raising, error):
    code, _, err = raising(error)
    assert code == 1
    assert "Traceback" in err
    assert "Please report it" in err


NASTY = "a\x1b[31m\x1b]0;title\x07\u202eb\r\x9bc"


@pytest.mark.parametrize(
    "args",
    [
        [NASTY],
        ["run", f"--{NASTY}"],
        ["check", NASTY],
        ["run", "--config", NASTY],
        ["run", "--config", "x.toml", NASTY],
        ["run", "--resume", NASTY],
        ["plugins", "show", NASTY, "x"],
        ["plugins", "show", "reward", NASTY],
        ["plugins", "show", "reward", f"./{NASTY}.py:fn"],
        ["plugins", "check", NASTY],
        ["plugin", "new", "reward", NASTY],
        ["plugin", "new", "reward", "mine", "--dir", f"/proc/{NASTY}"],
    ],
)
def test_text_of_the_command_line_is_never_printed_raw(rlx, args):
    code, out, err = rlx(*args)
    assert code == 2
    assert "a\\x1b" in err
    assert visible(out + err) == out + err


def test_tracebacks_are_not_printed_raw(raising):
    _, _, bug = raising(KeyError(NASTY))
    _, _, error = raising(UsageError(NASTY))
    for text in (bug, error):
        assert visible(text) == text


def test_long_names_are_shortened(rlx):
    for args in (["check", "x" * 200_000], ["plugins", "show", "reward", "y" * 200_000]):
        code, _, err = rlx(*args)
        assert code == 2
        assert len(err) < 4000
        assert " characters ...]" in err


def test_a_third_party_command_does_not_decide_over_the_exit_code_by_its_result(rlx, fake_dist):
    body = "import typer\ndef seven():\n    return 7\ndef three():\n    raise typer.Exit(3)\n"
    fake_dist("cmds", {"rlx.commands": {"seven": "cmds_m:seven", "three": "cmds_m:three"}}, {"cmds_m.py": body})
    assert rlx("seven")[0] == 0
    assert rlx("three")[0] == 3


@pytest.mark.parametrize(("command", "unbuffered"), [("plugins", ""), ("--help", "1")])
def test_a_full_disk_is_one_message(command, unbuffered):
    with Path("/dev/full").open("w") as full:
        done = started(command, stdout=full, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: The output, or a file, can't be written: No space left on device. Is the disk full?"
    ]


@pytest.mark.parametrize(("command", "unbuffered"), [("plugins", ""), ("schema", "1")])
def test_a_reader_that_has_seen_enough_is_not_an_error(command, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = started(command, stdout=pipe, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 1
    assert re.sub(r"(?s)^note: left out: .*", "", done.stderr) == ""  # of the base install: rewards that need more


def test_streams_that_are_closed_are_not_an_error():
    shell = ["sh", "-c", '"$0" -c "$1" plugins >&- 2>&- <&-', sys.executable, COMMAND]
    assert subprocess.run(shell, timeout=60, check=False).returncode == 0


def test_text_that_the_encoding_lacks_is_escaped():
    done = started(
        "plugins", "show", "reward", "é", stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 2
    assert "Unknown reward '\\xe9'" in done.stderr


@pytest.mark.parametrize("command", [["check"], ["run", "--config"]])
def test_the_base_install_says_what_to_install(command, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "x.toml").write_text(CONFIG.format(reward="exact_match"))
    done = started(*command, "x.toml", code=BASE_INSTALL + COMMAND, stdout=subprocess.PIPE, cwd=tmp_path)
    assert done.returncode == 2
    assert 'which the base install of rlx leaves out: pip install "rlx[cpu]", or "rlx[gpu]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_a_built_in_plugin_that_needs_an_extra_names_it():
    done = started("plugins", "show", "reward", "http", code=BASE_INSTALL + COMMAND, stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert "'http' (rlx 0.1.0, " in done.stderr
    assert 'leaves out: pip install "rlx[cpu]"' in done.stderr
