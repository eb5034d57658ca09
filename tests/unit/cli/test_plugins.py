from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest

from rlx.terminal import visible

NASTY = "a\x1b[31m\x1b]0;t\x07\u202eb\x9b"

MINE = '''"""What is mine."""

from pydantic import BaseModel, Field

print("noise of an import")

class Slope(BaseModel):
    per_character: float = 0.01

class Limits(BaseModel):
    characters: int = Field(200, gt=0, description="Longer ones are docked.")
    word: str
    slope: Slope = Slope()

def brief(text, reference=None, *, limits: Limits, **kwargs):
    """Short is good."""
    return 1.0

rows = ["a", "b"]

class Notes:
    """Takes notes."""

    def __init__(self, every: int = 10): ...
'''


@pytest.fixture
def own_plugins(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.py"


def test_list_as_a_table(rlx):
    code, out, _ = rlx("plugins")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert rows[0] == ["kind", "name", "distribution", "version", "target"]
    assert ["algorithms", "grpo", "rlx", "0.1.0", "rlx.algorithms.grpo:GRPO"] in rows


def test_list_as_json(rlx):
    code, out, _ = rlx("plugins", "--json")
    assert code == 0
    assert {
        "kind": "algorithms",
        "name": "grpo",
        "dist": "rlx",
        "version": "0.1.0",
        "target": "rlx.algorithms.grpo:GRPO",
    } in json.loads(out)


def test_a_name_of_two_distributions_is_listed_qualified(rlx, fake_dist):
    fake_dist("first", {"rlx.rewards": {"judge": "one:fn", "other": "one:fn"}})
    fake_dist("second", {"rlx.rewards": {"judge": "two:fn"}})
    _, out, _ = rlx("plugins")
    names = [line.split()[1] for line in out.splitlines() if line.startswith("rewards")]
    assert {"first/judge", "second/judge", "other"} <= set(names)
    assert "judge" not in names


def test_the_name_of_a_built_in_stays_its_own(rlx, fake_dist):
    fake_dist("em", {"rlx.rewards": {"exact_match": "em_m:fn"}}, {"em_m.py": "def fn(text, reference=None): ..."})
    names = [line.split()[1] for line in rlx("plugins")[1].splitlines()]
    assert {"exact_match", "em/exact_match"} <= set(names)
    code, out, err = rlx("plugins", "show", "reward", "exact_match")
    assert (code, out.splitlines()[0]) == (0, "reward exact_match, from rlx 0.1.0")
    assert "note: reward 'exact_match' is the one that comes with rlx. em 1.0 offers that name, too: write" in err
    assert rlx("plugins", "show", "reward", "em/exact_match")[2] == ""


@pytest.mark.parametrize(
    ("group", "hint"),
    [
        ("rlx.reward", "Did you mean 'rlx.rewards'?"),
        ("rlx.rewardz", "Did you mean 'rlx.rewards'?"),
        ("rlx.Rewards", "Did you mean 'rlx.rewards'?"),
        ("rlx-hooks", "Did you mean 'rlx.hooks'?"),
        ("rlx_commands", "Did you mean 'rlx.commands'?"),
        ("rlx.zzz", "Groups: rlx.datasets, rlx.rewards,"),
    ],
)
def test_a_misspelt_entry_point_group_is_noted(rlx, fake_dist, group, hint):
    fake_dist("brk", {group: {"x": "brk_m:f"}}, {"brk_m.py": "def f(): ..."})
    for args, expected in ([], 0), (["check", "brk"], 2):
        code, _, err = rlx("plugins", *args)
        assert code == expected
        assert f"note: brk: rlx reads no entry-point group {group!r}, so its plugins don't appear. {hint}" in err


def test_a_group_of_another_program_is_not_noted(rlx, fake_dist):
    fake_dist("other", {"pytest11": {"rlx": "o:f"}, "rlxtools.plugins": {"x": "o:f"}})
    assert rlx("plugins")[2] == ""


@pytest.mark.parametrize("name", ["run", "check", "plugins"])
def test_a_command_that_a_built_in_hides_is_noted(rlx, fake_dist, name):
    fake_dist("cmds", {"rlx.commands": {name: "cmds_m:f", "own": "cmds_m:f"}}, {"cmds_m.py": "def f(): ..."})
    note = f"note: cmds: its command {name!r} can't be called: `rlx {name}` is rlx's own."
    assert rlx("plugins")[2].splitlines() == [note]
    code, out, err = rlx("plugins", "check", "cmds")
    assert (code, err.splitlines()) == (2, [note])
    assert f"    `rlx {name}` is rlx's own command, so this one can't be called\n" in out


def test_distributions_for_another_rlx_are_marked(rlx, fake_dist):
    fake_dist("new99", {"rlx.rewards": {"r": "n:f"}}, {"n.py": ""}, requires=["rlx>=99", "torch"])
    fake_dist("fits", {"rlx.rewards": {"s": "n:f"}}, requires=["rlx>=0.1,<0.2"])
    lines = {line.split()[1]: line for line in rlx("plugins")[1].splitlines()}
    assert lines["r"].endswith("  needs rlx>=99: this is rlx 0.1.0")
    assert lines["s"].endswith("n:f")


def test_damaged_metadata_of_others_stops_no_command(rlx, fake_dist, tmp_path):
    site = fake_dist("junk", {"console_scripts": {"x": "y:z"}})
    (next(site.glob("*.dist-info")) / "entry_points.txt").write_text("[console_scripts]\nthis line is none\n")
    for args in (["plugins"], ["plugins", "show", "reward", "exact_match"], ["schema"]):
        code, _, err = rlx(*args)
        assert (code, err) == (0, "")


@pytest.mark.parametrize("kind", ["dataset", "datasets"])
def test_show_lists_the_options_and_the_source_location(rlx, kind):
    code, out, _ = rlx("plugins", "show", kind, "arithmetic")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:2] == ["dataset arithmetic, from rlx 0.1.0", "rlx_datasets.arithmetic:ArithmeticDataset"]
    assert "Problems `a op b =` with `low <= a, b <= high`, both inclusive." in lines
    assert 'split "train" | "sft" | "eval" "train"' in lines
    assert "size int | None none" in lines
    assert lines[lines.index("In the config:") + 1 :][:6] == [
        "", "[dataset]", 'name = "arithmetic"', "", "[dataset.args]", '# split = "train"',
    ]  # fmt: skip
    file, _, number = lines[2].rpartition(":")
    assert "class ArithmeticDataset" in Path(file).read_text().splitlines()[int(number) - 1]


