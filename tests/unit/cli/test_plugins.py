from __future__ import annotations

import json
from pathlib import Path

import pytest

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
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.py"


def test_list_for_people(rlx):
    code, out, _ = rlx("plugins")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert rows[0] == ["kind", "name", "distribution", "version", "target"]
    assert ["algorithms", "grpo", "rlx", "0.1.0", "rlx.algorithms.grpo:GRPO"] in rows


def test_list_for_programs(rlx):
    code, out, _ = rlx("plugins", "--json")
    assert code == 0
    assert {
        "kind": "algorithms",
        "name": "grpo",
        "dist": "rlx",
        "version": "0.1.0",
        "target": "rlx.algorithms.grpo:GRPO",
    } in json.loads(out)


def test_name_of_two_distributions_is_listed_qualified(rlx, fake_dist):
    fake_dist("first", {"rlx.rewards": {"judge": "one:fn", "other": "one:fn"}})
    fake_dist("second", {"rlx.rewards": {"judge": "two:fn"}})
    _, out, _ = rlx("plugins")
    names = [line.split()[1] for line in out.splitlines() if line.startswith("rewards")]
    assert {"first/judge", "second/judge", "other"} <= set(names)
    assert "judge" not in names


@pytest.mark.parametrize("kind", ["dataset", "datasets"])
def test_show_says_what_may_be_set_and_where_it_is(rlx, kind):
    code, out, _ = rlx("plugins", "show", kind, "arithmetic")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:2] == ["dataset arithmetic, from rlx 0.1.0", "rlx_datasets.arithmetic:ArithmeticDataset"]
    assert "Problems `a op b =` with `low <= a, b <= high`, both inclusive." in lines
    assert "split Literal['train', 'sft', 'eval'] \"train\"" in lines
    assert "size int | None none" in lines
    assert lines[lines.index("In the config:") + 1 :][:6] == [
        "", "[dataset]", 'name = "arithmetic"', "", "[dataset.args]", '# split = "train"',
    ]  # fmt: skip
    file, _, number = lines[2].rpartition(":")
    assert "class ArithmeticDataset" in Path(file).read_text().splitlines()[int(number) - 1]


def test_show_for_programs_knows_files_and_models(rlx, mine):
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
    assert (shown["file"], shown["dist"], shown["doc"]) == (str(mine), "", "Short is good.")


def test_show_of_an_object_tells_what_its_module_says(rlx, mine):
    _, out, _ = rlx("plugins", "show", "dataset", "./mine.py:rows")
    assert "What is mine." in out
    assert out.endswith('[dataset]\nname = "./mine.py:rows"\n')


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["show", "rewad", "x"], "There is no kind of plugin 'rewad'. Did you mean 'reward'? Kinds: dataset, reward,"),
        (["show", "reward", "exact_mach"], "There is no reward 'exact_mach'. Did you mean 'exact_match'?"),
        (["show", "reward", "./absent.py:fn"], "there is no file"),
        (["--json", "show", "reward", "gsm8k"], "Write --json at the end: rlx plugins show ... --json"),
    ],
)
def test_wrong_calls(rlx, args, message):
    code, out, err = rlx("plugins", *args)
    assert (code, out) == (2, "")
    assert message in err
