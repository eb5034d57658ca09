"""Every message between the processes of a run.

The rules of this part:

* A message is a typed, tagged msgspec struct. There is no pickle on the wire.
* The controller is the only server. Rollout replicas (`rollout-0` ...), the policy (`policy`, spoken for by its rank 0)
  and the launcher (`launcher`) are its clients. Either side may ask (`request`) or tell (`notify`).
* Episodes travel as one opaque MessagePack `payload` per group: the controller routes and stores them without decoding.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rlx.fingerprint import Fingerprints

PackedScores = list[bytes]
"""Log-probabilities of sequences, as rlx.sync.logprob_diff packs them."""


class Message(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Base of all messages; the tag is the class name. None can be part of a cycle, so the collector need not look."""


class Ok(Message, frozen=True):
    """Done; nothing to say."""


# --- to the controller, from everybody ---------------------------------------------------------------------------


class Heartbeat(Message, frozen=True):
    """Sent by a client that has nothing else to say: silence is how the controller learns of a death."""


class Failed(Message, frozen=True):
    """The sender cannot go on. `owner` is who the user should turn to: 'reward judge (my-dist 1.2, m:judge)'."""

    error: str
    owner: str = ""
    traceback: str = ""
    died: bool = False
    """A process went down: another attempt may fare better."""


class Log(Message, frozen=True):
    """A line for the people who watch the run."""

    level: str
    text: str


# --- rollout replicas <-> controller -------------------------------------------------------------------------------


class RolloutReady(Message, frozen=True):
    """A replica's engine is up. `data` must be the same in all processes."""

    data: Fingerprints
    workers: int
    """Engine worker processes that take part in a weight transfer (tensor parallel x pipeline parallel)."""
    probe_tokens: list[list[int]]
    """A few prompts of the dataset, as token ids: the first weight verification scores these."""


class Lease(msgspec.Struct, frozen=True):
    """One group to sample: dataset row `index`, `samples` completions, leased at weight `version`."""

    group_id: int
    index: int
    samples: int
    version: int
    seed: int
    kind: str = "train"
    """`train`, or `eval`: row of the evaluation dataset, sampled with the evaluation's own settings."""


class Leases(Message, frozen=True):
    """Controller -> replica.

    With `barrier`, all of them enter the engine in this order before any is scheduled, and the engine is reseeded with
    `seed` first: a synchronous run repeats bit for bit.
    """

    leases: list[Lease]
    barrier: bool = False
    seed: int = 0


class GroupDone(Message, frozen=True):
    """Replica -> controller. What the controller must know of a finished group, and the episodes, opaque."""

    group_id: int
    kind: str
    index: int
    oldest_version: int
    tokens: int
    """Sampled tokens, all episodes."""
    prompt_tokens: int
    rewards: list[float | None]
    """Total reward of each episode."""
    accuracies: list[float | None]
    """Value of the first reward of each episode."""
    reward_means: dict[str, float]
    lengths: list[int]
    truncated: int
    """Episodes that hit the length limit."""
    metrics: dict[str, float]
    generate_seconds: float
    score_seconds: float
    payload: bytes
    filters: list[float | None] = []
    """Filter total of each episode: whether they differ decides if the group is informative. Empty: `rewards` do."""
    costs: dict[str, tuple[float, int]] = {}
    """Name -> seconds and calls of the replica's rewards and hooks since its last group, finished or failed."""


class GroupFailed(Message, frozen=True):
    """Replica -> controller: the group cannot be had. With `drop`, the run goes on without it and counts it."""

    group_id: int
    kind: str
    error: str
    owner: str = ""
    drop: bool = False
    costs: dict[str, tuple[float, int]] = {}
    """As in `GroupDone`."""


class RolloutStats(Message, frozen=True):
    """Replica -> controller, about once a second."""

    running: int
    waiting_reward: int
    oldest_seconds: float
    oldest_stage: str
    busy_seconds: float
    """Total seconds with at least one request in the engine since the start."""
    tokens: int
    """Total tokens generated since the start."""


# --- weight sync -----------------------------------------------------------------------------------------------------


class TensorMeta(msgspec.Struct, frozen=True, array_like=True):
    """Name, dtype (`float32`, `bfloat16` ...) and shape of one tensor on the wire, under its Hugging Face name."""

    name: str
    dtype: str
    shape: list[int]


class InitTransfer(Message, frozen=True):
    """Join the transfer group. World = the policy's rank 0 (rank 0), then every engine worker."""

    host: str
    port: int
    world_size: int
    rank: int
    backend: str
    timeout_seconds: float
    buckets: list[list[TensorMeta]]
    """Of every transfer of the run, in order."""


class OpenTransfer(Message, frozen=True):
    """Controller -> policy: open the rendezvous store on a free port; answered by `TransferOpened`."""

    world_size: int
    timeout_seconds: float


class TransferOpened(Message, frozen=True):
    host: str
    port: int
    backend: str


