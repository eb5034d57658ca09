from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from rlx.errors import PluginError
from rlx.plugins.catalog import discover
from rlx.plugins.load import load
from rlx.plugins.resolve import hidden_note, resolve

BOMB = "raise SystemError('imported')\n"


def test_discovery_and_resolution_execute_nothing(fake_dist):
    site = fake_dist(
        "boom-dist",
        {"rlx.rewards": {"boom": "boom_pkg.inner:fn"}},
        {"boom_pkg/__init__.py": BOMB, "boom_pkg/inner.py": BOMB},
    )
    record = resolve("rewards", "boom", discover(), Path())
    assert (record.dist, record.version, record.target) == ("boom-dist", "1.0", "boom_pkg.inner:fn")
    assert record.sha256 == hashlib.sha256((site / "boom_pkg/inner.py").read_bytes()).hexdigest()
    assert "boom_pkg" not in sys.modules


@pytest.mark.parametrize("layout", ["top.py", "top/__init__.py"])
def test_the_hash_is_that_of_the_imported_file(fake_dist, layout):
    site = fake_dist("lay-out", {"rlx.rewards": {"r": "top:fn"}}, {layout: "def fn(): ...\n"})
    record = resolve("rewards", "r", discover(), Path())
    assert record.sha256 == hashlib.sha256((site / layout).read_bytes()).hexdigest()
    assert load(record).__module__ == "top"


def test_an_ambiguous_name_fails_only_if_it_is_used(fake_dist):
    fake_dist("first", {"rlx.rewards": {"judge": "one:fn", "other": "one:fn"}}, {"one.py": "def fn(): return 1\n"})
    fake_dist("second", {"rlx.rewards": {"judge": "two:fn"}}, {"two.py": "def fn(): return 2\n"})
    catalog = discover()
    assert resolve("rewards", "other", catalog, Path()).dist == "first"
    with pytest.raises(PluginError) as caught:
        resolve("rewards", "judge", catalog, Path())
    assert "first/judge" in str(caught.value)
    assert "second/judge" in str(caught.value)
    assert load(resolve("rewards", "second/judge", catalog, Path()))() == 2


def test_the_bare_name_of_a_built_in_is_the_built_in(fake_dist):
    fake_dist("em", {"rlx.rewards": {"exact_match": "em_m:fn"}}, {"em_m.py": "def fn(): return 2\n"})
    catalog = discover()
    record = resolve("rewards", "exact_match", catalog, Path())
    assert record.dist == "rlx"
    assert hidden_note(record, catalog) == (
        "reward 'exact_match' is the one that comes with rlx. em 1.0 offers that name, too: "
        "write 'em/exact_match' for it."
    )
    other = resolve("rewards", "em/exact_match", catalog, Path())
    assert load(other)() == 2
    assert hidden_note(other, catalog) == ""
    assert hidden_note(resolve("rewards", "rlx/exact_match", catalog, Path()), catalog) == ""
    assert hidden_note(resolve("rewards", "gsm8k", catalog, Path()), catalog) == ""


def test_the_first_copy_of_a_distribution_on_the_path_wins(fake_dist):
    fake_dist("twice", {"rlx.rewards": {"r": "mod_a:fn"}}, {"mod_a.py": ""}, version="1.0")
    fake_dist("twice", {"rlx.rewards": {"r": "mod_a:fn"}}, {"mod_a.py": ""}, version="2.0")
    assert resolve("rewards", "r", discover(), Path()).version == "2.0"


def test_an_unknown_name_suggests_similar_and_installed_names():
    with pytest.raises(PluginError) as caught:
        resolve("rewards", "exact_mach", discover(), Path())
    text = str(caught.value)
    assert "Unknown reward 'exact_mach'" in text
    assert "Did you mean 'exact_match'?" in text
    assert "gsm8k" in text
    assert "rlx.rewards" in text


def test_a_name_of_one_kind_is_unknown_as_another():
    with pytest.raises(PluginError, match="Unknown dataset 'grpo'"):
        resolve("datasets", "grpo", discover(), Path())


@pytest.mark.parametrize(
    ("requires", "refused"),
    [
        (["rlx>=99"], True),
        (["rlx<0.1"], True),
        (["rlx>=0.1"], False),
        (["rlx[cpu]>=99"], True),
        (["rlx>=99; python_version < '3'"], False),
        (["rlx>=99; extra == 'new'"], False),
        (["torch>=99"], False),
        ([], False),
    ],
)
def test_the_required_rlx_version_is_checked_without_an_import(fake_dist, requires, refused):
    fake_dist("picky", {"rlx.rewards": {"r": "picky_mod:fn"}}, {"picky_mod.py": BOMB}, requires=requires)
    if refused:
        with pytest.raises(PluginError, match=r"picky 1.0.*wants rlx.*but this is rlx 0\.1"):
            resolve("rewards", "r", discover(), Path())
    else:
        assert resolve("rewards", "r", discover(), Path()).dist == "picky"


def test_a_file_is_relative_to_the_config(tmp_path):
    (tmp_path / "mine.py").write_text("VALUE = 3\n")
    record = resolve("datasets", "./mine.py:VALUE", discover(), tmp_path)
    assert record.target == f"{tmp_path / 'mine.py'}:VALUE"
    assert load(record) == 3


def test_a_file_may_import_its_neighbour_and_use_dataclasses(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "neighbour_xyz.py").write_text("VALUE = 4\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom neighbour_xyz import VALUE\n"
        "@dataclass\nclass Row:\n    value: int = VALUE\n"
    )
    assert load(resolve("datasets", "./mine.py:Row", discover(), tmp_path))().value == 4


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("./absent.py:rows", "absent.py does not exist"),
        ("./mine.py", "say which object"),
        ("./mine.py:", "say which object"),
        ("no_such_pkg.mod:rows", "the module 'no_such_pkg.mod' was not found"),
        ("email.no_such:rows", "the module 'email.no_such' was not found"),
    ],
)
def test_unresolvable_names_are_errors(tmp_path, word, message):
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(PluginError, match=message):
        resolve("datasets", word, discover(), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import not_there_xyz", "Install the distribution that provides the module 'not_there_xyz'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def shape(): ...", "has no 'score'"),
        ("def scores(): ...", "Did you mean 'scores'?"),
    ],
)
def test_a_plugin_that_fails_to_load_is_named_in_the_error(fake_dist, text, message):
    fake_dist("bad-dist", {"rlx.rewards": {"bad": "bad_mod:score"}}, {"bad_mod.py": text})
    with pytest.raises(PluginError) as caught:
        load(resolve("rewards", "bad", discover(), Path()))
    assert message in str(caught.value)
    assert "reward 'bad' (bad-dist 1.0, bad_mod:score)" in str(caught.value)


def test_broken_metadata_is_listed_and_does_not_affect_other_plugins(fake_dist):
    site = fake_dist("broken", {"rlx.rewards": {"x": "y:z"}})
    (next(site.glob("*.dist-info")) / "entry_points.txt").write_text("[rlx.rewards]\nthis line is no entry\n")
    catalog = discover()
    assert any("broken" in line for line in catalog.unreadable)
    assert resolve("rewards", "exact_match", catalog, Path()).dist == "rlx"
