"""Sends weights from the policy to every engine, and verifies that they arrived.

Rules:

* One transfer group serves all syncs, until a replica restarts: rank 0 is the policy's first rank, followed by the
  workers of each replica in turn.
* In a sync of version v the policy sends while every replica receives. All of them then score the same tokens, and v
  is *verified* if the mean |difference| between each replica's log-probabilities and the policy's is within the bound.
  Otherwise the run fails.
* The policy scores directly after it has sent, while it still holds v. It may then train; the answers of the replicas
  are awaited separately.
* A replica gets the list of tensors when it joins the group, so a sync takes one request and one answer per replica:
  with a thousand replicas, each message counts.
* The scored tokens are the replicas' probe prompts and sequences of the last trained step: the policy has just learnt
  from these, so a lost update would show there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import structs

from rlx.config.schema import Config
from rlx.controller.records.metrics import SyncMetrics
from rlx.controller.runtime.failure import together
from rlx.controller.runtime.services import Services
from rlx.episodes import decode_episodes
from rlx.errors import SyncError
from rlx.names import POLICY, PROBE_TOKENS, PROBES
from rlx.sync.logprob_diff import mean_difference
from rlx.transport.messages import (
    InitTransfer,
    Ok,
    OpenTransfer,
    ReceiveWeights,
    RolloutReady,
    ScoreTokens,
    SendWeights,
    TokenScores,
    TransferOpened,
    WeightManifest,
    WeightPlan,
    WeightsReceived,
    WeightsSent,
)

BOUNDS = {"float32": 1e-4, "bfloat16": 0.2, "float16": 0.05}
"""Largest mean |difference| for each engine dtype: rounding stays well below it, and a stale or missing tensor exceeds
it by far.
"""
GRACE_SECONDS = 10.0
"""Added to the timeout of the transfer: both sides enforce that themselves, and can report what hung."""


@dataclass(frozen=True)
class SentWeights:
    """A version that the policy has sent and scored, while the engines may still be receiving and scoring it."""

    version: int
    began: float
    seconds: float
    expected: TokenScores
    received: asyncio.Task[list[WeightsReceived]]


class WeightSync:
    """Syncs weights through the transfer group of a run."""

    def __init__(self, services: Services, ready: dict[str, RolloutReady]) -> None:
        """`ready`: the newest message of each replica; the caller updates it when a replica has restarted."""
        self._services = services
        self._ready = ready
        self._timeout = services.config.sync.timeout_seconds
        self._request_timeout = self._timeout + GRACE_SECONDS
        self._bound, self._bound_source = bound_of(services.config)
        self._probe: list[list[int]] = []

    async def open_group(self) -> None:
        """Open a new transfer group, and wait until the policy and all engine workers have joined."""
        ask = self._services.ask
        world = 1 + sum(ready.workers for ready in self._ready.values())
        message = OpenTransfer(world, self._timeout)
        opened = await ask(POLICY, message, TransferOpened, "opens the weight transfer", timeout=self._timeout)
        what = "lists the weights that it will send"
        manifest = await ask(POLICY, WeightPlan(), WeightManifest, what, timeout=self._request_timeout)
        join = InitTransfer(opened.host, opened.port, world, 0, opened.backend, self._timeout, manifest.buckets)
        ranks, rank = {POLICY: 0}, 1
        for name in self._services.replicas:
            ranks[name] = rank
            rank += self._ready[name].workers
        with self._services.progress.waiting(f"weight transfer waits for {world} workers to join"):
            await together(
                ask(
                    peer,
                    structs.replace(join, rank=rank),
                    Ok,
                    "joins the weight transfer",
                    timeout=self._request_timeout,
                )
                for peer, rank in ranks.items()
            )

    async def send(self, version: int, trained: Sequence[bytes] = ()) -> SentWeights:
        """Send the weights of `version` to all replicas, and score tokens with them on both sides.

        `trained`: payloads of the last step, to score. Raises RunError with the name of the process that failed; a
        replica that fails also fails the run.
        """
        ask = self._services.ask
        if not self._probe:
            prompts = (prompt for ready in self._ready.values() for prompt in ready.probe_tokens)
            self._probe = _scorable(dict.fromkeys(tuple(prompt) for prompt in prompts))
        tokens, began = self._probe + recent_sequences(trained), time.monotonic()
        what = f"receive the weights of version {version} and score the probe tokens"
        message = ReceiveWeights(version, self._timeout, tokens)
        receiving = self._services.ask_replicas(message, WeightsReceived, what, timeout=self._request_timeout)
        received = self._services.failure.spawn(receiving, f"weights of version {version}")
        with self._services.progress.waiting(f"policy sends the weights of version {version}"):
            what = f"sends the weights of version {version}"
            await ask(POLICY, SendWeights(version), WeightsSent, what, timeout=self._request_timeout)
            seconds = time.monotonic() - began
            what = f"scores the probe tokens with the weights of version {version}"
            expected = await ask(POLICY, ScoreTokens(version, tokens), TokenScores, what, timeout=self._request_timeout)
        return SentWeights(version, began, seconds, expected, received)

    async def verify(self, sent: SentWeights) -> SyncMetrics:
        """Wait until all replicas have scored the tokens, and compare. Raises SyncError if they differ too much."""
        with self._services.progress.waiting(f"engines receive the weights of version {sent.version} and score them"):
            received = await sent.received
        pairs = zip(self._services.replicas, received, strict=True)
        differences = [self._compare(name, sent, answer) for name, answer in pairs]
        paused = max(answer.paused_seconds for answer in received)
        seconds = max(sent.seconds, paused)
        return SyncMetrics(
            version=sent.version,
            seconds=seconds,
            verify_seconds=time.monotonic() - sent.began - seconds,
            paused_seconds=paused,
            bytes=max(answer.bytes for answer in received),
            logprob_diff=max(differences),
        )

    def _compare(self, replica: str, sent: SentWeights, answer: WeightsReceived) -> float:
        difference, count = mean_difference(sent.expected.logprobs, answer.logprobs)
        if not difference <= self._bound:
            raise SyncError(
                f"{replica} does not hold the policy's weights of version {sent.version}: on {count} tokens its "
                f"log-probabilities differ from the policy's by {difference:.3g} on average, and {self._bound:.3g} is "
                f"allowed ({self._bound_source}). Its loader did not load every tensor, or its model does not compute "
                "the same as the policy's; if the difference is known to be rounding, raise [sync] max_logprob_diff."
            )
        return difference


def bound_of(config: Config) -> tuple[float, str]:
    """Return the bound on the mean |difference|, and its source for messages."""
    if config.sync.max_logprob_diff is not None:
        return config.sync.max_logprob_diff, "[sync] max_logprob_diff"
    dtype = config.rollout.dtype or config.policy.dtype
    return BOUNDS[dtype], f"for an engine in {dtype}"


def recent_sequences(payloads: Sequence[bytes]) -> list[list[int]]:
    """Return the first tokens of up to `PROBES` trained sequences, from as many groups as possible."""
    episodes = [decode_episodes(payload) for payload in payloads[:PROBES]]
    interleaved = (group[index] for index in range(PROBES) for group in episodes if index < len(group))
    return _scorable(episode.trajectories[0].tokens for episode in interleaved if episode.trajectories)[:PROBES]


def _scorable(sequences: Iterable[Sequence[int]]) -> list[list[int]]:
    # The first token has no predecessor, so a sequence of one token has nothing to score.
    return [list(sequence[:PROBE_TOKENS]) for sequence in sequences if len(sequence) > 1]
