"""A custom dataset and packer: `python custom_packer.py --config gsm8k.toml`."""

from typing import Any, Dict, List

from datasets import load_dataset
from torch.utils.data import Dataset
from transformers import AutoTokenizer

from rlx import Config, DataPacker, DecoderOnlyLLMDataPacker, launch_worker
from rlx_datasets import modelscope_load_dataset
from rlx_rewards import gsm8k_reward_fn


class GSM8kDataset(Dataset):
    def setup(self, config: Config, tokenizer: AutoTokenizer, *args, **kwargs):
        self.config = config
        self.tokenizer = tokenizer
        modelscope_dataset_if_enabled = modelscope_load_dataset(
            "AI-ModelScope/gsm8k", subset_name="main", split="train"
        )
        if modelscope_dataset_if_enabled is None:
            self.dataset = load_dataset("openai/gsm8k", "main", split="train")
        else:
            self.dataset = modelscope_dataset_if_enabled

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, idx: int) -> tuple[str, str]:
        assert hasattr(self, "tokenizer"), "`self.tokenizer` should be set by the launcher"
        question = self.dataset[idx]["question"]
        assert isinstance(question, str), f"Prompt should be a string, but got {type(question)}， {question}"
        # Convert to templated prompt
        conversation = [
            {
                "role": "system",
                "content": """You are an AI math expert, you will be given a question and required to answer.
Final answer should be like
```
#### [ANS]
``` where [ANS] is your answer""",
            },
            {
                "role": "user",
                "content": question,
            },
        ]
        prompt = self.tokenizer.apply_chat_template(
            conversation,
            tokenize=False,
            add_generation_prompt=True,
        )
        return prompt

    def get_reference_answer(self, idx: int) -> Any:
        return self.dataset[idx]["answer"]


class DemoDataPacker(DataPacker):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Check source code of DecoderOnlyLLMDataPacker to see how it's implemented
        self.underlying_data_packer = DecoderOnlyLLMDataPacker()

    def setup(self, config: Config, tokenizer: AutoTokenizer, *args, **kwargs):
        super().setup(config, tokenizer, *args, **kwargs)
        self.underlying_data_packer.setup(config, tokenizer, *args, **kwargs)

    def get_rollout_input(self, item: Any) -> Any:
        return self.underlying_data_packer.get_rollout_input(item)

    def rollout_collate_fn(self, items: List[Any]) -> Any:
        return self.underlying_data_packer.rollout_collate_fn(items)

    def get_policy_input(self, item: Any, rollout_output: str) -> Any:
        return self.underlying_data_packer.get_policy_input(item, rollout_output)

    def policy_compute_max_len(self, processed_samples: List[Any]) -> int:
        return self.underlying_data_packer.policy_compute_max_len(processed_samples)

    def policy_collate_fn(self, processed_samples: List[Any], computed_max_len: int) -> Dict[str, Any]:
        return self.underlying_data_packer.policy_collate_fn(processed_samples, computed_max_len)


if __name__ == "__main__":

    def get_dataset_factory(config: Config) -> Dataset:
        return GSM8kDataset()

    launch_worker(
        dataset=get_dataset_factory,
        data_packer=DemoDataPacker(),
        reward_fns=[gsm8k_reward_fn],
    )
