"""Weights from the policy into every engine, and the proof that they arrived.

* One transfer group for the whole run: rank 0 is the policy's first rank, then come the workers of each replica in
  turn.
* A sync of version v: the policy sends while every replica receives. Each then scores the same tokens; the mean
  |difference| of a replica's log-probabilities from the policy's must be within the bound, or the run ends. Only then
  is v *verified*.
* The policy's own scoring directly follows its sending, so it still holds v. From there on it may train; what the
  replicas say is awaited apart from it.
* A replica learns which tensors come when it joins. In a sync it is told once and answers once: with a thousand of
  them, each message counts.
* Tokens that are scored: the replicas' probe prompts, and sequences of the last trained step, which the policy has
  just learnt on and where a lost update would show.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import structs

from rlx.config.schema import Config
from rlx.controller.context import Context
from rlx.controller.failure import together
from rlx.controller.records.metrics import SyncMetrics
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
"""Largest mean |difference| by the engine's dtype: what rounding alone explains, with room, and far below what a
stale or missing tensor does.
"""
GRACE_SECONDS = 10.0
"""Both sides keep the timeout themselves and know better what hung: they are to speak first."""


@dataclass(frozen=True)
class Sent:
    """The policy's side of a sync is over: it may train on. What the engines have to say is still to come."""

    version: int
    began: float
    seconds: float
    expected: TokenScores
    received: asyncio.Task[list[WeightsReceived]]


class WeightSync:
    """The transfer group of one run."""

    def __init__(self, context: Context, ready: dict[str, RolloutReady]) -> None:
        self._context = context
        self._ready = ready
        self._timeout = context.config.sync.timeout_seconds
        self._wait = self._timeout + GRACE_SECONDS
        self._bound, self._why = bound_of(context.config)
        self._probe: list[list[int]] = []

    async def open(self) -> None:
        """Everybody joins the transfer group."""
        world = 1 + sum(ready.workers for ready in self._ready.values())
        opened = await self._context.ask(
            POLICY,
            OpenTransfer(world, self._timeout),
            TransferOpened,
            "opens the weight transfer",
            timeout=self._timeout,
        )
        manifest = await self._context.ask(
            POLICY, WeightPlan(), WeightManifest, "says which weights it will send", timeout=self._wait
        )
        place = InitTransfer(opened.host, opened.port, world, 0, opened.backend, self._timeout, manifest.buckets)
        ranks = {POLICY: 0} | self._first_ranks()
        with self._context.progress.waiting(f"weight transfer waits for {world} workers to join"):
            await together(self._join(peer, structs.replace(place, rank=rank)) for peer, rank in ranks.items())

    async def send(self, version: int, trained: Sequence[bytes] = ()) -> Sent:
        """Moves the weights. `trained`: payloads of the last step, to score. Raises RunError naming who failed; a
        replica that fails is the run's failure.
        """
        tokens, began = self._probe_tokens(trained), time.monotonic()
        receiving = self._receive(ReceiveWeights(version, self._timeout, tokens))
        received = self._context.failure.spawn(receiving, f"weights of version {version}")
        with self._context.progress.waiting(f"policy sends the weights of version {version}"):
            await self._send(version)
            seconds = time.monotonic() - began
            expected = await self._score(ScoreTokens(version, tokens))
        return Sent(version, began, seconds, expected, received)

    async def verify(self, sent: Sent) -> SyncMetrics:
        """Raises SyncError where a replica's log-probabilities are not the policy's."""
        with self._context.progress.waiting(f"engines take weights of version {sent.version}, and prove them"):
            received = await sent.received
        pairs = zip(self._context.replicas, received, strict=True)
        differences = [self._compare(name, sent, seen) for name, seen in pairs]
        paused = max(seen.paused_seconds for seen in received)
        seconds = max(sent.seconds, paused)
        return SyncMetrics(
            version=sent.version,
            seconds=seconds,
            verify_seconds=time.monotonic() - sent.began - seconds,
            paused_seconds=paused,
            bytes=max(seen.bytes for seen in received),
            logprob_diff=max(differences),
        )

    def _first_ranks(self) -> dict[str, int]:
        ranks, rank = {}, 1
        for name in self._context.replicas:
            ranks[name] = rank
            rank += self._ready[name].workers
        return ranks

    async def _join(self, peer: str, message: InitTransfer) -> Ok:
        return await self._context.ask(peer, message, Ok, "joins the weight transfer", timeout=self._wait)

    async def _send(self, version: int) -> WeightsSent:
        what = f"sends the weights of version {version}"
        return await self._context.ask(POLICY, SendWeights(version), WeightsSent, what, timeout=self._wait)

    async def _receive(self, message: ReceiveWeights) -> list[WeightsReceived]:
        what = f"take the weights of version {message.version}, and score the probe tokens"
        return await self._context.ask_replicas(message, WeightsReceived, what, timeout=self._wait)

    async def _score(self, message: ScoreTokens) -> TokenScores:
        what = f"scores the probe tokens with the weights of version {message.version}"
        return await self._context.ask(POLICY, message, TokenScores, what, timeout=self._wait)

    def _probe_tokens(self, trained: Sequence[bytes]) -> list[list[int]]:
        if not self._probe:
            prompts = (prompt for ready in self._ready.values() for prompt in ready.probe_tokens)
            self._probe = _scorable(dict.fromkeys(tuple(prompt) for prompt in prompts))
        return self._probe + recent_sequences(trained)

    def _compare(self, replica: str, sent: Sent, seen: WeightsReceived) -> float:
        difference, count = mean_difference(sent.expected.logprobs, seen.logprobs)
        if not difference <= self._bound:
            raise SyncError(
                f"{replica} does not hold the policy's weights of version {sent.version}: on {count} tokens its "
                f"log-probabilities differ from the policy's by {difference:.3g} on average, and {self._bound:.3g} is "
                f"allowed ({self._why}). Its loader did not take every tensor, or it computes something else than "
                "the policy's model; if the difference is known to be rounding, raise [sync] max_logprob_diff."
            )
        return difference


def bound_of(config: Config) -> tuple[float, str]:
    """The bound on the mean |difference|, and where it comes from."""
    if config.sync.max_logprob_diff is not None:
        return config.sync.max_logprob_diff, "[sync] max_logprob_diff"
    dtype = config.rollout.dtype or config.policy.dtype
    return BOUNDS[dtype], f"for an engine in {dtype}"


def recent_sequences(payloads: Sequence[bytes]) -> list[list[int]]:
    """The beginnings of up to `PROBES` trained sequences, one a group as far as there are groups."""
    episodes = [decode_episodes(payload) for payload in payloads[:PROBES]]
    by_turns = (group[turn] for turn in range(PROBES) for group in episodes if turn < len(group))
    return _scorable(episode.trajectories[0].tokens for episode in by_turns if episode.trajectories)[:PROBES]


def _scorable(sequences: Iterable[Sequence[int]]) -> list[list[int]]:
    """The first token has no predecessor, so a sequence of one has nothing to score."""
    return [list(sequence[:PROBE_TOKENS]) for sequence in sequences if len(sequence) > 1]
