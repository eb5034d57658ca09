"""The policy: torch ranks that train the model and send its weights to the rollout replicas.

Folders and files:
    process.py       the process that starts the ranks (a torch elastic agent)
    rendezvous.py    the store at which the ranks meet, on the loopback interface
    rank.py          the life of one rank: join, build, serve, leave
    setup.py         makes the worker of a rank from boot data and config
    worker.py        executes the controller's commands on one rank
    command_loop.py  broadcasts commands from rank 0 to all ranks, in lockstep
    failures.py      reports the failure of any rank to the controller
    build.py         builds, shards and loads the network
    packing/         from episodes to micro-batches: packed or padded rows
    parallel/        the device mesh, and each kind of parallelism
    model/           the model's forward: adapters, log-probabilities, checks
    train/           optimizer step, scoring, evaluation, SFT rows
    weights/         load, gather, export and checkpoint weights

Rules:

* Every rank executes the same commands in the same order; only rank 0 talks to the controller.
* No rank ever holds the whole model.
* A step's result does not depend on the number of ranks, on the kinds of parallelism, or on packing.
"""

from __future__ import annotations
