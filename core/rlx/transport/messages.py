"""Every message between the processes of a run.

Rules:

* A message is a typed, tagged msgspec struct. Nothing is pickled.
* The controller is the only server. Its clients are the rollout replicas (`rollout-0` ...), the policy (`policy`,
  represented by its rank 0) and the launcher (`launcher`). Either side may send requests and notifications.
* Episodes travel as one opaque MessagePack `payload` per group: the controller routes and stores them without decoding.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rlx.errors import BadRowReason
from rlx.files import FileSum
from rlx.fingerprint import Fingerprints
from rlx.loggers.base import Sample

PackedScores = list[bytes]
"""Log-probabilities of sequences, as rlx.sync.logprob_diff packs them."""


class Message(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Base of all messages; the tag is the class name."""

    # gc=False: a message can't be part of a reference cycle, so the garbage collector need not track it.


class Ok(Message, frozen=True):
    """Answer to any request that has no result."""


# --- to the controller, from any client ---------------------------------------------------------------------------


class Heartbeat(Message, frozen=True):
    """Client -> controller: the process is alive. Sent if the client has sent nothing else for a while."""


class Failed(Message, frozen=True):
    """Client -> controller: the sender cannot continue.

    `owner` names the responsible component: 'reward judge (my-dist 1.2, m:judge)'.
    """

    error: str
    owner: str = ""
    traceback: str = ""
    died: bool = False
    """Whether a process died, so that another attempt may succeed."""


class Doing(Message, frozen=True):
    """Client -> controller, while it starts: the current activity, after its name (`loads the weights`)."""

    text: str


class Log(Message, frozen=True):
    """Client -> controller: a line for the display and the log of the run."""

    level: str
    text: str


# --- rollout replicas <-> controller -------------------------------------------------------------------------------


class RolloutReady(Message, frozen=True):
    """Replica -> controller: the engine has started. `data` must be the same in all processes."""

    data: Fingerprints
    workers: int
    """Engine worker processes that take part in a weight transfer (tensor parallel x pipeline parallel)."""
    probe_tokens: list[list[int]]
    """A few prompts of the dataset, as token ids: the first weight verification scores these."""


class BadRow(msgspec.Struct, frozen=True):
    """A dataset row that can't be used, and why: in a word, and in full."""

    row: int
    reason: BadRowReason
    why: str
    dataset: str = "dataset"
    """Its dataset's table in the config: `dataset` or `eval.dataset`."""


class Lease(msgspec.Struct, frozen=True):
    """One group to sample: `samples` completions of dataset row `index`, leased at weight `version`."""

    group_id: int
    index: int
    samples: int
    version: int
    seed: int
    kind: str = "train"
    """`train`, or `eval`: a row of the evaluation dataset, sampled with the evaluation's own settings."""


class Leases(Message, frozen=True):
    """Controller -> replica: sample these groups.

    With `barrier`, the engine is reseeded with `seed`, and all groups enter it in this order before any is scheduled:
    a synchronous run repeats bit for bit.
    """

    leases: list[Lease]
    barrier: bool = False
    seed: int = 0


class DropGroups(Message, frozen=True):
    """Controller -> replica: drop all groups and the prefix cache. Answered when none is left.

    The versions that they were sampled with are undone, and other weights will have the same numbers.
    """


class GroupDone(Message, frozen=True):
    """Replica -> controller: a group is sampled and scored. Its episodes are in `payload`, encoded."""

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
    reference: str | None = None
    """The row's reference answer: text as it is, anything else as JSON; None if the row has none."""
    filters: list[float | None] = []
    """Filter total of each episode: the group is informative if these differ. If empty, `rewards` decide."""
    costs: dict[str, tuple[float, int]] = {}
    """Name -> seconds and calls of the replica's rewards and hooks since its last group, finished or failed."""
    hook_failures: dict[str, int] = {}
    """Plugin -> number of failed hook calls in the same time, for plugins in `[plugins] best_effort`."""


class GroupFailed(Message, frozen=True):
    """Replica -> controller: the group could not be sampled or scored."""

    group_id: int
    kind: str
    error: str
    owner: str = ""
    drop: bool = False
    """Whether the run may continue without the group."""
    bad_row: BadRowReason | None = None
    """Why its dataset row can't be used; None if the row is not to blame."""
    costs: dict[str, tuple[float, int]] = {}
    hook_failures: dict[str, int] = {}
    """`costs` and `hook_failures`: as in `GroupDone`."""


class RolloutStats(Message, frozen=True):
    """Replica -> controller: current load, about once a second."""

    running: int
    """Groups that are being sampled."""
    oldest_seconds: float
    """Age of the oldest group that is sampled or scored."""
    oldest_stage: str
    """`sampling`, `scoring` or the reward that this group waits for; empty without groups."""
    busy_seconds: float
    """Seconds since the start with at least one request in the engine."""
    tokens: int
    """Tokens generated since the start."""
    busy: bool = False
    """Whether the engine has requests at this moment."""
    held: dict[str, list[int]] | None = None
    """Kind of lease -> ids of the groups that the replica holds: they wait, or are sampled or scored. The controller
    leases others again that it believes to be here: their lease or their result was lost. None: not reported."""


