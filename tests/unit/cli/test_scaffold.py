from __future__ import annotations

import ast
import re

import pytest
import tomli

from rlx.plugins.catalog import SINGULAR
from rlx_cli.scaffold import KINDS


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_plugin_new_makes_a_complete_distribution(rlx, cwd, kind):
    code, out, err = rlx("plugin", "new", kind, "new-Thing")
    assert (code, err) == (0, "")
    folder = cwd / "new-Thing"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    module, tests = "src/new_thing/__init__.py", "tests/test_new_thing.py"
    common = {".github/workflows/ci.yml", ".gitignore", "README.md", "pyproject.toml", "src/new_thing/py.typed"}
    assert files == {module, tests, *common}
    project = tomli.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "new-Thing"
    assert project["dependencies"][0] == "rlx>=0.1,<0.2"
    ((group, points),) = project["entry-points"].items()
    assert group == f"rlx.{kind}s"
    source = ast.parse((folder / module).read_text())
    names = {getattr(node, "name", None) or node.targets[0].id for node in source.body if _defines(node)}
    assert points == {"new-Thing": f"new_thing:{next(iter(points.values())).partition(':')[2]}"}
    assert points["new-Thing"].partition(":")[2] in names
    assert ("rlx.testing" in (folder / tests).read_text()) == (kind != "command")  # commands have no contract
    assert ("rlx new-Thing runs" if kind == "command" else 'new-Thing"') in (folder / "README.md").read_text()
    assert "cd new-Thing\n" in out
    assert ("rlx new-Thing --help" if kind == "command" else f"rlx plugins show {kind} new-Thing") in out


def test_every_kind_has_a_scaffold():
    assert {f"{kind}s" for kind in KINDS} == set(SINGULAR)


@pytest.mark.parametrize(
    ("source", "steps"),
    [
        ("rlx-0.1.0-py3-none-any.whl", ['python -m pip install --find-links wheels ".[test]"']),
        ("git+https://host/rlx@v1", ['python -m pip install "rlx @ git+https://host/rlx@v1"']),
        ("https://host/rlx", ['python -m pip install "rlx @ git+https://host/rlx"']),
        ("https://host/rlx-1-py3-none-any.whl", ['python -m pip install "rlx @ https://host/rlx-1-py3-none-any.whl"']),
    ],
)
def test_ci_installs_rlx_from_the_source_that_was_named(rlx, cwd, source, steps):
    (cwd / "rlx-0.1.0-py3-none-any.whl").write_bytes(b"a wheel")
    code, out, _ = rlx("plugin", "new", "reward", "shape", "--rlx", source)
    assert code == 0
    wanted = steps if "wheels" in steps[0] else [*steps, 'python -m pip install ".[test]"']
    ci = (cwd / "shape/.github/workflows/ci.yml").read_text()
    assert re.findall("- run: (.*)", ci) == [*wanted, "python -m pytest"]
    assert wanted[0].removeprefix("python -m ").replace('".[test]"', '-e ".[test]"') in out
    assert (cwd / "shape/wheels/rlx-0.1.0-py3-none-any.whl").exists() == (source == "rlx-0.1.0-py3-none-any.whl")


def _defines(node):
    return isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign)


def test_the_kind_may_be_plural_and_the_folder_may_be_chosen(rlx, cwd):
    (cwd / "empty").mkdir()
    code, out, _ = rlx("plugin", "new", "rewards", "shape", "--dir", "empty")
    assert code == 0
    assert (cwd / "empty" / "src" / "shape" / "__init__.py").exists()
    assert "cd empty\n" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rewad", "x"], ("Unknown kind of plugin 'rewad'. Did you mean 'reward'? Kinds: dataset, reward, packer, "
                         "model, algorithm, launcher, logger, command, hook.")),
        (["reward", "exact_match"], "'exact_match' is the name of a reward of rlx's own. Choose another."),
        (["logger", "console"], "'console' is the name of a logger of rlx's own. Choose another."),
        (["command", "run"], "'run' is the name of a command of rlx's own. Choose another."),
        (["reward", "x", "--rlx", "nothing.whl"], "--rlx nothing.whl: a wheel of rlx of that name does not exist."),
        (["reward", "x", "--rlx", "host/rlx"], "--rlx host/rlx: name a wheel of rlx, or an address, as in --rlx git+"),
        (["reward", "9lives"], ("'9lives' can't be the name of a distribution and its module. Use letters and digits, "
                               "with single - or _ between them, a letter first.")),
        (["reward", "a b"], "'a b' can't be the name"),
        (["reward", "a.b"], "'a.b' can't be the name"),
        (["reward", "../x"], "'../x' can't be the name"),
        (["reward", "class"], "'class' can't be the name"),
        (["reward", "math"], "'math': a module 'math' exists already. Choose another name."),
        (["reward", "rlx-rewards"], "'rlx-rewards': a module 'rlx_rewards' exists already."),
        (["reward", "full"], "full exists and isn't an empty folder. Choose another one with --dir."),
        (["reward", "x", "--dir", "full/file"], "full/file exists and isn't an empty folder"),
    ],
)  # fmt: skip
def test_a_refused_scaffold_writes_nothing(rlx, cwd, args, message):
    (cwd / "full").mkdir()
    (cwd / "full" / "file").write_text("kept")
    before = sorted(cwd.rglob("*"))
    code, out, err = rlx("plugin", "new", *args)
    assert (code, out) == (2, "")
    assert message in err
    assert sorted(cwd.rglob("*")) == before
