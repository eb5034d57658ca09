"""Engine workers with vLLM's real model and loaders, in processes of their own; no engine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import torch

TIMEOUT = 300.0
WORKERS = 1


class Workers:
    """A sender in this process, and the workers that receive from it."""

    def __init__(self, folder, dtype, weights):
        """weights: the checkpoint's tensors in float32, by name."""
        from rlx.sync import transfer_group
        from rlx.sync.buckets import manifest_of
        from rlx.sync.sender import Sender

        self.names = list(weights)
        self.masters = [tensor.float() for tensor in weights.values()]
        self.dtype = dtype
        manifest = manifest_of([list(zip(self.names, self.weights(), strict=True))])
        self._store, port = transfer_group.open_store("127.0.0.1", 1 + WORKERS, TIMEOUT)
        meeting = Path(tempfile.mkdtemp()) / "meeting"
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(WORKERS):
            ours, theirs = context.Pipe()
            info = ("127.0.0.1", port, 1 + WORKERS, 1, "gloo", TIMEOUT, msgspec.msgpack.encode(manifest))
            process = context.Process(target=_work, args=(rank, meeting, folder, str(dtype), info, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            assert pipe.poll(TIMEOUT), "an engine worker did not start"
            assert pipe.recv() == "ready"
        self._sender = Sender(manifest, 0, "gloo")
        self._sender._group = transfer_group.join("127.0.0.1", port, 0, 1 + WORKERS, "gloo", TIMEOUT)

    def weights(self):
        return [tensor.to(self.dtype) for tensor in self.masters]

    def step(self, lr=1e-6):
        """Change every element by the learning rate, as AdamW's first step does."""
        for seed, tensor in enumerate(self.masters):
            signs = torch.randint(0, 2, tensor.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
            tensor.sub_(lr * signs)

    def sync(self, version, omit=None):
        """Send the weights; omit: (ranks, tensors or None for all) whose update is left out. Return what was found."""
        from rlx.controller.modes.weight_sync import faults_of
        from rlx.transport.messages import WeightProof

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(self._sender.send, version, iter([zip(self.names, self.weights(), strict=True)]))
            for pipe in self._pipes:
                pipe.send((version, omit))
            answers = [pipe.recv() if pipe.poll(TIMEOUT) else None for pipe in self._pipes]
            sent = sending.result()
        self.proofs = [msgspec.msgpack.decode(answer, type=WeightProof) for answer in answers]
        return [f"{proof.worker}: {fault}" for proof in self.proofs for fault in faults_of(proof, sent, self.names)]

    def close(self):
        self._sender.close()
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(TIMEOUT)
            process.kill()


def _work(rank, meeting, folder, dtype, info, pipe):
    from vllm.config import set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model

    from rlx.sync.receiver import InitInfo, TorchWeightTransferEngine

    torch.set_num_threads(1)
    os.environ["VLLM_DIST_IDENT"] = meeting.parent.name  # as vLLM's executor does
    torch.accelerator.empty_cache = lambda: None  # as vLLM's CPU worker does
    args = EngineArgs(
        model=str(folder),
        dtype=dtype.removeprefix("torch."),
        max_model_len=64,
        enforce_eager=True,
        tensor_parallel_size=WORKERS,
    )
    config = args.create_engine_config()
    config.parallel_config.rank = rank
    with set_current_vllm_config(config):
        init_distributed_environment(WORKERS, rank, f"file://{meeting}", rank, "gloo")
        initialize_model_parallel(WORKERS)
        model = get_model(vllm_config=config)
        engine = TorchWeightTransferEngine(config.weight_transfer_config, config, torch.device("cpu"), model)
        pipe.send("ready")
        engine.init_transfer_engine(InitInfo(*info))
        load, held = model.load_weights, {}
        while (command := pipe.recv()) is not None:
            version, omit = command
            ranks, tensors = omit or ((), ())

            def faulty(named, ranks=ranks, tensors=tensors):
                def outdated(name):
                    return rank in ranks and (tensors is None or name in tensors)

                named = list(named)
                load((name, held[name] if outdated(name) else tensor) for name, tensor in named)
                held.update((name, tensor.clone()) for name, tensor in named if not outdated(name))

            model.load_weights = faulty
            _update(engine, version)
            pipe.send(msgspec.msgpack.encode(engine.proof()))


def _update(engine, version):
    from rlx.sync.receiver import UpdateInfo

    engine.start_weight_update()
    engine.receive_weights(UpdateInfo(version))
    engine.finish_weight_update()
