"""What one rank does with each command of the controller.

The rules of this part:

* Every rank executes every command, and answers it the same way; rank 0's answer is the one that is sent.
* Commands are handled one after another, in the order of arrival: weights that are sent or scored are those of one
  version.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.episodes import decode_episodes
from rlx.errors import RunError
from rlx.policy.weights import checkpoint
from rlx.policy.weights.export import export
from rlx.sync.logprob_diff import pack_logprobs
from rlx.transport.messages import (
    EvalRows,
    Export,
    InitTransfer,
    Measured,
    Message,
    Ok,
    OpenTransfer,
    PolicyReady,
    SaveCheckpoint,
    ScoreTokens,
    SendWeights,
    StepDone,
    TokenScores,
    TrainStep,
    WeightManifest,
    WeightPlan,
)

if TYPE_CHECKING:
    from rlx.config.sections.model import ModelConfig
    from rlx.fingerprint import Fingerprints
    from rlx.policy.model.built import Built
    from rlx.policy.parallel.mesh import Ranks
    from rlx.policy.train.optimizer import Optimizer
    from rlx.policy.train.sft_data import SFTRows
    from rlx.policy.train.trainer import Trainer
    from rlx.policy.weights.full_weights import Gatherer
    from rlx.sync.sender import Sender


@dataclass(frozen=True)
class Worker:
    """One rank of the policy. `rows` and `eval_rows` are there where the algorithm learns from rows."""

    world: Ranks
    model: ModelConfig
    built: Built
    optimizer: Optimizer
    trainer: Trainer
    gatherer: Gatherer
    sender: Sender
    rows: SFTRows | None = None
    eval_rows: SFTRows | None = None
    data: Fingerprints | None = None
    """Of `rows` and `eval_rows`."""

    def ready(self) -> PolicyReady:
        return PolicyReady(self.trainer.step, data=self.data)

    def handle(self, message: Message) -> Message:
        """Execute a command; all ranks call it with the same message. Raises RunError where it cannot be done."""
        match message:
            case TrainStep():
                return self._train(message)
            case SendWeights():
                self._expect(message.version)
                return self.sender.send(message.version, self.gatherer.tensors())
            case ScoreTokens():
                self._expect(message.version)
                return TokenScores(message.version, pack_logprobs(self.trainer.score(message.tokens)))
            case EvalRows():
                return self._evaluate(message)
            case OpenTransfer():
                return self.sender.open(message)
            case WeightPlan():
                return WeightManifest(self.sender.manifest)
            case InitTransfer():
                self.sender.join(message)
                return Ok()
            case SaveCheckpoint():
                checkpoint.save(Path(message.path), self.world, self.built, self.optimizer, self._expect(message.step))
                return Ok()
            case Export():
                self._export(message)
                return Ok()
        raise RunError(f"the policy was sent a {type(message).__name__}, which is not for it")

    def _expect(self, step: int) -> int:
        if step != self.trainer.step:
            raise RunError(f"the policy has made {self.trainer.step} steps, and was asked for the weights of {step}")
        return step

    def _train(self, message: TrainStep) -> StepDone:
        self._expect(message.step)
        began = time.perf_counter()
        groups = [decode_episodes(payload) for payload in message.payloads]
        if message.rows:
            groups += self._feed(self.rows, "training").groups(message.rows)
        decoded = time.perf_counter()
        metrics = self.trainer.train(groups)
        metrics["time/policy_decode"] = decoded - began
        return StepDone(message.step, metrics, time.perf_counter() - began)

    def _evaluate(self, message: EvalRows) -> Measured:
        episodes = [group[0] for group in self._feed(self.eval_rows, "evaluation").groups(message.rows)]
        return Measured(self.trainer.evaluate(episodes))

    def _feed(self, feed: SFTRows | None, what: str) -> SFTRows:
        if feed is None:
            raise RunError(f"the policy was sent {what} rows, but has no dataset to take them from")
        return feed

    def _export(self, message: Export) -> None:
        if message.checkpoint is not None:
            self.trainer.step = checkpoint.load(
                Path(message.checkpoint), self.world, self.built.network, self.optimizer
            )
        tokenizer = Path(self.model.tokenizer) if self.model.tokenizer is not None else None
        export(
            self.built,
            Path(message.path),
            leads=self.world.rank == 0,
            tokenizer=tokenizer,
            chat_template=self.model.chat_template,
        )
