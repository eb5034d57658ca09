"""Sends weights from the policy to every engine, and verifies that they arrived.

Rules:

* One transfer group serves the whole run: rank 0 is the policy's first rank, then come the workers of each replica in
  turn.
* In a sync of version v the policy sends while every replica receives. Each then scores the same tokens; the mean
  |difference| of a replica's log-probabilities from the policy's must be within the bound, or the run ends. Only then
  is v *verified*.
* The policy scores directly after it has sent, so it still holds v. From then on it may train; the answers of the
  replicas are awaited separately.
* A replica learns which tensors come when it joins the group, and a sync is one request and one answer for each
  replica: with a thousand of them, each message counts.
* The tokens to score are the replicas' probe prompts, and sequences of the last trained step: the policy has just
  learnt on them, so a lost update would show there.
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
"""Largest mean |difference| by the engine's dtype: rounding alone stays below it with room, and a stale or missing
tensor is far above it.
"""
GRACE_SECONDS = 10.0
"""Added to the timeout of the transfer: both sides enforce that themselves, and know better what hung."""


@dataclass(frozen=True)
class SentWeights:
    """A version that the policy has sent and scored, while the engines may still be receiving and scoring it."""

    version: int
    began: float
    seconds: float
    expected: TokenScores
    received: asyncio.Task[list[WeightsReceived]]


class WeightSync:
    """The transfer group of one run."""

    def __init__(self, services: Services, ready: dict[str, RolloutReady]) -> None:
        """`ready`: the newest message of each replica; the caller updates it when a replica has restarted."""
        self._services = services
        self._ready = ready
        self._timeout = services.config.sync.timeout_seconds
        self._wait = self._timeout + GRACE_SECONDS
        self._bound, self._why = bound_of(services.config)
        self._probe: list[list[int]] = []

    async def open_group(self) -> None:
        """Make the policy and all engine workers join a new transfer group."""
        ask = self._services.ask
        world = 1 + sum(ready.workers for ready in self._ready.values())
        message = OpenTransfer(world, self._timeout)
        opened = await ask(POLICY, message, TransferOpened, "opens the weight transfer", timeout=self._timeout)
        what = "lists the weights that it will send"
        manifest = await ask(POLICY, WeightPlan(), WeightManifest, what, timeout=self._wait)
        place = InitTransfer(opened.host, opened.port, world, 0, opened.backend, self._timeout, manifest.buckets)
        ranks, rank = {POLICY: 0}, 1
        for name in self._services.replicas:
            ranks[name] = rank
            rank += self._ready[name].workers
        with self._services.progress.waiting(f"weight transfer waits for {world} workers to join"):
            await together(
                ask(peer, structs.replace(place, rank=rank), Ok, "joins the weight transfer", timeout=self._wait)
                for peer, rank in ranks.items()
            )

    async def send(self, version: int, trained: Sequence[bytes] = ()) -> SentWeights:
        """Send the weights of `version` to all replicas, and let both sides score tokens.

        `trained`: payloads of the last step, to score. Raises RunError with the name of the process that failed; if
        that is a replica, the whole run fails.
        """
        ask = self._services.ask
        tokens, began = self._probe_tokens(trained), time.monotonic()
        what = f"take the weights of version {version}, and score the probe tokens"
        message = ReceiveWeights(version, self._timeout, tokens)
        receiving = self._services.ask_replicas(message, WeightsReceived, what, timeout=self._wait)
        received = self._services.failure.spawn(receiving, f"weights of version {version}")
        with self._services.progress.waiting(f"policy sends the weights of version {version}"):
            what = f"sends the weights of version {version}"
            await ask(POLICY, SendWeights(version), WeightsSent, what, timeout=self._wait)
            seconds = time.monotonic() - began
            what = f"scores the probe tokens with the weights of version {version}"
            expected = await ask(POLICY, ScoreTokens(version, tokens), TokenScores, what, timeout=self._wait)
        return SentWeights(version, began, seconds, expected, received)

    async def verify(self, sent: SentWeights) -> SyncMetrics:
        """Wait until all replicas have scored the weights, and compare. Raises SyncError if they differ too much."""
        with self._services.progress.waiting(f"engines take weights of version {sent.version}, and verify them"):
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

    def _probe_tokens(self, trained: Sequence[bytes]) -> list[list[int]]:
        if not self._probe:
            prompts = (prompt for ready in self._ready.values() for prompt in ready.probe_tokens)
            self._probe = _scorable(dict.fromkeys(tuple(prompt) for prompt in prompts))
        return self._probe + recent_sequences(trained)

    def _compare(self, replica: str, sent: SentWeights, answer: WeightsReceived) -> float:
        difference, count = mean_difference(sent.expected.logprobs, answer.logprobs)
        if not difference <= self._bound:
            raise SyncError(
                f"{replica} does not hold the policy's weights of version {sent.version}: on {count} tokens its "
                f"log-probabilities differ from the policy's by {difference:.3g} on average, and {self._bound:.3g} is "
                f"allowed ({self._why}). Its loader did not take every tensor, or it computes something else than "
                "the policy's model; if the difference is known to be rounding, raise [sync] max_logprob_diff."
            )
        return difference


def bound_of(config: Config) -> tuple[float, str]:
    """Return the bound on the mean |difference|, and where it comes from."""
    if config.sync.max_logprob_diff is not None:
        return config.sync.max_logprob_diff, "[sync] max_logprob_diff"
    dtype = config.rollout.dtype or config.policy.dtype
    return BOUNDS[dtype], f"for an engine in {dtype}"


def recent_sequences(payloads: Sequence[bytes]) -> list[list[int]]:
    """Return the beginnings of up to `PROBES` trained sequences, from as many groups as possible."""
    episodes = [decode_episodes(payload) for payload in payloads[:PROBES]]
    by_turns = (group[turn] for turn in range(PROBES) for group in episodes if turn < len(group))
    return _scorable(episode.trajectories[0].tokens for episode in by_turns if episode.trajectories)[:PROBES]


def _scorable(sequences: Iterable[Sequence[int]]) -> list[list[int]]:
    # The first token has no predecessor, so a sequence of one token has nothing to score.
    return [list(sequence[:PROBE_TOKENS]) for sequence in sequences if len(sequence) > 1]