# --- weight sync -----------------------------------------------------------------------------------------------------


class TensorMeta(msgspec.Struct, frozen=True, array_like=True):
    """Hugging Face name, dtype (`float32`, `bfloat16` ...) and shape of one tensor of a weight transfer."""

    name: str
    dtype: str
    shape: list[int]


class InitTransfer(Message, frozen=True):
    """Controller -> policy, replica: join the transfer group: the policy's rank 0, then all engine workers."""

    host: str
    port: int
    world_size: int
    rank: int
    backend: str
    timeout_seconds: float
    buckets: list[list[TensorMeta]]
    """The buckets of every transfer of the run, in order."""


class OpenTransfer(Message, frozen=True):
    """Controller -> policy: open the rendezvous store on a free port; answered by `TransferOpened`."""

    world_size: int
    timeout_seconds: float


class TransferOpened(Message, frozen=True):
    """Policy -> controller: address of the rendezvous store. Answer to `OpenTransfer`."""

    host: str
    port: int
    backend: str


class WeightPlan(Message, frozen=True):
    """Controller -> policy: list the tensors of a transfer; answered by `WeightManifest`."""


class WeightManifest(Message, frozen=True):
    """Policy -> controller: the buckets of one full transfer, in order. Answer to `WeightPlan`.

    A bucket is one decoder layer, or the tensors before or after the layers.
    """

    buckets: list[list[TensorMeta]]


class ReceiveWeights(Message, frozen=True):
    """Controller -> replica: pause the engine, receive the weights of `version`, resume, and score `probe`."""

    version: int
    timeout_seconds: float
    probe: list[list[int]] = []


class WeightProof(msgspec.Struct, frozen=True):
    """Comparison, bit for bit, of the model of one engine worker with the update that it received."""

    worker: str
    """`worker 0 of 2`."""
    version: int
    """Of the last update that it loaded; -1 before the first."""
    digests: bytes
    """Of the tensors as they came over the wire, in the order of the manifest: see rlx.sync.digests."""
    faults: list[str] = []
    """Parameters that don't hold what was sent, with the name of the tensor that was sent."""
    covered: float = 1.0
    """Share of the loaded elements that were compared."""
    uncovered: list[str] = []
    """Tensors of which this worker compared nothing: another worker holds them, or its loader computes with them."""


class WeightsReceived(Message, frozen=True):
    """Replica -> controller: the engine samples with `version` now. Answer to `ReceiveWeights`."""

    version: int
    paused_seconds: float
    bytes: int
    logprobs: PackedScores
    """Log-probabilities of `probe`, as in `TokenScores`: the verification compares them with the policy's."""
    proofs: list[WeightProof] = []
    """One for each engine worker."""


class SendWeights(Message, frozen=True):
    """Controller -> policy: broadcast the weights of `version` to the transfer group."""

    version: int


class WeightsSent(Message, frozen=True):
    """Policy -> controller: all buckets have been broadcast. Answer to `SendWeights`."""

    version: int
    digests: bytes = b""
    """Of the policy's own tensors, in the order of the manifest. Compared with those of what the engines received."""
    outdated: list[str] = []
    """Policy tensors whose values the model's weight mapper did not send."""


class TransferFailed(Message, frozen=True):
    """Policy -> controller: the transfer group broke, perhaps because a replica died; the policy itself is whole.

    An answer to `InitTransfer` and `SendWeights`. A new group has to be opened.
    """

    error: str


class ScoreTokens(Message, frozen=True):
    """Controller -> policy: score `tokens[i][1:]` at temperature 1; answered by `TokenScores`."""

    version: int
    tokens: list[list[int]]


class TokenScores(Message, frozen=True):
    """Policy -> controller: log-probabilities. Answer to `ScoreTokens`."""

    version: int
    logprobs: PackedScores


# --- policy <-> controller -------------------------------------------------------------------------------------


class PolicyReady(Message, frozen=True):
    """Policy -> controller: all ranks have built and loaded the model."""

    step: int
    data: Fingerprints | None = None
    """SFT only: fingerprints of the datasets, the same on all ranks."""
    costs: dict[str, tuple[float, int]] = {}
    """Name -> seconds and calls of the hooks, summed over all ranks."""
    hook_failures: dict[str, int] = {}
    """As in `GroupDone`, summed over all ranks."""
    vocab_size: int = 0
    """Token ids of the model; 0 if its config does not say."""


class TrainStep(Message, frozen=True):
    """Controller -> policy: make one optimizer step, on the groups' episodes (RL) or on dataset rows (SFT)."""

    step: int
    payloads: list[bytes] = []
    rows: list[int] = []


class StepDone(Message, frozen=True):
    """Policy -> controller: the optimizer step is done. Answer to `TrainStep`."""

    step: int
    metrics: dict[str, float]
    seconds: float
    advantages: list[list[float]] = []
    """Of each episode of each group, as the step was trained with them; empty in SFT."""


