"""Compare supervised fine-tuning with TRL's SFTTrainer on a CPU: trained tokens per second, without padding.

Both use the same model (SmolLM2-135M), rows in the same order, rows per step, dtypes of weights and computation, and
both cores. rlx is the policy's trainer, in a process with the environment of a rank: rows through the packer,
micro-batches, forward, backward, clipping, AdamW. Steps of both alternate, so that other load affects both; the ratio
is the median over steps, without the first (warm-up).
TRL pads the rows of a step into one batch, or does what --trl says:

    padded        the step's rows in one batch (TRL's default; gradient checkpointing off, as in rlx)
    single        one row at a time, gradients accumulated: nothing to pad
    padding_free  padding_free=True: the step's rows concatenated, with a block-diagonal mask
    packing       packing=True ("bfd"): rows packed into rows of as many tokens as a step has on average

    python benchmarks/sft_against_trl.py [--trl padded] [--dtype float32] [--rows 8] [--steps 6]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ragged import Tokens, rows
from runs import smollm2_model

THREADS = 2


@dataclass
class Clock:
    """Trained tokens and seconds of each step of one side."""

    tokens: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def begin(self) -> None:
        self.tokens.append(0)
        self._begun = time.perf_counter()

    def end(self) -> None:
        self.seconds.append(time.perf_counter() - self._begun)

    def rates(self) -> list[float]:
        return [tokens / seconds for tokens, seconds in zip(self.tokens, self.seconds, strict=True)]


def trl_options(mode: str, count: int) -> dict[str, Any]:
    """Return the options of TRL's trainer for a value of --trl, with `count` rows per step."""
    packed = sum(len(row["input_ids"]) for row in rows()) * count // len(rows())
    return {
        "padded": {"per_device_train_batch_size": count},
        "single": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": count},
        "padding_free": {"per_device_train_batch_size": count, "padding_free": True, "max_length": None},
        "packing": {"per_device_train_batch_size": 1, "packing": True, "max_length": packed},
    }[mode]


def trl_trainer(options: argparse.Namespace, out: str, clock: Clock) -> Any:
    """Return an SFTTrainer whose steps `clock` records."""
    import torch
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Timed(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: object, **__: object) -> None:
            clock.begin()

        def on_step_end(self, *_: object, **__: object) -> None:
            clock.end()

    class Counted(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            clock.tokens[-1] += int((inputs["labels"][:, 1:] != -100).sum())
            return super().compute_loss(model, inputs, *args, **kwargs)

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    folder = smollm2_model()
    config = SFTConfig(
        output_dir=out,
        use_cpu=True,
        bf16=options.dtype == "bfloat16",
        gradient_checkpointing=False,
        max_steps=options.steps,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        logging_strategy="no",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **trl_options(options.trl, options.rows),
    )
    return Counted(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(folder),
        args=config,
        train_dataset=Dataset.from_list(rows()),
        callbacks=[Timed()],
    )


def rlx_steps(options: argparse.Namespace, clock: Clock, rank: Connection) -> Any:
    """Return a callback that has `rank` train the same rows after each step of TRL's, recorded by `clock`."""
    from transformers import TrainerCallback

    class Step(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _options: object, state: Any, *_: object, **__: object) -> None:
            clock.begin()
            last = state.global_step * options.rows
            rank.send(range(last - options.rows, last))
            clock.tokens[-1] = rank.recv()
            clock.end()

    return Step()


@contextmanager
def rlx_rank(options: argparse.Namespace) -> Iterator[Connection]:
    """Start a process that receives row indices, trains these rows, and sends the number of trained tokens."""
    from rlx.platform import PLATFORMS

    # The C library reads these when a process starts, so they don't affect TRL in this process.
    own = {**PLATFORMS["cpu"].policy_env, "OMP_NUM_THREADS": str(THREADS)}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=rlx_main, args=(options, there), daemon=True)
    process.start()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    assert here.recv() == "ready"
    yield here
    process.kill()


def rlx_main(options: argparse.Namespace, parent: Connection) -> None:
    import torch

    from rlx.datasets.open import make_dataset
    from rlx.packers.tokenizer import load_tokenizer
    from rlx.policy.train.sft_data import SFTRows

    torch.set_num_threads(THREADS)
    trainer, config = rlx_trainer(options)
    tokenizer = load_tokenizer(config.model)
    packer = Tokens()
    packer.setup(config, tokenizer)
    sft_rows = SFTRows(make_dataset(rows, {}, config, tokenizer), packer, tokenizer, None)
    parent.send("ready")
    while True:
        parent.send(trainer.train(sft_rows.groups(parent.recv()))["tokens/trained"])


def rlx_trainer(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the policy's trainer on one rank, this process, and its config."""
    from rlx.algorithms.sft import SFT
    from rlx.config.schema import Config
    from rlx.platform import PLATFORMS
    from rlx.policy.build import build_policy
    from rlx.policy.parallel.mesh import join_ranks
    from rlx.policy.train.optimizer import Optimizer
    from rlx.policy.train.trainer import Trainer
    from rlx.policy.weights.hf_folder import load_hf_config
    from rlx_models.hf import plugin

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    folder = Path(smollm2_model())
    tables = {"model": {"path": str(folder)}, "dataset": {"name": "none"}, "policy": {"dtype": options.dtype}}
    config = Config.model_validate(tables)
    world = join_ranks(PLATFORMS["cpu"], config.policy.parallel)
    built = build_policy(plugin, load_hf_config(config.model, folder), folder, world, config.policy, 1.0)
    optimizer = Optimizer(dict(built.network.named_parameters()), config.policy.optimizer, options.steps)
    return Trainer(world, built.model, optimizer, SFT(), config.policy), config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", choices=["padded", "single", "padding_free", "packing"], default="padded")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rows", type=int, default=8, help="rows per step")
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1")
    import torch

    torch.set_num_threads(THREADS)
    theirs, ours = Clock(), Clock()
    with tempfile.TemporaryDirectory() as out, rlx_rank(options) as rank:
        trainer = trl_trainer(options, out, theirs)
        trainer.add_callback(rlx_steps(options, ours, rank))
        trainer.train()
    report(options, ours.rates()[1:], theirs.rates()[1:])


def report(options: argparse.Namespace, ours: list[float], theirs: list[float]) -> None:
    print(f"SmolLM2-135M, {options.dtype}, {options.rows} rows a step, TRL {options.trl}")
    for rlx, trl in zip(ours, theirs, strict=True):
        print(f"rlx {rlx:7.1f}  TRL {trl:7.1f} trained tokens/s   ratio {rlx / trl:.2f}")
    ratio = statistics.median(rlx / trl for rlx, trl in zip(ours, theirs, strict=True))
    print(f"median: rlx {statistics.median(ours):.1f}, TRL {statistics.median(theirs):.1f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
