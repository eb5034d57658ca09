"""One GRPO step for each architecture on one CPU: does the policy compute what transformers does, and the engine what
the policy does?

    python tests/long/matrix.py                         one row of JSON for each architecture, as they come
    python tests/long/matrix.py --no-engine qwen3 gpt2  these, without an engine (a quarter of a second each)
    python tests/long/matrix.py --markdown              the table of docs/models.md

For each: a folder with random weights; the policy as a run builds it; one GRPO step on completions whose sampler
log-probabilities are those of transformers (eager attention, float32, evaluation mode), so that the step's
`mismatch/logprob_diff_max` is the difference between what is trained and what transformers computes; the trained policy
against transformers with the exported weights; and a real vLLM engine after a real sync of them. Refusals of
`rlx check` are rows, too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rlx.config.schema import Config

ENGINE_SECONDS = 240.0
"""Longest life of one engine. A busy machine may take a minute to start one."""
LEARNING_RATE = 1e-3
ENGINE_OPTIONS: Mapping[str, Mapping[str, object]] = {"cohere2": {"hf_overrides": {"sliding_window": 15}}}
"""`[rollout.vllm]` of a model with which policy and engine compute the same."""


@dataclass
class Row:
    """What was measured for one architecture. Differences are the largest |difference| of a log-probability."""

    name: str
    trained: float | None = None
    """Between a GRPO step's log-probabilities and those of transformers."""
    policy: float | None = None
    """Between the policy after the step and transformers with its exported weights."""
    moved: float | None = None
    """Between the policy before and after the step."""
    engine: float | None = None
    """Between a vLLM engine after the sync and the policy after the step."""
    engine_mean: float | None = None
    """The mean of the latter, which a run's verification bounds."""
    rows: str = ""
    """`packed` or `padded`, with the attention of padded rows."""
    refusal: str = ""
    """Why `rlx check` refuses RL with the model."""
    failure: str = ""
    """Why the engine failed, if it did."""


def sequences() -> list[list[int]]:
    """Three sequences with a common prompt, and three others; up to 59 tokens, more than the windows."""
    source = random.Random(0)
    prompt = _draw(source, 9)
    shared = [prompt + _draw(source, count) for count in (5, 40, 23)]
    return shared + [_draw(source, count) for count in (4, 50, 12)]


def _draw(source: random.Random, count: int) -> list[int]:
    return [source.randrange(3, 90) for _ in range(count)]


def reference(folder: Path, rows: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log-probabilities of all tokens but the first: transformers' own forward, a sequence at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    found = []
    with torch.no_grad():
        for tokens in rows:
            logprobs = model(torch.tensor([tokens])).logits[0, :-1].log_softmax(-1)
            found.append(logprobs.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0].tolist())
    return found


def difference(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    pairs = [pair for rows in zip(left, right, strict=True) for pair in zip(*rows, strict=True)]
    # A NaN must not be lost in max().
    return max((abs(a - b) for a, b in pairs), key=lambda value: (value != value, value))


def mean_difference(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    return fmean(abs(a - b) for a, b in zip(chain(*left), chain(*right), strict=True))


class Policy:
    """The policy of one rank in this process, for one model after another."""

    def __enter__(self) -> Self:
        import torch

        from rlx.config.sections.policy import PolicyConfig
        from rlx.platform import PLATFORMS
        from rlx.policy.parallel.mesh import join_ranks

        torch.set_num_threads(1)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
        self._ranks = join_ranks(PLATFORMS["cpu"], PolicyConfig().parallel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ranks.close()

    def step(self, folder: Path, row: Row) -> None:
        """Train the model of a folder for one step, and export it to `folder`/trained."""
        import torch

        from rlx.algorithms.grpo import GRPO
        from rlx.config.schema import Config
        from rlx.episodes import Episode, Reward, single_turn
        from rlx.policy.build import build_policy
        from rlx.policy.train.optimizer import Optimizer
        from rlx.policy.train.trainer import Trainer
        from rlx.policy.weights.export import export
        from rlx.policy.weights.hf_folder import load_hf_config

        plain = {"model": {"path": str(folder)}, "dataset": {"name": "none"}}
        policy = {"dtype": "float32", "optimizer": {"lr": LEARNING_RATE}}
        config = Config.model_validate({**plain, "policy": policy})
        torch.manual_seed(0)
        built = build_policy(
            _plugin(row.name), load_hf_config(config.model, folder), folder, self._ranks, config.policy, 1.0
        )
        optimizer = Optimizer(dict(built.network.named_parameters()), config.policy.optimizer, 10)
        trainer = Trainer(self._ranks, built.model, optimizer, GRPO(), config.policy)
        rows, prompt = sequences(), 4
        sampled = [scores[prompt - 1 :] for scores in reference(folder, rows)]
        episodes = [
            Episode(
                index // 3,
                index % 3,
                index // 3,
                [single_turn(tokens[:prompt], tokens[prompt:], logprobs=sampled[index])],
                rewards=[Reward("made up", float(index % 3))],
            )
            for index, tokens in enumerate(rows)
        ]
        before = trainer.score(rows)
        metrics = trainer.train([episodes[:3], episodes[3:]])
        after = trainer.score(rows)
        export(built, folder / "trained", writes=True, tokenizer=None, chat_template=None)
        row.trained = metrics["mismatch/logprob_diff_max"]
        row.moved = difference(before, after)
        row.policy = difference(after, reference(folder / "trained", rows))
        row.rows = (
            "packed" if built.model.packing else f"padded, {built.model.adapter.own_attention or 'own'} attention"
        )
        (folder / "scores.json").write_text(json.dumps(after))


def _plugin(name: str):
    if "deepseek" in name:
        from rlx_plugin_deepseek.plugin import plugin
    else:
        from rlx_models.hf import plugin
    return plugin


def probe(folder: Path, name: str) -> Config:
    """Return the config of a run with this model, and with what an engine needs for it."""
    from rlx.testing.suites.engine_probe import probe_config

    config = probe_config(str(folder))
    vllm = {**config.rollout.vllm, **ENGINE_OPTIONS.get(name, {})}
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"vllm": vllm})})


