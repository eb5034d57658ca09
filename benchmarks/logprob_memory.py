"""Compare the peak memory of token log-probabilities with gradients: full float32 logits, and chunked ones.

    python benchmarks/logprob_memory.py [--tokens 2048] [--vocabulary 49152] [--hidden 576] [--chunk 8192]

Each runs in its own process. Prints the peak of resident memory above that of inputs and libraries, and the seconds of
forward and backward.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tokens", 2048), ("vocabulary", 49_152), ("hidden", 576), ("chunk", 8192), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of states and weights")
    parser.add_argument("--only", choices=["full", "chunked"], help=argparse.SUPPRESS)
    return parser.parse_args()


def resident_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options: argparse.Namespace) -> dict[str, float]:
    import torch

    from rlx.policy.model.logprobs import LMHead, token_logprobs

    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    hidden = torch.randn(options.tokens, options.hidden, dtype=dtype, requires_grad=True)
    weight = (torch.randn(options.vocabulary, options.hidden) * 0.02).to(dtype).requires_grad_()
    targets = torch.randint(0, options.vocabulary, (options.tokens,))
    small = hidden[:8] @ weight.T  # libraries allocate their workspaces before the measurement
    small.float().log_softmax(-1).sum().backward()
    before, began = resident_peak(), time.perf_counter()
    if options.only == "chunked":
        logprobs, _ = token_logprobs(hidden, LMHead(weight), targets, temperature=1.0, chunk=options.chunk)
    else:
        dense = (hidden @ weight.T).float().log_softmax(-1)
        _entropy = -(dense.detach().exp() * dense.detach()).sum(-1)
        logprobs = dense.gather(-1, targets[:, None]).squeeze(-1)
    logprobs.sum().backward()
    return {"bytes": resident_peak() - before, "seconds": time.perf_counter() - began}


def run(method: str) -> dict[str, float]:
    """Return the result of the run with the lowest peak: other allocations can only raise it."""
    found = []
    for _ in range(arguments().repeats):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", method]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return min(found, key=lambda result: result["bytes"])


def main() -> None:
    options = arguments()
    if options.only:
        print(json.dumps(measure(options)))
        return
    full, chunked = run("full"), run("chunked")
    print(f"{options.tokens} tokens, vocabulary {options.vocabulary}, hidden {options.hidden}, {options.dtype}")
    print(f"full logits       {full['bytes'] / 2**20:8.0f} MiB  {full['seconds']:6.2f} s")
    print(f"chunks of {options.chunk:<7} {chunked['bytes'] / 2**20:8.0f} MiB  {chunked['seconds']:6.2f} s")
    print(f"memory full / chunked {full['bytes'] / chunked['bytes']:.2f}")


if __name__ == "__main__":
    main()
