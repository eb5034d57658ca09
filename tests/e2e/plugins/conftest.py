"""Generated distributions as an author would use them: wheels, installed in a virtual environment of their own."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlx_cli.scaffold import KINDS


def run(command, folder, timeout=300):
    """Run a command that must succeed, and return its output."""
    result = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Generated:
    """A folder with the source of my-KIND for each kind, and a Python in which all of them are installed."""

    folder: Path
    python: Path

    def run(self, command, folder):
        return run(command, folder)

    def rlx(self, *args, timeout=300):
        return run([self.python, "-m", "rlx_cli.main", *args], self.folder, timeout)


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """One plugin of each kind, generated, built and installed."""
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
        run([sys.executable, "-m", "pip", *build], folder)
    wheels = sorted((folder / "wheels").glob("*.whl"))
    assert len(wheels) == len(KINDS)
    install = ["--quiet", "--no-deps", "--no-index", *wheels]
    run([sys.executable, "-m", "pip", "--python", made.python, "install", *install], folder)
    return made


def _environment(folder):
    """Make a virtual environment that finds rlx and its requirements where this process does; return its Python."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "outer.pth").write_text("".join(f"{path}\n" for path in sys.path if Path(path).is_dir()))
    return folder / "bin" / "python"
