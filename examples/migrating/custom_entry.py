"""A custom dataset: `rlx run --config dapo.toml --policy 1 --rollout 1 custom_entry.py`."""

from typing import Any

from torch.utils.data import Dataset
from transformers import AutoTokenizer

from rlx import Config, launch_worker
from rlx_datasets import load_dataset


class MathDapoDataset(Dataset):
    def setup(self, config: Config, tokenizer: AutoTokenizer, *args, **kwargs):
        self.config = config
        self.tokenizer = tokenizer

        # This demo is only for DAPO-Math-17k dataset
        assert config.train.train_policy.dataset.name == "BytedTsinghua-SIA/DAPO-Math-17k"
        self.dataset = load_dataset(config.train.train_policy.dataset.name, config.train.train_policy.dataset.subset)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, idx: int) -> tuple[str, str]:
        assert hasattr(self, "tokenizer"), "`self.tokenizer` should be set by the launcher"
        conversation = self.dataset[idx]["prompt"]
        assert isinstance(conversation, list), (
            f"Prompt should be a string, but got {type(conversation)}， {conversation}"
        )

        # Apply chat-template to get the raw prompt in text
        return self.tokenizer.apply_chat_template(
            conversation,
            tokenize=False,
            add_generation_prompt=True,
        )

    def get_reference_answer(self, idx: int) -> Any:
        return self.dataset[idx]["reward_model"]["ground_truth"]


if __name__ == "__main__":

    def get_dataset_factory(config: Config) -> Dataset:
        return MathDapoDataset()

    launch_worker(
        dataset=get_dataset_factory,
    )
