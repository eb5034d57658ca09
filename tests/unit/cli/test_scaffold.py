from __future__ import annotations

import ast

import pytest
import tomli

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
    assert "rlx.testing" in (folder / tests).read_text()
    assert 'new-Thing"' in (folder / "README.md").read_text()
    assert "cd new-Thing\n" in out
    assert f"rlx plugins show {kind} new-Thing" in out


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
        (["logger", "x"], "`rlx plugin new` makes no logger. Kinds: reward, dataset, packer, model, algorithm, hook."),
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
