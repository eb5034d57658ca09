"""Generated distributions, as an author would have them: wheels, installed in a virtual environment of their own."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlx_cli.scaffold import KINDS


def done(command, folder, timeout=300):
    """The output of a command that must succeed."""
    result = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Generated:
    """`folder/my-KIND` for each kind, all of them installed from their wheels."""

    folder: Path
    python: Path

    def run(self, command, folder, timeout=300):
        return done(command, folder, timeout)

    def rlx(self, *args, timeout=300):
        return done([self.python, "-m", "rlx_cli.main", *args], self.folder, timeout)


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    made = Generated(folder, _environment(folder / "venv"))
    for kind in KINDS:
        name = f"my-{kind}"
        made.rlx("plugin", "new", kind, name)
        build = [
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            folder / "wheels",
            folder / name,
        ]
        done([sys.executable, "-m", "pip", *build], folder)
    wheels = sorted((folder / "wheels").glob("*.whl"))
    assert len(wheels) == len(KINDS)
    install = ["--quiet", "--no-deps", "--no-index", *wheels]
    done([sys.executable, "-m", "pip", "--python", made.python, "install", *install], folder)
    return made


def _environment(folder):
    """A new one, which finds rlx and what rlx needs where this process finds it: nothing is downloaded."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "outer.pth").write_text("".join(f"{path}\n" for path in sys.path if Path(path).is_dir()))
    return folder / "bin" / "python"
