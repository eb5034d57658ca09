"""What differs between devices, as data.

The rule of this part: run logic never asks which device it is on. It reads a `Platform`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One device type."""

    device: str
    collectives: str
    """torch.distributed backend of the policy's world and of the weight transfer."""
    engine_env: Mapping[str, str]
    """Environment of the engine's processes."""
    engine_args: Mapping[str, object]
    """vLLM engine arguments that rlx sets where the config does not."""
    policy_env: Mapping[str, str]
    host_memory: bool
    """Whether policy and engines live in the machine's own memory and compute on its cores."""
    visible: str | None
    """Environment variable that says which devices a process sees; None where there is nothing to share out."""

    def placed(self, devices: Iterable[int]) -> dict[str, str]:
        """The environment of a process that is to see these devices only."""
        return {} if self.visible is None else {self.visible: ",".join(map(str, devices))}


def _frozen(**values: object) -> Mapping[str, object]:
    return MappingProxyType(values)


_KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1099511627776"}
"""glibc keeps what is freed for the next step, or the next weight update: touching new pages costs more than copying
what goes into them."""

PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {
        "cpu": Platform(
            device="cpu",
            collectives="gloo",
            # nobind: two tensor-parallel workers on one NUMA node are refused otherwise. Space is in GiB.
            # Without multiprocessing, vLLM's CPU platform lets the engine's core be its own only worker: one
            # interpreter and one hop per step less. (AsyncLLM's core is a process all the same.)
            engine_env=MappingProxyType(
                {
                    "VLLM_CPU_KVCACHE_SPACE": "1",
                    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                    "OMP_NUM_THREADS": "1",
                    **_KEPT_MEMORY,
                }
            ),
            # Twice vLLM's default of sequences: a small model's step costs the same for both. Blocks a quarter of its
            # default: the samples of a group share what is full of their prompt's blocks.
            # CPU_MLA matters to latent attention alone: what vLLM would choose for it where there is AMX is for
            # bfloat16, and gives up the weights that an update has to reach.
            engine_args=_frozen(enforce_eager=True, max_num_seqs=256, block_size=32, attention_backend="CPU_MLA"),
            policy_env=MappingProxyType({"OMP_NUM_THREADS": "1", **_KEPT_MEMORY}),
            host_memory=True,
            visible=None,
        ),
        "cuda": Platform(
            device="cuda",
            collectives="nccl",
            engine_env=MappingProxyType({}),
            engine_args=_frozen(),
            policy_env=MappingProxyType({}),
            host_memory=False,
            visible="CUDA_VISIBLE_DEVICES",
        ),
    }
)
