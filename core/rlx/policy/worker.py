"""Executes the controller's commands on one policy rank.

Rules:

* Every rank executes every command and returns the same kind of answer; only rank 0's answer is sent.
* Commands are executed one after another, in the order of arrival, so the weights that are sent and the weights that
  score tokens are those of one version. Only the files of a checkpoint are written beside the commands.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from rlx.episodes import decode_episodes
from rlx.errors import RunError
from rlx.packers.tokenizer import tokenizer_folder
from rlx.policy.weights import checkpoint
from rlx.policy.weights.export import export
from rlx.sync.logprob_diff import pack_logprobs
from rlx.transport.messages import (
    BadRow,
    EvalRows,
    Export,
    InitTransfer,
    Measured,
    Message,
    Ok,
    OpenTransfer,
    PolicyReady,
    RowsRefused,
    SaveCheckpoint,
    ScoreTokens,
    SendWeights,
    StepDone,
    TokenScores,
    TrainStep,
    WeightManifest,
    WeightPlan,
    WeightsSent,
)

if TYPE_CHECKING:
    from rlx.config.sections.model import ModelConfig
    from rlx.episodes import Episode
    from rlx.fingerprint import Fingerprints
    from rlx.policy.model.built import Built
    from rlx.policy.parallel.mesh import Ranks
    from rlx.policy.train.optimizer import Optimizer
    from rlx.policy.train.sft_data import SFTRows
    from rlx.policy.train.trainer import Trainer
    from rlx.policy.weights.full_weights import FullWeights
    from rlx.policy.weights.writer import Writer
    from rlx.sync.sender import Sender

_BAD_ROWS = msgspec.msgpack.Decoder(list[BadRow])


@dataclass(frozen=True)
class Worker:
    """One rank of the policy. It has `rows`, and perhaps `eval_rows`, if the algorithm learns from dataset rows."""

    ranks: Ranks
    model: ModelConfig
    built: Built
    optimizer: Optimizer
    trainer: Trainer
    weights: FullWeights
    sender: Sender
    writer: Writer
    rows: SFTRows | None = None
    eval_rows: SFTRows | None = None
    fingerprints: Fingerprints | None = None
    """Fingerprints of `rows` and `eval_rows`."""

    def ready(self) -> PolicyReady:
        """Return the message that this rank is ready for commands."""
        config = self.built.hf_config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        vocab_size = int(getattr(text, "vocab_size", 0))
        return PolicyReady(self.trainer.step, data=self.fingerprints, vocab_size=vocab_size)

    def handle(self, message: Message) -> Message:
        """Execute a command; all ranks call it with the same message. Raises RunError if the policy can't."""
        match message:
            case TrainStep():
                return self._train(message)
            case SendWeights():
                self._check_version(message.version)
                sent = self.sender.send(message.version, self.weights.buckets(check=self.ranks.rank == 0))
                outdated = self.weights.outdated
                return structs.replace(sent, outdated=outdated) if isinstance(sent, WeightsSent) else sent
            case ScoreTokens():
                self._check_version(message.version)
                return TokenScores(message.version, pack_logprobs(self.trainer.score(message.tokens)))
            case EvalRows():
                return self._evaluate(message)
            case OpenTransfer():
                return self.sender.open(message)
            case WeightPlan():
                return WeightManifest(self.sender.manifest)
            case InitTransfer():
                return self.sender.join(message)
            case SaveCheckpoint():
                self._check_version(message.step)
                self.writer.begin(Path(message.path), message.step, message.timeout_seconds)
                return Ok()
            case Export():
                self._export(message)
                return Ok()
        raise RunError(f"the policy was sent a {type(message).__name__}, which it does not handle")

    def _check_version(self, version: int) -> None:
        if version != self.trainer.step:
            raise RunError(
                f"the policy was asked for the weights of step {version}, but has made {self.trainer.step} steps"
            )

    def _train(self, message: TrainStep) -> StepDone | RowsRefused:
        self._check_version(message.step)
        began = time.perf_counter()
        groups = [decode_episodes(payload) for payload in message.payloads]
        if message.rows:
            groups, bad = self._read(self.rows, message.rows, "training")
            if bad:
                return RowsRefused(message.step, bad)
        decoded = time.perf_counter()
        metrics = self.trainer.train(groups)
        metrics["time/policy_decode"] = decoded - began
        return StepDone(message.step, metrics, time.perf_counter() - began, self.trainer.advantages)

    def _evaluate(self, message: EvalRows) -> Measured:
        groups, bad = self._read(self.eval_rows, message.rows, "evaluation")
        if not groups:
            raise RunError(f"evaluation: none of its {len(message.rows)} rows can be used. The first one: {bad[0].why}")
        metrics = self.trainer.evaluate([episode for (episode,) in groups])
        counts = {"eval/rows": float(len(groups)), "eval/dropped": float(len(bad))}
        return Measured(metrics | counts, bad)

    def _read(self, rows: SFTRows | None, indices: list[int], purpose: str) -> tuple[list[list[Episode]], list[BadRow]]:
        """Return the groups of the rows that every rank can use, and the other rows; the same on every rank."""
        if rows is None:
            raise RunError(f"the policy was sent {purpose} rows, but has no dataset to take them from")
        groups, own = rows.read(indices)
        # A row may fail on one rank alone: its file may be missing there.
        found: dict[int, BadRow] = {}
        for data in self.ranks.gather_bytes(msgspec.msgpack.encode(own)):
            for bad in _BAD_ROWS.decode(data):
                found.setdefault(bad.row, bad)
        return [group for group in groups if group[0].dataset_index not in found], list(found.values())

    def _export(self, message: Export) -> None:
        if message.checkpoint is not None:
            self.trainer.step = checkpoint.load(
                Path(message.checkpoint), self.ranks, self.built.network, self.optimizer
            )
        export(
            self.built,
            Path(message.path),
            writes=self.ranks.rank == 0,
            tokenizer=tokenizer_folder(self.model),
            chat_template=self.model.chat_template,
        )
