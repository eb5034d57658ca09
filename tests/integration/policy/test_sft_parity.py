"""SFT against transformers' own loss on one batch, and against TRL's SFTTrainer over 50 steps."""

from __future__ import annotations

import random
import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlx.algorithms.sft import SFT
from rlx.config.sections.policy import PolicyConfig
from rlx.episodes import Episode, single_turn
from rlx.policy.train.optimizer import Optimizer
from rlx.policy.train.trainer import Trainer

ROWS, STEPS = 8, 50
LEARNING = {"lr": 3e-3, "weight_decay": 0.01, "max_grad_norm": 1.0, "schedule": "linear"}


@pytest.fixture(scope="module")
def rows():
    """Prompts and completions of ragged lengths that can be learnt: a completion continues its prompt's counting."""
    draw = random.Random(3)
    starts = [(draw.randrange(3, 60), draw.randrange(2, 12), draw.randrange(1, 20)) for _ in range(ROWS * STEPS)]
    return [
        (list(range(start, start + prompt)), [*range(start + prompt, start + prompt + completion), 1])
        for start, prompt, completion in starts
    ]


@pytest.fixture
def trainer(world, build, tied):
    def make(**policy):
        config = PolicyConfig.model_validate({"dtype": "float32", "optimizer": LEARNING, **policy})
        built = build(tied, **policy)
        optimizer = Optimizer(dict(built.network.named_parameters()), config.optimizer, STEPS)
        return Trainer(world, built.model, optimizer, SFT(), config)

    return make


def groups(rows):
    return [[Episode(index, 0, index, [single_turn(*row)])] for index, row in enumerate(rows)]


def padded(rows):
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    tokens, labels, mask = (torch.full((len(rows), width), filler) for filler in (0, -100, 0))
    for index, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        tokens[index, :end] = torch.tensor(prompt + completion)
        labels[index, len(prompt) : end] = torch.tensor(completion)
        mask[index, :end] = 1
    return {"input_ids": tokens, "labels": labels, "attention_mask": mask}


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("budget", [8192, 40])
def test_the_loss_is_that_of_transformers(trainer, rows, tied, packing, budget):
    theirs = AutoModelForCausalLM.from_pretrained(tied, dtype=torch.float32)
    batch = rows[:ROWS]
    trained = sum(len(completion) for _, completion in batch)
    expected = theirs(**padded(batch), num_items_in_batch=trained).loss
    metrics = trainer(packing=packing, max_tokens_per_microbatch=budget).train(groups(batch))
    assert metrics["tokens/trained"] == trained
    assert metrics["loss"] == pytest.approx(float(expected.detach()), rel=1e-6)


def test_the_learning_curve_is_that_of_trl(trainer, rows, tied, tmp_path):
    expected = trl_losses(rows, tied, tmp_path)
    ours = trainer()
    seen = [ours.train(groups(rows[step * ROWS : (step + 1) * ROWS]))["loss"] for step in range(STEPS)]
    assert expected[-1] < 0.7 * expected[0]
    assert max(abs(a - b) for a, b in zip(seen, expected, strict=True)) <= 1e-5


def trl_losses(rows, folder, out):
    """Return the loss of each step of TRL's SFTTrainer on the same rows in the same order, with the same optimizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from torch.utils.data import SequentialSampler
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        class InOrder(SFTTrainer):
            def _get_train_sampler(self, dataset=None):
                return SequentialSampler(dataset if dataset is not None else self.train_dataset)

        dataset = Dataset.from_list(
            [
                {"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)}
                for prompt, completion in rows
            ]
        )
        config = SFTConfig(
            output_dir=str(out),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            completion_only_loss=True,
            max_steps=STEPS,
            per_device_train_batch_size=ROWS,
            learning_rate=LEARNING["lr"],
            weight_decay=LEARNING["weight_decay"],
            max_grad_norm=LEARNING["max_grad_norm"],
            lr_scheduler_type="linear",
            warmup_steps=0,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        trainer = InOrder(
            model=model, args=config, train_dataset=dataset, processing_class=AutoTokenizer.from_pretrained(folder)
        )
        trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]