def test_show_as_json_has_the_file_and_nested_options(rlx, own_plugins):
    code, out, err = rlx("plugins", "show", "reward", "./mine.py:brief", "--json")
    shown = json.loads(out)
    assert code == 0
    assert "noise" in err
    assert shown["options"] == [
        {"name": "characters", "type": "int", "required": False, "default": 200, "doc": "Longer ones are docked."},
        {"name": "word", "type": "str", "required": True, "default": None, "doc": ""},
        {"name": "slope.per_character", "type": "float", "required": False, "default": 0.01, "doc": ""},
    ]
    assert shown["toml"].splitlines() == [
        "[[rewards]]", 'name = "./mine.py:brief"', "", "[rewards.args]", "# characters = 200",
        "word = ...  # required: str", "# slope.per_character = 0.01",
    ]  # fmt: skip
    assert (shown["file"], shown["dist"], shown["doc"]) == (str(own_plugins), "", "Short is good.")


def test_show_of_a_hooks_plugin_has_its_options(rlx, own_plugins):
    shown = json.loads(rlx("plugins", "show", "hooks", "./mine.py:Notes", "--json")[1])
    assert [option["name"] for option in shown["options"]] == ["every"]
    assert shown["toml"].splitlines() == [
        "[[plugins.enable]]", 'name = "./mine.py:Notes"', "", "[plugins.enable.args]", "# every = 10",
    ]  # fmt: skip


