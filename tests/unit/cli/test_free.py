"""Import is free, and installing a distribution changes nothing: seen from a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = ["torch", "vllm", "transformers", "datasets"]
REPORT = "import sys, json, atexit; atexit.register(lambda: print('MODULES', json.dumps(sorted(sys.modules))))\n"
COMMAND = REPORT + "sys.argv = ['rlx', *{args}]\nfrom rlx_cli.main import main\nmain()\n"


@pytest.fixture
def third_party(tmp_path):
    info = tmp_path / "bomb_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bomb-dist\nVersion: 1.0\n")
    points = {"rlx.rewards": "bomb", "rlx.hooks": "bomb_hooks", "rlx.commands": "bombs"}
    (info / "entry_points.txt").write_text("".join(f"[{g}]\n{n} = bomb_mod:thing\n" for g, n in points.items()))
    (tmp_path / "bomb_mod.py").write_text("raise SystemError('imported')\n")
    return tmp_path


def modules(code, path=""):
    env = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    output, _, listed = done.stdout.rpartition("MODULES ")
    return output, set(json.loads(listed))


@pytest.mark.parametrize(
    "code",
    [
        "import rlx; dir(rlx)",
        "import rlx.config.schema, rlx.config.load",
        "import rlx.plugins.session, rlx.api.hookspecs; rlx.hookimpl",
        "import rlx.launch.preflight",
    ],
)
def test_import_is_free(code):
    _, loaded = modules(REPORT + code)
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(("args", "not_loaded"), [(["--help"], ["pydantic"]), (["run", "--help"], [])])
def test_help_imports_little(args, not_loaded, third_party):
    # typer itself imports pydantic where a command has an option that is a number.
    output, loaded = modules(COMMAND.format(args=args), third_party)
    assert "Usage: rlx" in output
    assert not loaded & {*HEAVY, *not_loaded, "bomb_mod"}


@pytest.mark.parametrize("args", [["plugins"], ["plugins", "--json"]])
def test_listing_imports_no_plugin(args, third_party):
    output, loaded = modules(COMMAND.format(args=args), third_party)
    assert "bomb_hooks" in output
    assert "exact_match" in output
    assert not loaded & {*HEAVY, "pydantic", "packaging", "rich", "bomb_mod"}


def test_help_names_third_party_commands_and_who_provides_them(third_party):
    output, _ = modules(COMMAND.format(args=["--help"]), third_party)
    assert any(line.split() == ["bombs", "From", "bomb-dist", "1.0."] for line in output.splitlines())
