"""Measure start-up: `rlx --help` and `rlx plugins` against `python -c pass`, in this environment, with 300 unrelated
distributions added, with 300 plugins added, and with a broken and a slow one (5 s import) among those.

Wall seconds of whole processes, medians; the commands take turns, so that other load affects all of them. Exits with 1
if a listing lacks plugins or waited for an import.

    python benchmarks/startup.py [--runs 11] [--distributions 300]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import typer, importlib.metadata": ["-c", "import typer, importlib.metadata"],
    "rlx --help": ["-m", "rlx_cli.main", "--help"],
    "rlx plugins": ["-m", "rlx_cli.main", "plugins"],
}
MODULES = {"broken": "raise RuntimeError('broken')\n", "slow": "import time\ntime.sleep(5)\n"}


def add_distribution(site: Path, name: str, module: str = "") -> None:
    """Write the metadata of an installed distribution. With `module`, it offers a reward of this module."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    headers = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: rlx>=0.1\n"
    (info / "METADATA").write_text(f"{headers}\n{'A long description. ' * 200}\n")
    points = f"[rlx.rewards]\n{name} = {module}:reward\n" if module else f"[console_scripts]\n{name} = {name}:main\n"
    (info / "entry_points.txt").write_text(points)


def sites(folder: Path, count: int) -> dict[str, tuple[Path, int]]:
    """Return, for each case, a folder for PYTHONPATH and the number of plugins in it."""
    for name in ("none", "unrelated", "plugins", "bad"):
        (folder / name).mkdir()
    for number in range(count):
        add_distribution(folder / "unrelated", f"dist{number}")
        add_distribution(folder / "plugins", f"dist{number}", "fine")
        if number >= len(MODULES):
            add_distribution(folder / "bad", f"dist{number}", "fine")
    for name, text in MODULES.items():
        (folder / "bad" / f"{name}.py").write_text(text)
        add_distribution(folder / "bad", name, name)
    return {
        "as installed": (folder / "none", 0),
        f"+ {count} unrelated": (folder / "unrelated", 0),
        f"+ {count} plugins": (folder / "plugins", count),
        "one broken, one slow among them": (folder / "bad", count),
    }


def seconds(arguments: list[str], site: Path) -> tuple[float, str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - began, done.stdout


def measure(site: Path, plugins: int, runs: int) -> tuple[dict[str, float], bool]:
    """Return the median seconds of each command, and whether the listings were complete and quick."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    right = True
    for _ in range(runs):
        for name, arguments in COMMANDS.items():
            wall, output = seconds(arguments, site)
            taken[name].append(wall)
            if name == "rlx plugins":
                right &= output.count(":reward\n") == plugins and wall < 5
    return {name: statistics.median(walls) for name, walls in taken.items()}, right


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of a start.")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--distributions", type=int, default=300)
    options = parser.parse_args()
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        for case, (site, plugins) in sites(Path(folder), options.distributions).items():
            medians, right = measure(site, plugins, options.runs)
            fine &= right
            base = medians["python -c pass"]
            print(f"{case}{'' if right else ': WRONG LISTING'}")
            for name, median in medians.items():
                print(f"  {name:34} {median * 1000:6.0f} ms  {median / base:5.1f}x")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
