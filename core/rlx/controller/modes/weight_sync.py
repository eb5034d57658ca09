"""Sends weights from the policy to every engine, and verifies that they arrived.

Rules:

* One transfer group serves all syncs, until a replica dies or returns: rank 0 is the policy's first rank, followed by
  the workers of each replica in turn.
* A sync in which a replica died is `Interrupted`: what the others hold is unknown, and the weights are sent again to
  those that are left. Any other failure of a sync ends the run.
* In a sync of version v the policy sends while every replica receives. All of them then score the same tokens, and v
  is *verified* if the mean |difference| between each replica's log-probabilities and the policy's is within the bound.
  Otherwise the run fails.
* The policy's digests of its tensors are compared with those of what each engine worker received, and each worker
  compares what it received with what its model holds: the scores of equal tokens can't show a small missed update.
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from rlx.config.schema import Config
from rlx.controller.health.restarts import ReplicaDied, Restarts
from rlx.controller.records.metrics import SyncMetrics
from rlx.controller.runtime.failure import together
from rlx.controller.runtime.services import Answer, Services, check_answer
from rlx.episodes import decode_episodes
from rlx.errors import RlxError, SyncError, abbreviate
from rlx.names import POLICY, PROBE_TOKENS, PROBES
from rlx.sync.encoded_digests import differing
from rlx.sync.logprob_diff import mean_difference
from rlx.transport.messages import (
    InitTransfer,
    Message,
    Ok,
    OpenTransfer,
    ReceiveWeights,
    RolloutReady,
    ScoreTokens,
    SendWeights,
    TokenScores,
    TransferFailed,
    TransferOpened,
    WeightManifest,
    WeightPlan,
    WeightProof,
    WeightsReceived,
    WeightsSent,
)

BOUNDS = {"float32": 1e-4, "bfloat16": 0.2, "float16": 0.05}
"""Largest mean |difference| for each engine dtype: rounding stays well below it, and a stale or missing tensor exceeds
it by far.
"""
BROKEN = "weight transfer broke"
"""A part of the errors of members whose group broke (`rlx.sync.transfer_group`)."""
GRACE_SECONDS = 10.0
"""Added to the timeout of the transfer: both sides enforce that themselves, and can report what hung."""


class Interrupted(Exception):  # noqa: N818 - not an error: the caller sends the weights again
    """A sync failed because replicas died. `str()` has their names."""


@dataclass(frozen=True)
class SentWeights:
    """A version that the policy has sent and scored, while the engines may still be receiving and scoring it."""

    version: int
    began: float
    seconds: float
    expected: TokenScores
    proof: WeightsSent
    members: Mapping[str, int]
    """The replicas that it is sent to, each with its attempt."""
    received: asyncio.Task[dict[str, WeightsReceived | RlxError]]


class WeightSync:
    """Syncs weights through the transfer group of a run."""

    def __init__(self, services: Services, ready: dict[str, RolloutReady], restarts: Restarts) -> None:
        """`ready`: the newest message of each replica; the caller updates it when a replica has restarted."""
        self._services = services
        self._ready = ready
        self._restarts = restarts
        self.members: Mapping[str, int] = {}
        """The replicas in the transfer group, each with its attempt; empty without a group."""
        self._timeout = services.config.sync.timeout_seconds
        self._request_timeout = self._timeout + GRACE_SECONDS
        self._bound, self._bound_source = bound_of(services.config)
        self._probe: list[list[int]] = []
        self._tensors: list[str] = []
        self._reported: set[str] = set()

    async def open_group(self, members: Mapping[str, int]) -> None:
        """Open a new transfer group for `members`, and wait until the policy and their engine workers have joined.

        Raises Interrupted if one of them died meanwhile.
        """
        self.members = {}
        ask = self._services.ask
        world = 1 + sum(self._ready[name].workers for name in members)
        message = OpenTransfer(world, self._timeout)
        opened = await ask(POLICY, message, TransferOpened, "opens the weight transfer", timeout=self._timeout)
        what = "lists the weights that it will send"
        manifest = await ask(POLICY, WeightPlan(), WeightManifest, what, timeout=self._request_timeout)
        self._tensors = [meta.name for bucket in manifest.buckets for meta in bucket]
        join = InitTransfer(opened.host, opened.port, world, 0, opened.backend, self._timeout, manifest.buckets)
        joins, rank = dict[str, Message](), 1
        for name in members:
            joins[name] = structs.replace(join, rank=rank)
            rank += self._ready[name].workers
        what = "joins the weight transfer"
        with self._services.progress.waiting(f"weight transfer waits for {world} workers to join"):
            joining = asyncio.ensure_future(self._answers(joins, Ok, what))
            try:
                failed = await self._failure_of_policy(join, Ok, what)
                errors = _errors(await joining)
            finally:
                joining.cancel()
        if failed is not None or errors:
            raise await self._explain(members, errors, failed)
        self.members = dict(members)

    async def send(self, version: int, trained: Sequence[bytes] = ()) -> SentWeights:
        """Send the weights of `version` to the group's replicas, and score tokens with them on both sides.

        `trained`: payloads of the last step, to score. Raises Interrupted if a replica died before the policy had sent
        them, and RlxError if anything else failed.
        """
        ask, members = self._services.ask, self.members
        if not self._probe:
            prompts = (prompt for ready in self._ready.values() for prompt in ready.probe_tokens)
            self._probe = _scorable(dict.fromkeys(tuple(prompt) for prompt in prompts))
        tokens, began = self._probe + recent_sequences(trained), time.monotonic()
        what = f"receives the weights of version {version} and scores the probe tokens"
        message = ReceiveWeights(version, self._timeout, tokens)
        receiving = self._answers(dict.fromkeys(members, message), WeightsReceived, what)
        received = self._services.failure.spawn(receiving, f"weights of version {version}")
        with self._services.progress.waiting(f"policy sends the weights of version {version}"):
            what = f"sends the weights of version {version}"
            reply = await ask(POLICY, SendWeights(version), Message, what, timeout=self._request_timeout)
            if isinstance(reply, TransferFailed):
                failed = SyncError(f"{POLICY}: {reply.error}")
                raise await self._explain(members, _errors(await received), failed)
            proof = check_answer(POLICY, reply, WeightsSent, what)
            seconds = time.monotonic() - began
            what = f"scores the probe tokens with the weights of version {version}"
            expected = await ask(POLICY, ScoreTokens(version, tokens), TokenScores, what, timeout=self._request_timeout)
        return SentWeights(version, began, seconds, expected, proof, members, received)

    async def verify(self, sent: SentWeights) -> SyncMetrics:
        """Wait until the replicas have scored the tokens, and compare those that are left.

        Weights must be equal bit for bit. Raises SyncError if they aren't, or if scores differ too much,
        and Interrupted if a replica's death kept others from the weights.
        """
        with self._services.progress.waiting(f"engines receive the weights of version {sent.version} and score them"):
            answers = await sent.received
        received = {name: answer for name, answer in answers.items() if isinstance(answer, WeightsReceived)}
        errors = _errors(answers)
        if errors and (not received or not all(isinstance(error, ReplicaDied) for error in errors.values())):
            raise await self._explain(sent.members, errors)
        differences = [self._compare(name, sent, answer) for name, answer in received.items()]
        for name, answer in received.items():
            self._report_coverage(name, answer.proofs)
        paused = max(answer.paused_seconds for answer in received.values())
        seconds = max(sent.seconds, paused)
        return SyncMetrics(
            version=sent.version,
            seconds=seconds,
            verify_seconds=time.monotonic() - sent.began - seconds,
            paused_seconds=paused,
            bytes=max(answer.bytes for answer in received.values()),
            logprob_diff=max(differences),
            covered=min((proof.covered for answer in received.values() for proof in answer.proofs), default=0.0),
        )

    async def _answers(
        self, messages: Mapping[str, Message], answer: type[Answer], what: str
    ) -> dict[str, Answer | RlxError]:
        """Ask replicas at the same time. Returns the answer of each, or the error that it failed with."""

        async def of(name: str, message: Message) -> Answer | RlxError:
            asking = self._services.ask(name, message, answer, what, timeout=self._request_timeout)
            try:
                return await self._restarts.while_alive(name, asking)
            except RlxError as error:
                return error

        answers = await together(of(name, message) for name, message in messages.items())
        return dict(zip(messages, answers, strict=True))

    async def _failure_of_policy(self, message: Message, answer: type[Message], what: str) -> SyncError | None:
        """Ask the policy, and return why the transfer failed; None if it did not."""
        reply = await self._services.ask(POLICY, message, Message, what, timeout=self._request_timeout)
        if isinstance(reply, TransferFailed):
            return SyncError(f"{POLICY}: {reply.error}")
        check_answer(POLICY, reply, answer, what)
        return None

    async def _explain(
        self, members: Mapping[str, int], errors: Mapping[str, RlxError], failed: SyncError | None = None
    ) -> Exception:
        """Return the exception to raise for a transfer that failed: Interrupted if a replica died, or else an error."""
        self.members = {}
        if died := await self._restarts.died(members):
            return Interrupted(", ".join(died))
        # A group that broke broke for the others, too: the first of them has the reason.
        reasons = sorted(errors.values(), key=lambda error: BROKEN in str(error))
        return reasons[0] if reasons else failed or SyncError("the weight transfer failed")

    def _compare(self, replica: str, sent: SentWeights, answer: WeightsReceived) -> float:
        difference, count = mean_difference(sent.expected.logprobs, answer.logprobs)
        faults = [f"the model plugin's weight mapper did not send the policy's {name}" for name in sent.proof.outdated]
        for proof in answer.proofs:
            faults += [f"{proof.worker}: {fault}" for fault in faults_of(proof, sent.proof, self._tensors)]
        if sent.proof.digests and len(answer.proofs) != self._ready[replica].workers:
            faults.append(f"{len(answer.proofs)} of its {self._ready[replica].workers} workers compared their weights")
        within = difference <= self._bound
        if within and not faults:
            return difference
        scores = (
            f"on {count} tokens its log-probabilities differ from the policy's by {difference:.3g} on average, and "
            f"{self._bound:.3g} is allowed ({self._bound_source})"
        )
        found = f"{abbreviate(faults, 5)}. (In addition, {scores}.)" if within else f"{scores}. "
        if not within and faults:
            found += f"Weights were compared, too: {abbreviate(faults, 5)}."
        elif not within:
            found += (
                "Its loader did not load every tensor, or its model does not compute the same as the policy's; if the "
                "difference is known to be rounding, raise [sync] max_logprob_diff."
            )
        raise SyncError(f"{replica} does not hold the policy's weights of version {sent.version}: {found}")

    def _report_coverage(self, replica: str, proofs: Sequence[WeightProof]) -> None:
        """Log once for each replica which tensors are compared bit for bit, and which only through scores."""
        if not proofs or replica in self._reported:
            return
        self._reported.add(replica)
        left_out = set.intersection(*(set(proof.uncovered) for proof in proofs))
        share = min(proof.covered for proof in proofs)
        names = [name for name in self._tensors if name in left_out]
        rest = f"; only through scores: {abbreviate(names)}" if names else ""
        self._services.log(
            "info",
            f"{replica}: {len(self._tensors) - len(names)} of {len(self._tensors)} tensors ({share:.1%} of the loaded "
            f"elements) are compared bit for bit after each weight sync{rest}",
        )


def faults_of(proof: WeightProof, sent: WeightsSent, tensors: Sequence[str]) -> list[str]:
    """Return what is wrong with the weights of an engine worker, in words. `tensors`: names of all sent tensors."""
    if proof.version != sent.version:
        return [f"the last weights that it loaded are of version {proof.version}"]
    if len(proof.digests) != len(sent.digests):
        return [f"it received {len(proof.digests)} bytes of digests, and the policy sent {len(sent.digests)}"]
    received = [f"{tensors[at]} did not arrive as it was sent" for at in differing(proof.digests, sent.digests)]
    return received + list(proof.faults)


def _errors(answers: Mapping[str, Answer | RlxError]) -> dict[str, RlxError]:
    return {name: answer for name, answer in answers.items() if isinstance(answer, RlxError)}


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
