from __future__ import annotations

import subprocess

from rlx import __version__
from rlx.launch.environment import describe_environment


def test_environment_has_versions_and_arguments_without_a_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = describe_environment(["rlx", "run"], tmp_path)
    assert found["versions"]["rlx"] == __version__
    assert found["argv"] == ["rlx", "run"]
    assert found["folder"] == found["base_dir"] == str(tmp_path)
    assert found["git_commit"] is None
    assert found["git_changed"] is False


def test_environment_has_the_commit_and_whether_files_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "x").write_text("1")
    for command in (["init", "-q"], ["add", "x"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert describe_environment([], tmp_path)["git_commit"] == commit
    assert describe_environment([], tmp_path)["git_changed"] is False
    (tmp_path / "x").write_text("2")
    assert describe_environment([], tmp_path)["git_changed"] is True
