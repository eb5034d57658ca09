"""Measure how long a checkpoint stops training, against writing it while training waits.

    python benchmarks/checkpoint.py [--hidden 1024] [--layers 8] [--repeats 5] [--folder DIR]

One policy rank in this process, with the run's own network, optimizer and writer. Prints the size of a checkpoint, the
seconds of a synchronous one, the seconds that training stops for an asynchronous one, and their ratio. The first one
also allocates the memory that the copies then use.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("hidden", 1024), ("layers", 8), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> None:
    import torch
    import torch.distributed as dist

    from rlx.config.schema import Config
    from rlx.config.sections.policy import PolicyConfig
    from rlx.platform import PLATFORMS
    from rlx.policy.build import build_policy
    from rlx.policy.parallel.mesh import join_ranks
    from rlx.policy.parallel.pipeline import stage_parameters
    from rlx.policy.train.optimizer import Optimizer
    from rlx.policy.weights.hf_folder import load_hf_config
    from rlx.policy.weights.staging import Staging
    from rlx.policy.weights.writer import Writer, Written, save
    from rlx.testing.models import make_char_model
    from rlx_models.hf import plugin

    logging.getLogger("torch").setLevel(logging.ERROR)
    sizes = {"hidden_size": options.hidden, "intermediate_size": 3 * options.hidden}
    model = make_char_model(folder / "model", num_hidden_layers=options.layers, **sizes)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    config = PolicyConfig.model_validate({"dtype": "float32"})
    ranks = join_ranks(PLATFORMS[options.device], config.parallel)
    section = Config.model_validate({"model": {"path": str(model)}, "dataset": {"name": "none"}}).model
    built = build_policy(plugin, load_hf_config(section, model), model, ranks, config, 1.0)
    optimizer = Optimizer(stage_parameters(built.network), config.optimizer, 10, built.stage, built.tied)
    synchronous = []
    for number in range(options.repeats):
        began = time.perf_counter()
        files = save(folder / f"synchronous_{number}", ranks, built, optimizer, 1)
        synchronous.append(time.perf_counter() - began)
    size = sum(file.bytes for file in files.values())
    reported, done = [], threading.Event()

    def report(_step: int, written: Written) -> None:
        assert not written.error, written.error
        reported.append(written.seconds)
        done.set()

    writer = Writer(ranks, Staging(ranks, built, optimizer), dist.HashStore, report)
    blocked = []
    for number in range(options.repeats + 1):
        done.clear()
        began = time.perf_counter()
        writer.begin(folder / f"asynchronous_{number}", 1, 600.0)
        blocked.append(time.perf_counter() - began)
        # Training: without it, nothing would compete with the writer for cores and memory.
        while not done.wait(0):
            torch.ones(256, 256) @ torch.ones(256, 256)
    writer.close()
    ranks.close()
    first, others = blocked[0], blocked[1:]
    whole, stop = statistics.median(synchronous), statistics.median(others)
    print(f"{size / 1e9:.2f} GB of weights, moments and random state, {options.device}, one rank")
    print(f"synchronous     {whole:8.2f} s")
    print(f"training stops  {stop:8.2f} s   (the first time {first:.2f} s)")
    print(f"writing beside  {statistics.median(reported):8.2f} s")
    print(f"ratio           {stop / whole:8.3f}")


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
