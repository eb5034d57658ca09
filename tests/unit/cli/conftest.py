from __future__ import annotations

import sys

import pytest

from rlx_cli.main import main


@pytest.fixture
def rlx(monkeypatch, capsys):
    """`rlx` in this process: exit code, stdout, stderr."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["rlx", *map(str, args)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call
