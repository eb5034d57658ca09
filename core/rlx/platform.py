"""Differences between device types, as data.

Rule: run logic never branches on the device. It reads a `Platform`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One device type."""

    device: str
    collectives: str
    """torch.distributed backend of the policy ranks and of the transfer group."""
    engine_env: Mapping[str, str]
    """Environment of the engine's processes."""
    engine_args: Mapping[str, object]
    """vLLM engine arguments that rlx sets unless the config does."""
    policy_env: Mapping[str, str]
    attention: str | None
    """vLLM's attention backend, as `module:class`; None if vLLM chooses among several."""
    latent_attention: str | None
    """The same for multi-head latent attention (DeepSeek)."""
    host_memory: bool
    """Whether policy and engines use the machine's own memory and cores."""
    pinned_copies: bool
    """Whether copies from the device to the machine's memory are faster, and don't wait, if that memory is pinned."""
    visible: str | None
    """Environment variable that lists the devices visible to a process; None if the device type has no such choice."""

    def visible_devices(self, devices: Iterable[int]) -> dict[str, str]:
        """Return the environment that restricts a process to these devices, counted among those visible here."""
        if self.visible is None:
            return {}
        # If rlx itself may see devices 4 to 7 only, the first one is device 4 and not device 0.
        here = os.environ.get(self.visible, "").replace(" ", "").split(",")
        names = [here[number] if here != [""] and number < len(here) else str(number) for number in devices]
        return {self.visible: ",".join(names)}


def _frozen(**values: object) -> Mapping[str, object]:
    return MappingProxyType(values)


_KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1099511627776"}
"""Make glibc keep freed memory for the next step or weight update: touching new pages costs more than copying the data
into them."""

PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {
        "cpu": Platform(
            device="cpu",
            collectives="gloo",
            # nobind: vLLM refuses two tensor-parallel workers on one NUMA node otherwise. Space is in GiB.
            # Without multiprocessing, vLLM's CPU platform makes the engine core its own only worker: one interpreter
            # and one hop per step less. (AsyncLLM's core is still a process of its own.)
            engine_env=MappingProxyType(
                {
                    "VLLM_CPU_KVCACHE_SPACE": "1",
                    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                    "OMP_NUM_THREADS": "1",
                    **_KEPT_MEMORY,
                }
            ),
            # max_num_seqs is twice vLLM's default: a step of a small model costs the same for both. block_size is a
            # quarter of its default: the completions of a group share the full blocks of their prompt.
            # CPU_MLA affects latent attention only: with AMX, vLLM would choose a backend for bfloat16 that drops the
            # weights that an update has to reach.
            engine_args=_frozen(enforce_eager=True, max_num_seqs=256, block_size=32, attention_backend="CPU_MLA"),
            policy_env=MappingProxyType({"OMP_NUM_THREADS": "1", **_KEPT_MEMORY}),
            attention="vllm.v1.attention.backends.cpu_attn:CPUAttentionBackend",
            latent_attention="vllm.v1.attention.backends.mla.cpu_mla:CPUMLABackend",
            host_memory=True,
            pinned_copies=False,
            visible=None,
        ),
        "cuda": Platform(
            device="cuda",
            collectives="nccl",
            engine_env=MappingProxyType({}),
            engine_args=_frozen(),
            policy_env=MappingProxyType({}),
            attention=None,
            latent_attention=None,
            host_memory=False,
            pinned_copies=True,
            visible="CUDA_VISIBLE_DEVICES",
        ),
    }
)
