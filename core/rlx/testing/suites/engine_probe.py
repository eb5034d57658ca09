"""A real vLLM engine in a process of its own: started on a folder, sent other weights, and asked to score tokens.

vLLM reads its environment when it is imported, and a test may have imported it: hence the other process.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.config.schema import Config
from rlx.errors import RunError, abbreviate
from rlx.names import LOOPBACK

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 300.0
_ANSWER = "ENGINE SCORES "


def engine_scores(folder: Path, weights: Mapping[str, Tensor], sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return log-probabilities of all tokens but the first, after one sync of `weights` (checkpoint names, float32).

    Raises RunError if the engine does not start, or rejects the weights.
    """
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "weights.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file)
        task = json.dumps({"folder": str(folder), "weights": str(file), "sequences": list(map(list, sequences))})
        done = subprocess.run(
            [sys.executable, "-m", "rlx.testing.suites.engine_probe"],
            input=task,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise RunError(
            "the engine failed to start or rejected the weights:\n" + "\n".join(done.stderr.splitlines()[-8:])
        )
    scores: list[list[float]] = json.loads(done.stdout.rpartition(_ANSWER)[2])
    return scores


def main() -> None:
    """Run the process: read a task from stdin, write the scores to stdout."""
    task = json.load(sys.stdin)
    config = probe_config(task["folder"])
    set_environment(config)
    scores = asyncio.run(scores_after_sync(config, Path(task["weights"]), task["sequences"]))
    sys.stdout.write(f"\n{_ANSWER}{json.dumps(scores)}\n")


def probe_config(folder: str) -> Config:
    """Return the config of a run whose engine has the model of that folder, in float32."""
    vllm = {"max_model_len": 64, "distributed_executor_backend": "uni"}
    return Config.model_validate(
        {
            "model": {"path": folder},
            "dataset": {"name": "none"},
            "rollout": {"dtype": "float32", "vllm": vllm},
        }
    )


def set_environment(config: Config) -> None:
    """Set the environment that vLLM reads when it is imported."""
    from rlx.rollout.engine_arguments import engine_environment

    os.environ.update({**engine_environment(config, 0), "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"})


async def scores_after_sync(config: Config, weights: Path, sequences: list[list[int]]) -> list[list[float]]:
    """Start the engine, send it the weights twice as the policy's rank 0 does (in one bucket), and score.

    Raises RunError if a parameter of the engine differs from what was sent.
    """
    from safetensors.torch import load_file

    from rlx.rollout.engine import Engine
    from rlx.rollout.engine_arguments import engine_arguments
    from rlx.sync import transfer_group
    from rlx.sync.buckets import manifest_of, send_buckets
    from rlx.transport.messages import InitTransfer, ReceiveWeights

    tensors = load_file(weights)
    manifest = manifest_of([tensors.items()])
    engine = await Engine.start(engine_arguments(config, 0), "engine")
    try:
        ranks = 1 + engine.workers
        _store, port = transfer_group.open_store(LOOPBACK, ranks, SECONDS)
        join = asyncio.to_thread(transfer_group.join, LOOPBACK, port, 0, ranks, "gloo", SECONDS)
        init = InitTransfer(LOOPBACK, port, ranks, 1, "gloo", SECONDS, manifest)
        group, _ = await asyncio.gather(join, engine.init_transfer(init))
        for version in (1, 2):  # the first update also records where the engine's loader puts each tensor
            sending = asyncio.to_thread(send_buckets, group, version, manifest, [list(tensors.values())])
            _, received = await asyncio.gather(sending, engine.receive(ReceiveWeights(version, SECONDS)))
            if faults := [fault for proof in received.proofs for fault in proof.faults]:
                raise RunError(f"the engine does not hold what it was sent (update {version}): {abbreviate(faults, 5)}")
        return await engine.score(sequences)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
