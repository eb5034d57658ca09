"""The first things that newcomers write: each is answered with the line to write in its place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import tomli

from rlx.algorithms.grpo import GRPO
from rlx.config.guesses import OTHER_NAMES, SAME_TABLE, as_written, dataset_meant, key_meant
from rlx.config.load import DEEPEST, LARGEST_FILE
from rlx.config.places import keys, tables
from rlx.config.schema import Config
from rlx.datasets.open import check_dataset_args
from rlx.errors import ConfigError, PluginError
from rlx.plugins.catalog import discover
from rlx.plugins.options import Options
from rlx.plugins.resolve import resolve
from rlx.preflight.load import load_run
from rlx.rewards.bound import check_reward_args
from rlx_datasets import ArithmeticDataset

MODEL = 'model = { path = "m" }\n'
ARITHMETIC = 'dataset = { name = "arithmetic" }\n'


@pytest.fixture
def message(tmp_path):
    """`message(text)`: the message about a config."""

    def call(text, *sets):
        text = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "x.toml").write_bytes(text)
        with pytest.raises(ConfigError) as caught:
            load_run(tmp_path / "x.toml", sets, script=None)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return call


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('dataset = { name = "arithmetic", high = 49 }',
         "[dataset] high: unknown key. It is an option of dataset 'arithmetic': write args = { high = 49 }."),
        ('dataset = { name = "rlx/arithmetic", high = 49, args = { low = 1 }, reverse = true }',
         "option of dataset 'rlx/arithmetic': write args = { low = 1, high = 49, reverse = true }."),
        ('dataset = { name = "arithmetic", hihg = 49 }',
         "Did you mean 'high'? It is an option of dataset 'arithmetic', and options go into args."),
        ('dataset = { name = "arithmetic", shufle = true }', "Did you mean 'shuffle'?"),
        ('dataset = { name = "arithmetic", zzz = 1 }',
         "Keys: name, args, shuffle, on_bad_row. Options of dataset 'arithmetic', which go into args:"),
        ('dataset = { name = "absent", zzz = "a b" }',
         'Keys: name, args, shuffle, on_bad_row. Options of the component go into args: args = { zzz = "a b" }.'),
        ('dataset = { name = "./mine.py:rows", size = 3 }',
         "[dataset] size: unknown key. It is an option of dataset './mine.py:rows': write args = { size = 3 }."),
        ('dataset = { name = "./mine.py:wild", size = 3 }', "Options of the component go into args: args = { size"),
        ('dataset = { name = "./bad.py:rows", size = 3 }', "Options of the component go into args: args = { size"),
        ('dataset = { name = "hf", path = "x" }', 'It is an option of dataset \'hf\': write args = { path = "x" }.'),
        ('dataset = { path = "data/train.jsonl" }',
         '[dataset] name: this is missing. For this file, folder or Hub name write name = "jsonl", args = { path = '),
        ('dataset = { path = "data/train.jsonl" }',
         '[dataset] path: unknown key. Write name = "jsonl", args = { path = "data/train.jsonl" }.'),
        ('dataset = { hub = "openai/gsm8k" }', 'Write name = "hf", args = { path = "openai/gsm8k" }.'),
        ("dataset = { split = 'train' }", "[dataset] name: this is missing. `rlx plugins` lists them"),
        (f'{ARITHMETIC}[[rewards]]\nname = "exact_match"\nignore_case = true',
         "[[rewards]] number 1, ignore_case: unknown key. It is an option of reward 'exact_match': write args = {"),
        (f'{ARITHMETIC}[[filter_rewards]]\nname = "exact_match"\nignore_case = true',
         "[[filter_rewards]] number 1, ignore_case: unknown key. It is an option of reward 'exact_match'"),
        (f'{ARITHMETIC}[eval.dataset]\nname = "arithmetic"\nhigh = 9', "[eval.dataset] high: unknown key. It is an"),
        (f'{ARITHMETIC}[[eval.rewards]]\nname = "exact_match"\nignore_case = true',
         "[[eval.rewards]] number 1, ignore_case: unknown key. It is an option of reward 'exact_match'"),
        (f"{ARITHMETIC}algorithm = {{ kl_coef = 0.1 }}", "option of algorithm 'grpo': write args = { kl_coef = 0.1 }."),
        (f'{ARITHMETIC}algorithm = {{ name = "sft", kl_coef = 0.1 }}', "of algorithm 'sft', which go into args: none."),
        (f"{ARITHMETIC}packer = {{ train_on = 'x' }}", "It is an option of packer 'decoder_only_llm': write args = {"),
        (f"{ARITHMETIC}algorithm = {{ beta = 0.1 }}", "It is called [algorithm.args] kl_coef here."),
        (f"{ARITHMETIC}algorithm = {{ num_generations = 4 }}", "It is called [algorithm] group_size here."),
        (f"{ARITHMETIC}policy = {{ learning_rate = 1e-3 }}", "It is called [policy.optimizer] lr here."),
        (f"{ARITHMETIC}rollout = {{ max_new_tokens = 9 }}", "It is called [rollout] max_tokens here."),
        (f"{ARITHMETIC}batch_size = 9", "batch_size: unknown key. It is called [policy] groups_per_step here."),
        (f"{ARITHMETIC}[grpo]\nx = 1", "[grpo]: unknown section. It is called [algorithm] name here."),
        (f"{ARITHMETIC}[optimizer]\nlr = 1e-3", "[optimizer]: unknown section. Write [policy.optimizer]."),
        (f"{ARITHMETIC}[env]\nX = '1'", "[env]: unknown section. Write [rollout.env] or [policy.env]."),
        (f"{ARITHMETIC}steps = 3", "steps: unknown key. It is a key of [run]."),
        ('dataset = { name = "d" }\nmodel.name = "Qwen/Qwen3-0.6B"',
         "[model] name: unknown key. It is called [model] path"),
        (f"{ARITHMETIC}policy.optimizer.name = 'adam'", "[policy.optimizer] name: unknown key. Keys: lr, betas, eps,"),
    ],
)  # fmt: skip
def test_a_key_in_the_wrong_place_is_answered_with_the_right_one(message, tmp_path, text, expected):
    (tmp_path / "mine.py").write_text("def rows(size: int = 2): ...\ndef wild(**options): ...\n")
    (tmp_path / "bad.py").write_text("1 / 0")
    text = text.replace("model.name", "model = { name") + " }" if "model.name" in text else text
    head = "" if "model =" in text else MODEL
    assert expected in message(head + text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[rewards]\nname = "exact_match"', "rewards: this is a list of tables: write [[rewards]], with two brackets"),
        ('[rewards]\nname = "a"\n[rewards.args]\nx = 1', "rewards: this is a list of tables: write [[rewards]]"),
        ('[filter_rewards]\nname = "a"', "write [[filter_rewards]], with two brackets"),
        ('[eval]\ndataset = { name = "arithmetic" }\n[eval.rewards]\nname = "a"',
         "[eval] rewards: this is a list of tables: write [[eval.rewards]], with two brackets"),
        ('rewards = "exact_match"', 'write [[rewards]], and in it name = "exact_match"'),
        ('rewards = ["exact_match"]', 'rewards[0]: this is a table: write { name = "exact_match" }'),
        ('[[rewards]]\nname = "a"\n[[rewards.args]]\nx = 1',
         "[[rewards]] number 1, args: this is one table: write [rewards.args], with one bracket"),
        ("[[run]]\nsteps = 1", "run: this is one table: write [run], with one bracket"),
        ('[[eval]]\n[[eval.dataset]]\nname = "a"', "eval: this is one table: write [eval], with one bracket"),
        ('run = { loggers = "console" }', '[run] loggers: this is a list: write loggers = ["console"]'),
        ('plugins = { enable = "notes" }', '[plugins] enable: this is a list: write enable = ["notes"]'),
        ('algorithm = "grpo"', 'algorithm: this is a table: write { name = "grpo" }'),
    ],
)  # fmt: skip
def test_a_table_and_a_list_of_tables_are_distinguished(message, text, expected):
    plain = "" if text.startswith("[") else text
    assert expected in message(f"{plain}\n{MODEL}{ARITHMETIC}{'' if plain else text}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[dataset]]\nname = "arithmetic"', "dataset: this is one table: write [dataset], with one bracket"),
        ('[dataset]\nname = "arithmetic"\n[[dataset.args]]\nhigh = 3', "[dataset] args: this is one table: write ["),
        ('dataset = "arithmetic"', 'dataset: this is a table: write { name = "arithmetic" }'),
    ],
)  # fmt: skip
def test_the_dataset_is_one_table(message, text, expected):
    assert expected in message(f"{MODEL}{text}")
    model = message('model = "Qwen/Qwen3-0.6B"\n' + ARITHMETIC)
    assert 'model: this is a table: write { path = "Qwen/Qwen3-0.6B" }' in model


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("data/train.jsonl", 'name = "jsonl", args = { path = "data/train.jsonl" }'),
        ("./train.jsonl", 'name = "jsonl", args = { path = "./train.jsonl" }'),
        ("train.json", 'name = "jsonl", args = { path = "train.json" }'),
        ("train.jsonl.gz", 'name = "jsonl", args = { path = "train.jsonl.gz" }'),
        ("data/*.jsonl", 'name = "jsonl", args = { path = "data/*.jsonl" }'),
        ("data.parquet", 'name = "parquet", args = { path = "data.parquet" }'),
        ("data/part-*.parquet", 'name = "parquet", args = { path = "data/part-*.parquet" }'),
        ("rows.csv", 'name = "hf", args = { path = "rows.csv" }'),
        ("data/*.csv", 'name = "hf", args = { path = "csv", data_files = "data/*.csv" }'),
        ("openai/gsm8k", 'name = "hf", args = { path = "openai/gsm8k" }'),
        ("https://huggingface.co/datasets/openai/gsm8k", 'name = "hf", args = { path = "openai/gsm8k" }'),
        ("https://huggingface.co/datasets/openai/gsm8k/viewer", 'name = "hf", args = { path = "openai/gsm8k" }'),
        ("hf://datasets/openai/gsm8k", 'name = "hf", args = { path = "openai/gsm8k" }'),
        ("https://x.org/train.jsonl",
         'name = "hf", args = { path = "json", data_files = "https://x.org/train.jsonl" }'),
        ("https://x.org/a.parquet?v=1",
         'name = "hf", args = { path = "parquet", data_files = "https://x.org/a.parquet?v=1" }'),
        ("./data", 'name = "hf", args = { path = "./data" }'),
        ("~/data/", 'name = "hf", args = { path = "~/data/" }'),
        ("/mnt/data", 'name = "hf", args = { path = "/mnt/data" }'),
        ("here", 'name = "hf", args = { path = "here" }'),
    ],
)  # fmt: skip
def test_a_file_folder_or_hub_name_as_dataset_is_answered_with_name_and_args(tmp_path, monkeypatch, word, written):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(PluginError) as caught:
        resolve("datasets", word, discover(), tmp_path)
    assert f"Unknown dataset {word!r}. For a file, a folder or a name on the Hub write:\n  {written}\n" in str(
        caught.value
    )
    # The advice is TOML that can be pasted: it names a dataset that exists, with options that it has.
    table = tomli.loads(f"dataset = {{ {written} }}")["dataset"]
    source = resolve("datasets", table["name"], discover(), Path())
    assert set(table["args"]) <= {"path", "data_files"}
    assert source.dist == "rlx"


@pytest.mark.parametrize("word", ["arithmetik", "pkg.mod:rows", "./mine.py:rows", "a b", "", "x" * 5000, "nul\0"])
def test_other_words_are_not_taken_for_data(word):
    assert dataset_meant(word) == ""


@pytest.mark.parametrize(
    ("kind", "word", "expected"),
    [
        ("rewards", "./mine.py", "say which object of the file to use, as in './mine.py:score'. It has: score, Other."),
        ("rewards", "mine.py", "say which object of the file to use, as in 'mine.py:score'."),
        ("rewards", "./absent.py", "absent.py does not exist"),
        ("rewards", "./notpy.py", "as in './notpy.py:name'."),
        ("rewards", "email.utils.formatdate", "Did you mean 'email.utils:formatdate'?"),
        ("rewards", "http://localhost:8000/score", '  name = "http", args = { url = "http://localhost:8000/score" }'),
        ("models", "Qwen/Qwen3-0.6B", "This names the code of a model; the model itself is [model] path."),
        ("rewards", "x" * 5000 + ".py:f", "File name too long"),
    ],
)
def test_other_names_of_components_that_are_answered(tmp_path, kind, word, expected):
    (tmp_path / "mine.py").write_text("def _own(): ...\ndef score(text): ...\nclass Other: ...\n")
    (tmp_path / "notpy.py").write_text("def (")
    with pytest.raises(PluginError) as caught:
        resolve(kind, word, discover(), tmp_path)
    assert expected in str(caught.value)


def option_message(target, args, where):
    with pytest.raises(ConfigError) as caught:
        Options(target).check(args, where=where, owner="it")
    return str(caught.value)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            {"group_size": 4},
            "group_size: unknown key. It is a key of [algorithm], beside args and not in it: write it one",
        ),
        ({"name": "x"}, "It is a key of [algorithm], beside args and not in it"),
        ({"beta": 0.1}, "beta: unknown key. It is called 'kl_coef' here."),
        ({"epsilon": 0.1}, "epsilon: unknown key. It is called 'clip_low' here."),
        ({"clip_hihg": 0.1}, "Did you mean 'clip_high'?"),
        ({"learning_rate": 1}, "Write [policy.optimizer] lr."),
        ({"max_tokens": 1}, "max_tokens: unknown key. It is a key of [rollout] and of [eval]."),
        ({"zzz": 1}, 'zzz: unknown key. Options: scale_rewards: "group" | "none" = "group", clip_low: float = 0.2,'),
    ],
)
def test_an_unknown_option_is_answered_with_its_place_or_the_options_and_their_values(args, expected):
    assert expected in option_message(GRPO, args, "[algorithm] args")


def test_keys_of_the_table_above_are_recognised_in_args():
    with pytest.raises(ConfigError, match=r"weight: unknown key. It is a key of \[\[rewards\]\], beside args"):
        check_reward_args(lambda text, reference: 0, {"weight": 2}, owner="it", where="[[rewards]] number 2, args")
    with pytest.raises(ConfigError, match=r"shuffle: unknown key. It is a key of \[eval.dataset\], beside args"):
        check_dataset_args(ArithmeticDataset, {"shuffle": True}, owner="it", where="[eval.dataset] args")


def test_every_other_name_leads_to_a_key_that_exists_and_hides_none():
    known = {path: keys(table) for path, table in tables(Config)}
    options = {f"algorithm.args.{option.name}" for option in Options(GRPO).shown()}
    every_key = {key for table in known.values() for key in table}
    for name, path in [*OTHER_NAMES.items(), *((name, path) for (_, name), path in SAME_TABLE.items())]:
        table, _, key = path.rpartition(".")
        assert path in options or key in known.get(table, {}) or table == "rollout.vllm", path
        written = as_written(path)
        assert key_meant("zzz", name) in (written, None)
        _, _, last = written.partition("] ")
        assert not last or "." not in last.strip("]")
    assert not every_key & set(OTHER_NAMES)
    for table, name in SAME_TABLE:
        assert name not in known[table]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = " + "[" * 5000, "x.toml: tables or lists are nested too deeply"),
        ("x = " + "{a = " * 5000, "nested too deeply"),
        (".".join("a" * 5000) + " = 1", "nested too deeply"),
        ("[" + ".".join("a" * 200) + "]", "nested too deeply"),
        ("meta.x = " + "[" * 60 + "]" * 60, "meta.x[0]: tables or lists are nested too deeply; 50 levels can be read"),
        ("run.steps = " + "9" * 5000, "an integer has thousands of digits; TOML's have 64 bits"),
        ("run.steps = 0x" + "f" * 5000, "[run] steps: this integer is out of range"),
        ("meta.x = [1, 9223372036854775808]", "[meta] x[1]: this integer is out of range; TOML's have 64 bits"),
        (b"\xff\xfeh\0i\0", "not UTF-8 text, so it is not a TOML file; it looks like UTF-16"),
        (b"\n\nx = '\xe9'", "not UTF-8 text, so it is not a TOML file; see line 3"),
        (b"#" * (LARGEST_FILE + 1), "it has more than 4,194,304 bytes"),
        (b"\xef\xbb\xbfx = 1\r\n", "x: unknown key."),
        (b"x = 1\r\n[run]\r\nstpes = 1\r\n", "[run] stpes: unknown key."),
        ("\0", "line 1, column 1"),
    ],
)
def test_odd_files_are_one_message(message, text, expected):
    text = text.encode() if isinstance(text, str) else text
    assert expected in message(text)
    assert len(message(text)) < 2000 or text.startswith((b"x = [", b"x = {", b"a.a"))


def test_what_is_within_the_limits_is_read(tmp_path):
    deep = "[" * (DEEPEST - 2) + "]" * (DEEPEST - 2)
    (tmp_path / "x.toml").write_bytes(
        f"\ufeffmeta = {{ x = {deep}, y = {2**63 - 1}, z = {-(2**63)} }}\r\n{MODEL}{ARITHMETIC}".encode()
    )
    config = load_run(tmp_path / "x.toml", script=None).config
    assert config.meta["x"] == ast.literal_eval(deep)
    assert (config.meta["y"], config.meta["z"]) == (2**63 - 1, -(2**63))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("run.steps=" + "9" * 5000, "an integer has thousands of digits"),
        ("meta.x=" + "[" * 5000, "nested too deeply"),
        (".".join("a" * 300) + "=1", "nested too deeply"),
        ("run.steps=0x" + "f" * 5000, "[run] steps: this integer is out of range"),
        ("dataset.high=49", "write args = { high = 49 }. (from --set dataset.high=49)"),
    ],
)
def test_odd_settings_are_one_message(message, setting, expected):
    assert expected in message(MODEL + ARITHMETIC, setting)


def test_a_folder_as_config_lists_its_configs(tmp_path):
    (tmp_path / "a.toml").write_text("")
    for path, expected in [(tmp_path, "is a folder. Name a file in it; it holds a.toml."), (Path("x\0"), "null byte")]:
        with pytest.raises(ConfigError) as caught:
            load_run(path, script=None)
        assert expected in str(caught.value)