def test_show_of_an_object_prints_its_modules_docstring(rlx, own_plugins):
    _, out, _ = rlx("plugins", "show", "dataset", "./mine.py:rows")
    assert "What is mine." in out
    assert out.endswith('[dataset]\nname = "./mine.py:rows"\n')


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["show", "rewad", "x"], "Unknown kind of plugin 'rewad'. Did you mean 'reward'? Kinds: dataset, reward,"),
        (["show", "reward", "exact_mach"], "Unknown reward 'exact_mach'. Did you mean 'exact_match'?"),
        (["show", "reward", "./absent.py:fn"], "absent.py does not exist"),
        (["--json", "show", "reward", "gsm8k"], "Write --json at the end: rlx plugins show ... --json"),
    ],
)
def test_invalid_calls_exit_with_2(rlx, args, message):
    code, out, err = rlx("plugins", *args)
    assert (code, out) == (2, "")
    assert message in err


@pytest.fixture
def broken_dists(fake_dist):
    """One distribution with a valid, a broken and an unconfigured plugin, and one that requires an old rlx."""
    fake_dist(
        "three",
        {"rlx.rewards": {"fine": "three_fine:reward", "bad": "three_bad:reward", "asks": "three_fine:asks"}},
        {
            "three_fine.py": (
                "def reward(text, reference=None, *, scale: float = 1.0, **kwargs): return scale\n"
                "def asks(text, reference=None, *, url: str): return 1.0\n"
            ),
            "three_bad.py": "raise RuntimeError('no such device')\n",
        },
    )
    fake_dist("old", {"rlx.rewards": {"old": "three_old:reward"}}, {"three_old.py": ""}, requires=["rlx<0.1"])


def test_check_imports_each_plugin_in_another_process_and_reports_the_time(rlx, broken_dists):
    code, out, _ = rlx("plugins", "check", "three")
    assert code == 2
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "kind name distribution version import result"
    assert lines[1].startswith("rewards asks three 1.0 0.")
    assert lines[1].endswith(" s not tested")
    assert lines[2] == "it needs args: url"
    assert lines[3] == "rewards bad three 1.0 FAILS"
    assert lines[4].endswith("its import raised RuntimeError: no such device")
    assert lines[6].startswith("rewards fine three 1.0 0.")
    assert lines[6].endswith(" s fine")
    assert not {"three_fine", "three_bad"} & set(sys.modules)


def test_check_shows_where_an_import_failed(rlx, broken_dists):
    _, plain, _ = rlx("plugins", "check", "three")
    _, with_traceback, _ = rlx("plugins", "check", "three", "--traceback")
    assert 'three_bad.py", line 1' in with_traceback
    assert "Traceback" not in plain


def test_check_as_json(rlx, broken_dists):
    code, out, _ = rlx("plugins", "check", "three", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 2
    assert {name: row["result"] for name, row in rows.items()} == {"fine": "fine", "bad": "fails", "asks": "not tested"}
    assert rows["fine"]["dist"] == "three"
    assert rows["bad"]["import_seconds"] is None


def test_check_does_not_import_a_plugin_that_requires_another_rlx(rlx, broken_dists):
    code, out, _ = rlx("plugins", "check", "old")
    assert code == 2
    assert "wants rlx<0.1, but this is rlx 0.1.0." in out


def test_check_of_an_unknown_distribution_suggests_a_name(rlx, broken_dists):
    code, _, err = rlx("plugins", "check", "thre")
    assert code == 2
    assert "No installed distribution 'thre' offers plugins. Did you mean 'three'?" in err


def schema_errors(schema, **config):
    """Return the messages of a JSON Schema validator for this config."""
    config = {"model": {"path": "x"}, "dataset": {"name": "./data.py:rows", "args": {"any": 1}}, **config}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(config)]


