from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from rlx_datasets import load_dataset

pytestmark = pytest.mark.usefixtures("arrow_cache")

NAME = "BytedTsinghua-SIA/DAPO-Math-17k"
DAPO = {
    "data_source": "math_dapo",
    "prompt": [{"content": "Solve it.\n\nWhat is 6 times 7?\n\nRemember.", "role": "user"}],
    "ability": "MATH",
    "reward_model": {"ground_truth": "42", "style": "rule-lighteval/MATH_v2"},
    "extra_info": {"index": "9a9b"},
}


@pytest.fixture
def folder(tmp_path):
    """A local folder with the Hub's name and layout."""
    data = tmp_path / NAME / "data"
    data.mkdir(parents=True)
    write(data / "train-00000.jsonl", DAPO)
    return data


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_only_split_is_returned_as_rows(folder):
    loaded = load_dataset(str(folder.parent))
    assert len(loaded) == 1
    assert loaded[0]["reward_model"]["ground_truth"] == "42"


def test_a_split_may_be_chosen_by_keyword_or_position(folder):
    assert len(load_dataset(str(folder.parent), None, None, None, "train")) == 1
    assert len(load_dataset(str(folder.parent), split="train[:1]")) == 1


def test_several_splits_are_an_error_that_lists_them(folder):
    write(folder / "test-00000.jsonl", DAPO)
    with pytest.raises(
        ValueError, match=r"has the splits (train, test|test, train); ask for one of them: split='test'"
    ):
        load_dataset(str(folder.parent))
    assert len(load_dataset(str(folder.parent), split="test")) == 1


def test_streaming_returns_the_rows_of_the_only_split(folder):
    assert next(iter(load_dataset(str(folder.parent), streaming=True)))["ability"] == "MATH"


def test_a_custom_dataset_of_cosmos_rl_works_unchanged(folder, monkeypatch, tmp_path):
    """The code is that of cosmos-rl's customization page, except for the import of `load_dataset`."""
    torch_data = pytest.importorskip("torch.utils.data")
    from rlx.datasets.open import make_dataset

    class MathDapoDataset(torch_data.Dataset):
        def setup(self, config, tokenizer, *args, **kwargs):
            self.config = config
            self.tokenizer = tokenizer
            assert config.train.train_policy.dataset.name == NAME
            self.dataset = load_dataset(
                config.train.train_policy.dataset.name, config.train.train_policy.dataset.subset
            )

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, idx):
            conversation = self.dataset[idx]["prompt"]
            assert isinstance(conversation, list)
            return self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)

        def get_reference_answer(self, idx):
            return self.dataset[idx]["reward_model"]["ground_truth"]

    def get_dataset_factory(config):
        return MathDapoDataset()

    def template(conversation, *, tokenize, add_generation_prompt):
        return conversation[0]["content"].upper()

    monkeypatch.chdir(tmp_path)
    train = SimpleNamespace(train_policy=SimpleNamespace(dataset=SimpleNamespace(name=NAME, subset="default")))
    tokenizer = SimpleNamespace(apply_chat_template=template)
    view = make_dataset(get_dataset_factory, {}, SimpleNamespace(train=train), tokenizer)
    assert (len(view), view.item(0)[:9], view.reference(0)) == (1, "SOLVE IT.", "42")
