"""Launch scripts in whole runs: the listings of examples/migrating, and every argument that a script may pass."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlx.testing.models import make_char_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LISTINGS = Path(__file__).parents[3] / "examples" / "migrating"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
DAPO, GSM8K = "BytedTsinghua-SIA/DAPO-Math-17k", "openai/gsm8k"
CARD = "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: train.jsonl\n---\n"

EVERYTHING = """
import json, random, sys
from pathlib import Path
import rlx
from custom_packer import DemoDataPacker, GSM8kDataset, gsm8k_reward_fn

RECORD = Path(sys.argv[1])

def note(**values):
    with RECORD.open("a") as file:
        file.write(json.dumps(values) + "\\n")

def length(to_be_evaluated, reference=None, **kwargs):
    return len(to_be_evaluated) + random.random(), {"letters": float(len(to_be_evaluated))}

def log(data, step):
    note(what="logged", step=step, keys=sorted(data))

class Backwards:
    def __init__(self, dataset):
        self.rows = list(reversed(range(len(dataset))))
    def __iter__(self):
        return iter(self.rows)

class Hook:
    @rlx.hookimpl
    def rlx_step_end(self, step, metrics):
        note(what="hook", step=step)

if __name__ == "__main__":
    rlx.launch_worker(
        dataset=GSM8kDataset(),
        data_packer=DemoDataPacker(),
        reward_fns=[(gsm8k_reward_fn, 2.0), length],
        filter_reward_fns=[0],
        val_dataset=lambda config: GSM8kDataset(),
        val_data_packer=DemoDataPacker(),
        val_reward_fns=[gsm8k_reward_fn],
        sampler=Backwards,
        custom_logger_fns=[log],
        hooks=[Hook],
    )
"""

ONCE = """
import sys
from pathlib import Path
import rlx

seen = Path(sys.argv[1])
if seen.exists():
    raise OSError("the second process finds no licence")
seen.touch()
rlx.launch_worker(dataset=["1+1="] * 8, reward_fns=[lambda text, reference: 1.0])
"""


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    return make_char_model(tmp_path_factory.mktemp("models") / "chat", seed=2, chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the listings and the Hub's datasets as folders: a few rows in the format of the originals."""
    import datasets

    folder = tmp_path_factory.mktemp("listings")
    shutil.copytree(LISTINGS, folder, dirs_exist_ok=True)
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": f"What is {a}+1? Put it after Answer:", "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(a + 1), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": str(a)},
        }
        for a in range(12)
    ]
    (folder / DAPO).mkdir(parents=True)
    datasets.Dataset.from_list(rows).to_parquet(folder / DAPO / "train.parquet")
    (folder / GSM8K).mkdir(parents=True)
    (folder / GSM8K / "README.md").write_text(CARD)
    lines = [{"question": f"What is {a}+1?", "answer": f"It is one more.\n#### {a + 1}"} for a in range(12)]
    (folder / GSM8K / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "everything.py").write_text(EVERYTHING)
    (folder / "once.py").write_text(ONCE)
    return folder


@pytest.fixture(scope="module")
def small(chat_model, quick_engine):
    return {
        "model.path": chat_model,
        "run.steps": 1,
        "run.loggers": '["console", "jsonl"]',
        "algorithm.group_size": 4,
        "policy.groups_per_step": 4,
        "policy.dtype": "float32",
        "rollout.max_tokens": 6,
        "rollout.vllm.max_model_len": 320,
        "rollout.vllm.distributed_executor_backend": quick_engine["rollout.vllm.distributed_executor_backend"],
    }


def first_step_rows(run):
    """Assert that a run succeeded, and return the trajectories of its first step."""
    assert run.wait() == 0, run.output
    assert not run.survivors()
    return pq.read_table(run.dir / "trajectories" / "step_00000.parquet").to_pylist()


@pytest.mark.long  # the script with every argument has one, too
def test_the_listing_of_a_dataset_trains(start_in, folder, small):
    run = start_in(folder, ["dapo.toml", "--policy", "1", "--rollout", "1", "custom_entry.py"], **small)
    rows = first_step_rows(run)
    assert all("Put it after Answer:\n" in row["prompt"] for row in rows)
    assert run.metrics()[0]["reward/direct_math"] == -1
    names = {record["part"] for record in json.loads((run.dir / "plugins.json").read_text())}
    assert names == {"", "dataset"}


@pytest.mark.long  # the script with every argument has one, too
def test_the_listing_of_a_reward_trains(start_in, folder, small):
    run = start_in(folder, ["dapo.toml", "--set", "rewards=[]", "custom_reward.py"], **small)
    rewards = [row["rewards"]["custom_reward_fn"] for row in first_step_rows(run)]
    assert len(set(rewards)) == 16
    assert all(0 <= reward < 1 for reward in rewards)


def test_the_listing_of_a_packer_trains_when_python_starts_it(start_in, folder, small):
    run = start_in(folder, ["gsm8k.toml"], command=(sys.executable, "custom_packer.py"), **small)
    rows = first_step_rows(run)
    assert all(row["prompt"].startswith("You are an AI math expert") for row in rows)
    assert run.metrics()[0]["reward/gsm8k_reward_fn"] == 0


def test_every_argument_of_a_script_takes_effect(start_in, folder, small, tmp_path):
    record = tmp_path / "record.jsonl"
    run = start_in(folder, ["gsm8k.toml", "everything.py", record], **{**small, "run.steps": 2})
    rows = first_step_rows(run)
    assert {row["dataset_index"] for row in rows} == {11, 10, 9, 8}
    noted = [json.loads(line) for line in record.read_text().splitlines()]
    assert [note["step"] for note in noted if note["what"] == "hook"] == [0, 1]
    logged = [note for note in noted if note["what"] == "logged"]
    assert [("eval/accuracy" in note["keys"], "reward/length/letters" in note["keys"]) for note in logged] == [
        (True, False), (False, True), (False, True), (True, False),
    ]  # fmt: skip
    for metrics in run.metrics():
        total = 2 * metrics["reward/gsm8k_reward_fn"] + metrics["reward/length"]
        assert metrics["reward/mean"] == pytest.approx(total)
        assert metrics["groups/informative"] == 0  # by the filter; `length` makes every group one


def test_a_script_that_fails_in_one_process_is_reported_once(start_in, folder, small, tmp_path):
    run = start_in(folder, ["gsm8k.toml", "once.py", tmp_path / "seen"], **small)
    assert run.wait() == 2, run.output  # the second process is the one in which rewards are tried
    assert run.output.count("OSError: the second process finds no licence") == 1, run.output
    assert run.output.count('raise OSError("the second process finds no licence")') == 1, run.output
    assert not run.survivors()