class RowsRefused(Message, frozen=True):
    """Policy -> controller (SFT): some rows can't be used, so nothing was trained. The other answer to `TrainStep`."""

    step: int
    rows: list[BadRow]


class EvalRows(Message, frozen=True):
    """Controller -> policy (SFT): compute the loss on rows of the evaluation dataset; answered by `Measured`."""

    rows: list[int]


class SaveCheckpoint(Message, frozen=True):
    """Controller -> policy: copy model, optimizer and RNG state, and write them below `path` in the background.

    Answered when the copy is made; `CheckpointWritten` follows.
    """

    path: str
    step: int
    timeout_seconds: float = 3600.0
    """Longest time for writing."""


class CheckpointWritten(Message, frozen=True):
    """Policy -> controller: all ranks have written and fsynced their files of the checkpoint of `step`, or failed."""

    step: int
    seconds: float
    """Time that writing took, after the copy."""
    files: dict[str, FileSum]
    """By their path within the policy's part."""
    error: str = ""


class Export(Message, frozen=True):
    """Controller -> policy: write the model as a Hugging Face folder at `path`. Only `Stop` may follow."""

    path: str
    checkpoint: str | None = None
    """Folder with the policy's part of a checkpoint, to load before the export."""


class Measured(Message, frozen=True):
    """Policy -> controller: metrics. Answer to a command that measures something."""

    metrics: dict[str, float]
    bad_rows: list[BadRow] = []
    """Rows that were left out."""


class Stop(Message, frozen=True):
    """Controller -> all clients: finish and exit with code 0."""

    reason: str = ""


# --- launcher <-> controller -------------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """Client -> controller: its first message. From then on, older attempts of the same name are refused."""

    name: str
    attempt: int
    pid: int
    session: str = ""
    """Names the connection: a client repeats its `Hello` if the connection was broken, and both sides go on."""


class Status(Message, frozen=True):
    """Controller -> launcher: the state of the run for the display, a few times a second."""

    state: str
    step: int
    steps: int
    seconds: float
    waiting_for: str
    metrics: dict[str, float]
    processes: dict[str, str] = {}
    """While the run starts: name of a process -> its activity."""


class Samples(Message, frozen=True):
    """Controller -> launcher: completions of one group for the loggers, once per step and once per evaluation."""

    step: int
    samples: list[Sample]
    kind: str = "train"


class StepMetrics(Message, frozen=True):
    """Controller -> launcher: metrics for the loggers, once per step and once per evaluation."""

    step: int
    metrics: dict[str, float]
    kind: str = "train"


class RunEnded(Message, frozen=True):
    """Controller -> launcher: the result of the run. `summary` becomes summary.json."""

    status: str
    summary: dict[str, Any]
    error: str = ""
    untold: list[str] = []
    """Processes that don't act on `Stop`: they have ended, have not connected yet, or their engine is starting."""


class Drain(Message, frozen=True):
    """Launcher -> controller: finish the step, save a checkpoint and stop (first Ctrl-C)."""

    reason: str


class SaveNow(Message, frozen=True):
    """Launcher -> controller: save a checkpoint after the current step, and go on (SIGUSR1)."""

    reason: str


class ProcessExited(Message, frozen=True):
    """Launcher -> controller: a process of the run has ended."""

    name: str
    exit_code: int
    last_lines: list[str]
    attempt: int = 1
    cause: str = ""
    """The first exception at the end of its log, if there is one."""


class StartAgain(Message, frozen=True):
    """Controller -> launcher: end what remains of a process, and start its next attempt."""

    name: str
    attempt: int
    pause_seconds: float = 0.0
    """Time between the end of the old process and the start of the new one."""
    resume_from: str | None = None
    """Of the policy: the checkpoint that it loads; None begins with the model."""


class WentBack(Message, frozen=True):
    """Controller -> launcher: the policy was restarted, and the steps from `step` on are undone."""

    step: int
    evaluated: list[int]
    """Versions whose evaluations stay."""


AnyMessage = (
    Ok | Heartbeat | Failed | Doing | Log | RolloutReady | Leases | GroupDone | GroupFailed | RolloutStats
    | InitTransfer | OpenTransfer | TransferOpened | WeightPlan | WeightManifest | ReceiveWeights | WeightsReceived
    | SendWeights | TransferFailed | DropGroups | WentBack
    | WeightsSent | ScoreTokens | TokenScores | PolicyReady | TrainStep | StepDone | RowsRefused | EvalRows
    | SaveCheckpoint | CheckpointWritten | Export | Measured | Stop | Hello | Status | Samples | StepMetrics | RunEnded
    | Drain | SaveNow | ProcessExited | StartAgain
)  # fmt: skip

_DECODER: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """Return the message as MessagePack."""
    return msgspec.msgpack.encode(message)


def decode(data: bytes) -> Message:
    """Decode a message. Raises msgspec.ValidationError or DecodeError if the bytes are not a message of rlx."""
    return _DECODER.decode(data)
