"""The code blocks of the docs work: Python runs and its tests pass, TOML fits the schema and the plugins that it names,
commands exist, and commands that start no process print what is shown.

If the line above a block ends with `name.py`:, the block is written to a file of that name. All files of a page are in
one folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli
import typer

from rlx.config.load import load_config
from rlx.controller.records.trajectories import GroupRecord, write_groups
from rlx.episodes import Episode, Reward, encode_episodes, single_turn
from rlx.errors import RlxError
from rlx.preflight.checks.plugins import Sources, check_components
from rlx.preflight.checks.problems import Problems
from rlx_cli.main import app

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("README.md", "docs/**/*.md", "examples/**/*.md", "plugins/models/*/README.md")
    for path in ROOT.glob(pattern)
)
_FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`([\w./-]+\.(?:py|toml))`.*:$")


@dataclass(frozen=True)
class Block:
    """A code block. `name` is the file that the line above it names, or empty."""

    language: str
    text: str
    name: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip().splitlines()
        named = _NAME.search(before[-1]) if before else None
        found.append(Block(match[2], match[3], named[1] if named else "", text[: match.start()].count("\n") + 2))
    return found


@pytest.fixture(params=PAGES, ids=str)
def page(request):
    return request.param


BASE = {"model": {"path": "m", "plugin": "hf"}, "dataset": {"name": "arithmetic"}, "rewards": [{"name": "exact_match"}]}
"""Sections for blocks that show a part of a config."""


def test_python_of_a_page_runs(page, tmp_path):
    scripts, tests = _written(page, tmp_path)
    _write_trajectories(tmp_path / "runs" / "quickstart" / "trajectories")
    for script in scripts:
        _run(page, tmp_path, [sys.executable, "-c", f"import runpy; runpy.run_path({str(script)!r})"])
    if tests:
        _run(page, tmp_path, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests])


def test_toml_of_a_page_is_valid(page, tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_TOKEN", "a secret")
    _written(page, tmp_path)
    for block in blocks_of(page):
        if block.language == "toml":
            try:
                _check_toml(block, tmp_path)
            except RlxError as error:
                pytest.fail(f"{page}:{block.line}: {error}")


def test_commands_of_a_page_exist(page):
    for block in blocks_of(page):
        for line in block.text.splitlines() if not block.language else ():
            words = line.removeprefix("$ ").split()
            if words[:1] == ["rlx"] and len(words) > 1 and words[1].isalpha():
                assert words[1] in COMMANDS, f"{page}:{block.line}: {line}"


@pytest.mark.parametrize(
    "command", ["rlx --help", "rlx run --help", "rlx check --help", "rlx plugins show reward exact_match"]
)
def test_the_output_of_a_command_is_as_shown(command):
    shown = [shown for page in PAGES for block in blocks_of(page) for shown in _outputs(block, command)]
    done = subprocess.run(
        [sys.executable, "-m", "rlx_cli.main", *command.split()[1:]],
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert shown == [_plain(done.stdout)]


@pytest.mark.parametrize("name", ["custom_entry.py", "custom_reward.py", "custom_packer.py"])
def test_listings_equal_the_example_files(name):
    page = blocks_of(Path("docs/migrating-from-cosmos-rl.md"))
    assert [block.text for block in page if block.name == name] == [(ROOT / "examples/migrating" / name).read_text()]


def test_pages_are_found():
    assert {Path("README.md"), Path("docs/plugins.md"), Path("docs/testing.md")} <= set(PAGES)


COMMANDS = set(typer.main.get_command(app).commands)


def _written(page: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Write the page's blocks into a folder. Return the Python files without tests, and those with tests."""
    scripts, tests = [], []
    for block in blocks_of(page):
        if block.language != "python" and not (block.language == "toml" and block.name):
            continue
        holds_tests = "\ndef test_" in block.text
        file = folder / (block.name or f"{'test_' if holds_tests else ''}line_{block.line}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
        if block.language == "python":
            (tests if holds_tests else scripts).append(file)
    return scripts, tests


def _outputs(block: Block, command: str) -> Iterator[str]:
    """Yield the output that a block shows for a command: the lines up to the next `$`."""
    if not block.language and f"$ {command}\n" in block.text:
        yield _plain(block.text.partition(f"$ {command}\n")[2].partition("\n$ ")[0])


def _plain(output: str) -> str:
    """Strip trailing spaces, the folder of rlx, and line numbers of its files from an output."""
    lines = (re.sub(r"^\S+/(rlx_rewards/\S+):\d+$", r"\1", line.rstrip()) for line in output.splitlines())
    return "\n".join(lines).strip()


def _write_trajectories(folder: Path) -> None:
    """Write a file of trajectories as the quickstart's run does, for pages that read it."""
    episode = Episode(0, 0, 0, [single_turn([1, 2], [3])], text="3", prompt_text="1+2=", rewards=[Reward("x", 1.0)])
    folder.mkdir(parents=True)
    write_groups(folder / "step_00000.parquet", [GroupRecord(encode_episodes([episode]))], step=0, split="train")


def _run(page: Path, folder: Path, command: list) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "examples" / "custom_model"), *sys.path]),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, f"{page}: {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"


def _check_toml(block: Block, folder: Path) -> None:
    tree = tomli.loads(block.text)
    if {"project", "build-system"} & set(tree):
        return
    if "rewards" not in tree and tree.get("algorithm", {}).get("name") == "sft":
        tree["rewards"] = []
    file = folder / "block.toml"
    file.write_text(block.text)
    config = load_config(file, defaults=BASE).config
    problems = Problems()
    if (sources := Sources.open(config, folder, problems)) is not None:
        check_components(*sources.open_plugins(config, "", problems), problems)
    problems.stop(str(file))
