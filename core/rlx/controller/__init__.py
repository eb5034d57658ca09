"""The controller: the process that directs a training run. All other processes are its clients.

* `process.py`: entry point; opens the server and runs the `Controller`.
* `controller.py`: `Controller`, the lifecycle of a run: wait for the processes, train, end, stop the processes.
* `router.py`: `MessageRouter`, passes the messages of other processes to the parts that handle them.
* `run.py`: `Run`, holds the training mode and the loop; returns the status and the summary.
* `build.py`: builds the training mode from the config, the datasets and a checkpoint.
* `loop.py`: `Loop`, steps, evaluations, checkpoints, export.
* `saving.py`: `Saving`, checkpoints that are written while training goes on.
* `state.py`: the state machine of a run.
* `modes/`: RL and SFT.
* `groups/`: groups from lease to training, and the ledger.
* `health/`: processes that start, die or stop responding, and waits that take too long.
* `runtime/`: the services that all parts share.
* `records/`: metrics, summary, checkpoints and trajectory files.

Rules:

* The controller computes nothing on tensors and imports neither torch nor vLLM.
* Every failure, wherever it is noticed, becomes the run's one failure (`runtime/failure.py`).
* Every run ends through DRAINING, with `RunEnded` to the launcher and `Stop` to all others.
"""

from __future__ import annotations