@pytest.fixture
def schema(rlx):
    def call(*args):
        code, out, err = rlx("schema", *args)
        assert code == 0
        jsonschema.Draft202012Validator.check_schema(json.loads(out))
        return json.loads(out), err

    return call


def test_schema_has_the_options_of_built_in_components(schema):
    found, _ = schema()
    assert schema_errors(found) == []
    assert schema_errors(found, rewards=[{"name": "exact_match", "args": {"ignore_case": True}}]) == []
    assert schema_errors(found, rewards=[{"name": "rlx/exact_match", "args": {"ignore_case": 3}}]) != []
    assert "'lwo' was unexpected" in schema_errors(found, dataset={"name": "arithmetic", "args": {"lwo": 1}})[0]
    assert schema_errors(found, dataset={"name": "hf"}) == ["'args' is a required property"]
    # Without a name, args are checked against the default algorithm.
    assert "'clip_lo' was unexpected" in schema_errors(found, algorithm={"args": {"clip_lo": 0.1}})[0]
    assert schema_errors(found, algorithm={"name": "./mine.py:Own", "args": {"clip_lo": 0.1}}) == []


def test_schema_has_the_options_of_other_plugins_only_on_request(schema, broken_dists, fake_dist):
    fake_dist("nested", {"rlx.algorithms": {"nested": "nested_mod:Nested"}}, {"nested_mod.py": NESTED})
    wrong = {"rewards": [{"name": "fine", "args": {"sclae": 2.0}}]}
    plain, _ = schema()
    asked, err = schema("--plugins")
    assert schema_errors(plain, **wrong) == []
    assert "'sclae' was unexpected" in schema_errors(asked, **wrong)[0]
    assert schema_errors(asked, rewards=[{"name": "asks"}]) == ["'args' is a required property"]
    assert schema_errors(asked, algorithm={"name": "nested", "args": {"warmup": {"steps": 3}}}) == []
    assert schema_errors(asked, algorithm={"name": "nested", "args": {"warmup": {"steps": "3"}}}) != []
    notes = [line for line in err.splitlines() if line.startswith("note: left out: ")]
    assert [note for note in notes if "no such device" in note]
    assert [note for note in notes if "wants rlx<0.1" in note]
    assert len(notes) == 2


HOOKED = """
import rlx

class Notes:
    def __init__(self, every: int = 10): ...

    @rlx.hookimpl
    def rlx_step_end(self, step): ...
"""


def test_schema_has_the_options_of_hooks(schema, fake_dist):
    fake_dist("noted", {"rlx.hooks": {"notes": "noted_mod:Notes"}}, {"noted_mod.py": HOOKED})
    asked, _ = schema("--plugins")
    assert schema_errors(asked, plugins={"enable": ["notes", {"name": "notes", "args": {"every": 3}}]}) == []
    assert schema_errors(asked, plugins={"enable": [{"name": "notes", "args": {"evry": 3}}]}) != []


NESTED = """
from pydantic import BaseModel

class Warmup(BaseModel):
    steps: int = 0

class Options(BaseModel):
    warmup: Warmup = Warmup()

class Nested:
    def __init__(self, options: Options = Options()): ...
"""


def test_text_of_plugins_is_never_printed_raw(rlx, fake_dist):
    head = f"def odd(text, reference=None, *, word: str = {NASTY!r}):\n"
    body = f'{head}    """Doc {NASTY}"""\n    raise ValueError({NASTY!r})\n'
    fake_dist("odd", {"rlx.rewards": {"o\x1b[1mdd": "odd_m:odd", "odd": "odd_m:odd"}}, {"odd_m.py": body})
    for args in (["plugins"], ["plugins", "show", "reward", "odd"], ["plugins", "check", "odd"]):
        _, out, err = rlx(*args)
        assert "odd" in out
        assert visible(out + err) == out + err