class WeightPlan(Message, frozen=True):
    """Controller -> policy: what will you send? Answered by `WeightManifest`."""


class WeightManifest(Message, frozen=True):
    """The buckets of one full transfer, in order; a bucket is one decoder layer (or what surrounds the layers)."""

    buckets: list[list[TensorMeta]]


class ReceiveWeights(Message, frozen=True):
    """Controller -> replica: pause(keep), start, receive, finish(version), resume, and score `probe` for the proof."""

    version: int
    timeout_seconds: float
    probe: list[list[int]] = []


class WeightsReceived(Message, frozen=True):
    version: int
    paused_seconds: float
    transfer_seconds: float
    bytes: int
    logprobs: PackedScores
    """Of `probe`, as in `TokenScores`."""


class SendWeights(Message, frozen=True):
    """Controller -> policy: broadcast the weights of `version` to the transfer group."""

    version: int


class WeightsSent(Message, frozen=True):
    version: int
    seconds: float
    bytes: int


class ScoreTokens(Message, frozen=True):
    """Controller -> policy: log-probabilities, at temperature 1, of `tokens[i][1:]`."""

    version: int
    tokens: list[list[int]]


class TokenScores(Message, frozen=True):
    version: int
    logprobs: PackedScores


# --- policy <-> controller -------------------------------------------------------------------------------------


class PolicyReady(Message, frozen=True):
    """All policy ranks have built and loaded the model."""

    step: int
    parameters: int
    ranks: int
    data: Fingerprints | None = None
    """SFT only: the datasets, as all ranks see them."""
    costs: dict[str, tuple[float, int]] = {}
    """Name -> seconds and calls of the hooks, all ranks together."""


class TrainStep(Message, frozen=True):
    """Controller -> policy: one optimizer update. Either the groups' episodes (RL) or dataset rows (SFT)."""

    step: int
    payloads: list[bytes] = []
    rows: list[int] = []


class StepDone(Message, frozen=True):
    step: int
    metrics: dict[str, float]
    seconds: float


class EvalRows(Message, frozen=True):
    """Controller -> policy (SFT): loss on these rows of the evaluation dataset."""

    rows: list[int]


class SaveCheckpoint(Message, frozen=True):
    """Controller -> policy: write model, optimizer, schedule and RNG below `path`."""

    path: str
    step: int


class Export(Message, frozen=True):
    """Controller -> policy: write the policy as a Hugging Face folder at `path`. It is the last command but `Stop`."""

    path: str
    checkpoint: str | None = None
    """The policy's part of a checkpoint, to go back to before."""


class Measured(Message, frozen=True):
    """Answer to a command that has figures."""

    metrics: dict[str, float]


class Stop(Message, frozen=True):
    """Controller -> everybody: finish and exit with code 0."""

    reason: str = ""


# --- launcher <-> controller -------------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """First message of every client; an older attempt of the same name is refused from then on."""

    name: str
    attempt: int
    pid: int


class Status(Message, frozen=True):
    """Controller -> launcher, a few times a second: what the display shows."""

    state: str
    step: int
    steps: int
    seconds: float
    waiting_for: str
    metrics: dict[str, float]


class StepMetrics(Message, frozen=True):
    """Controller -> launcher, once a step (and once per evaluation): what the loggers get."""

    step: int
    metrics: dict[str, float]
    kind: str = "train"


class RunEnded(Message, frozen=True):
    """Controller -> launcher: the last word. `summary` becomes summary.json."""

    status: str
    summary: dict[str, Any]
    error: str = ""
    untold: list[str] = []
    """Processes that could not be told to stop: they are gone, or not far enough to listen."""


class Drain(Message, frozen=True):
    """Launcher -> controller: finish the step, save, stop (first Ctrl-C)."""

    reason: str


class ProcessExited(Message, frozen=True):
    """Launcher -> controller: a process of the run is gone."""

    name: str
    exit_code: int
    last_lines: list[str]
    attempt: int = 1


class StartAgain(Message, frozen=True):
    """Controller -> launcher: end what is left of this process, and start its next attempt."""

    name: str
    attempt: int


AnyMessage = (
    Ok | Heartbeat | Failed | Log | RolloutReady | Leases | GroupDone | GroupFailed | RolloutStats | InitTransfer
    | OpenTransfer | TransferOpened | WeightPlan | WeightManifest | ReceiveWeights | WeightsReceived | SendWeights
    | WeightsSent | ScoreTokens | TokenScores | PolicyReady | TrainStep | StepDone | EvalRows | SaveCheckpoint | Export
    | Measured | Stop | Hello | Status | StepMetrics | RunEnded | Drain | ProcessExited
    | StartAgain
)  # fmt: skip

_DECODER: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    return msgspec.msgpack.encode(message)


def decode(data: bytes) -> Message:
    """Raises msgspec.ValidationError (or DecodeError) where the bytes are no message of rlx."""
    return _DECODER.decode(data)
