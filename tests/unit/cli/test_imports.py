"""What a fresh interpreter imports: no heavy packages, and no installed plugins unless they are used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["torch", "vllm", "transformers", "datasets"]
REPORT = "import sys, json, atexit; atexit.register(lambda: print('MODULES', json.dumps(sorted(sys.modules))))\n"
COMMAND = REPORT + "sys.argv = ['rlx', *{args}]\nfrom rlx_cli.main import main\nmain()\n"


@pytest.fixture
def third_party(fake_dist):
    points = {"rlx.rewards": "bomb", "rlx.hooks": "bomb_hooks", "rlx.commands": "bombs"}
    groups = {group: {name: "bomb_mod:thing"} for group, name in points.items()}
    fake_dist("bomb-dist", groups, {"bomb_mod.py": "raise SystemError('imported')\n"})


def modules(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    output, _, listed = done.stdout.rpartition("MODULES ")
    return output, set(json.loads(listed))


@pytest.mark.parametrize(
    "code",
    [
        "import rlx; dir(rlx)",
        "import rlx.config.schema, rlx.config.load",
        "import rlx.plugins.session, rlx.plugins.hookspecs; rlx.hookimpl",
        "import rlx.preflight.plan",
        "import rlx.testing; dir(rlx.testing)",
        "from rlx.testing import *",
        "import rlx.testing.fixtures",
    ],
)
def test_imports_load_no_heavy_packages(code):
    _, loaded = modules(REPORT + code)
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(("args", "not_loaded"), [(["--help"], ["pydantic"]), (["run", "--help"], [])])
def test_help_imports_no_heavy_packages(args, not_loaded, third_party):
    # typer itself imports pydantic for commands with a numeric option.
    output, loaded = modules(COMMAND.format(args=args))
    assert "Usage: rlx" in output
    assert not loaded & {*HEAVY, *not_loaded, "bomb_mod"}


@pytest.mark.parametrize("args", [["plugins"], ["plugins", "--json"]])
def test_listing_imports_no_plugin(args, third_party):
    output, loaded = modules(COMMAND.format(args=args))
    assert "bomb_hooks" in output
    assert "exact_match" in output
    assert not loaded & {*HEAVY, "pydantic", "rich", "bomb_mod"}


def test_schema_reads_the_signatures_of_built_ins_and_imports_nothing_heavy(third_party):
    output, loaded = modules(COMMAND.format(args=["schema"]))
    assert "clip_high" in output
    assert "rlx.algorithms.grpo" in loaded
    assert not loaded & {*HEAVY, "bomb_mod"}


def test_help_names_third_party_commands_and_their_distributions(third_party):
    output, _ = modules(COMMAND.format(args=["--help"]))
    assert any(line.split() == ["bombs", "From", "bomb-dist", "1.0."] for line in output.splitlines())