def refusal(config: Config) -> str:
    """Return why `rlx check` refuses this run; nothing if it accepts it."""
    from rlx.errors import UsageError
    from rlx.preflight.checks.model import check_architecture
    from rlx.preflight.checks.problems import Problems

    try:
        check_architecture(config, Problems(), rollouts=True)
    except UsageError as error:
        return str(error).replace(config.model.path, "m")
    return ""


class Engines:
    """vLLM engines, one after another: forks of one process that has imported vLLM, each in its own process group."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)

    def measure(self, folder: Path, row: Row) -> None:
        """Start an engine with the folder's first weights, sync the trained ones into it, and score."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{json.dumps([str(folder), row.name])}\n")
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        assert line, "the process that forks engines has ended"
        code = int(line)
        if code == 0:
            scores = json.loads((folder / "engine.json").read_text())
            expected = json.loads((folder / "scores.json").read_text())
            row.engine, row.engine_mean = difference(scores, expected), mean_difference(scores, expected)
        else:
            errors = re.findall(r"^.*?((?:\w+\.)*\w+Error: .+)$", (folder / "engine.log").read_text(), re.MULTILINE)
            row.failure = errors[0][:400] if errors else f"the engine's process ended with {code}"


def serve() -> None:
    """Read folders from stdin; for each, start an engine in a fork, and write its exit code."""
    from rlx.testing.suites import engine_probe

    engine_probe.set_environment(engine_probe.probe_config("any"))
    # Everything that an engine imports: forks then start in a few seconds.
    import vllm.v1.engine.core
    import vllm.v1.engine.utils
    import vllm.v1.worker.cpu_worker

    import rlx.rollout.engine
    import rlx.sync.worker_extension  # noqa: F401

    # vLLM's CPU platform asks for new interpreters, which would import everything again.
    vllm.v1.engine.utils.get_mp_context = lambda: multiprocessing.get_context("fork")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        folder, name = json.loads(line)
        answers.write(f"{_forked(Path(folder), name)}\n")
        answers.flush()


def _forked(folder: Path, name: str) -> int:
    child = os.fork()
    if child == 0:
        _run_engine(folder, name)
    deadline = time.monotonic() + ENGINE_SECONDS
    done = 0
    while not done and time.monotonic() < deadline:
        time.sleep(0.1)
        done, status = os.waitpid(child, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status) if done else -1
    # The engine core is a child of the fork, in the same group.
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done:
        os.waitpid(child, 0)
    return code


def _run_engine(folder: Path, name: str) -> None:
    import asyncio
    import traceback

    from rlx.testing.suites import engine_probe

    code = 1
    os.setsid()
    with (folder / "engine.log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        weights = folder / "trained" / "model.safetensors"
        scores = engine_probe.scores_after_sync(probe(folder, name), weights, sequences())
        (folder / "engine.json").write_text(json.dumps(asyncio.run(scores)))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def measured(names: Sequence[str], *, engine: bool) -> Iterator[Row]:
    """Measure these architectures."""
    from contextlib import ExitStack

    from architectures import make_model

    with ExitStack() as stack:
        policy = stack.enter_context(Policy())
        engines = stack.enter_context(Engines()) if engine else None
        for name in names:
            row = Row(name)
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                make_model(name, folder)
                policy.step(folder, row)
                row.refusal = refusal(probe(folder, name))
                if engines is not None and not row.refusal:
                    engines.measure(folder, row)
            yield row


def markdown(row: Row) -> str:
    """Return the architecture's row of the table in docs/models.md."""
    engine = "-" if row.engine is None else f"{row.engine:.0e}"
    return (
        f"| {row.name} | {row.trained:.0e} | {row.policy:.0e} | {engine} | {row.rows} | {row.refusal or row.failure} |"
    )


def main() -> None:
    from architectures import CONFIGS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help="architectures of architectures.py; default: all")
    parser.add_argument("--no-engine", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    for row in measured(arguments.names or list(CONFIGS), engine=not arguments.no_engine):
        print(markdown(row) if arguments.markdown else json.dumps(asdict(row)), flush=True)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
