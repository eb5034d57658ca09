from __future__ import annotations

import sys

import pytest

from rlx_cli.main import main


@pytest.fixture
def rlx(monkeypatch, capsys):
    """`rlx(*args)`: run the command in this process; return exit code, stdout and stderr."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["rlx", *map(str, args)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer replaces it
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call
