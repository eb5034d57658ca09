"""`[policy]`: the FSDP2 trainer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field

from rlx.config.sections.base import MANY_STEPS, MAX_TOKENS, Section, Tokens


class ParallelConfig(Section):
    """How the policy's ranks share the model; their product is the number of policy processes."""

    dp_replicate: int = Field(1, ge=1, le=65_536)
    """Copies of the sharded model (HSDP)."""
    dp_shard: int = Field(1, ge=1, le=65_536)
    """Ranks that parameters, gradients and optimizer state are sharded over."""
    cp: int = Field(1, ge=1, le=65_536)
    """Ranks that split the tokens of a micro-batch, and the heads in attention. FSDP shards over them, too."""
    tp: int = Field(1, ge=1, le=65_536)
    """Ranks that split the matrices of a layer, and between them its tokens. FSDP shards the rest over them."""
    ep: int = Field(1, ge=1, le=65_536)
    """Ranks that each hold a part of the experts; each has micro-batches of its own. FSDP shards the rest over them."""
    pp: int = Field(1, ge=1, le=65_536)
    """Ranks that each hold a run of the layers; micro-batches go through them one after another."""

    @property
    def world_size(self) -> int:
        return self.data_size * self.cp * self.tp * self.pp

    @property
    def sizes(self) -> dict[str, int]:
        """How many ranks each dimension has."""
        return {name: int(getattr(self, name)) for name in type(self).model_fields}

    @property
    def shard_size(self) -> int:
        """How many ranks each parameter is split over, whoever splits it."""
        return self.dp_shard * self.cp * self.ep * self.tp

    @property
    def data_size(self) -> int:
        """How many micro-batches are computed at the same time."""
        return self.dp_replicate * self.dp_shard * self.ep


class OptimizerConfig(Section):
    """AdamW and its learning-rate schedule."""

    REASONS: ClassVar[Mapping[tuple[str, str], str]] = MappingProxyType(
        {
            ("lr", "ge"): "AdamW moves a weight by about this much in a step, so nothing would change",
            ("lr", "le"): "AdamW moves a weight by about this much in a step",
            ("eps", "ge"): "it would be 0 in float32",
            ("eps", "le"): "gradients are far smaller, so nothing would change",
            ("weight_decay", "le"): "a step takes the share lr * weight_decay away from each weight",
            ("max_grad_norm", "le"): "0 switches clipping off",
        }
    )

    lr: float = Field(1e-6, ge=1e-12, le=1)
    """Peak learning rate."""
    betas: tuple[float, float] = Field((0.9, 0.999), strict=False)
    """Decay of the running mean and of the running square."""
    eps: float = Field(1e-8, ge=1e-30, le=1)
    """Added to the denominator."""
    weight_decay: float = Field(0.0, ge=0, le=100)
    """Decoupled; not on biases and norms."""
    max_grad_norm: float = Field(1.0, ge=0, le=1e9)
    """Gradients are clipped to this global norm; 0 switches clipping off."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Shape after the warm-up."""
    warmup_steps: int = Field(0, ge=0, le=MANY_STEPS)
    """Steps from 0 to `lr`."""
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    """Final value of linear and cosine, as a share of `lr`."""


class PolicyConfig(Section):
    """The FSDP2 trainer."""

    groups_per_step: int = Field(32, ge=1, le=1_000_000)
    """Groups (RL) or rows (SFT) in one optimizer update."""
    max_tokens_per_microbatch: Tokens = 8192
    """Token budget of one forward and backward on one rank. It bounds memory: a prompt that completions share counts
    once, and a quarter more for each further completion that attends to it."""
    max_sequence_tokens: int | None = Field(None, ge=2, le=MAX_TOKENS)
    """Longest SFT row, in tokens; a longer one can't be used (`dataset.on_bad_row`). Default: the model's own limit."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype that forward and backward compute in. Master weights, reductions and optimizer state are float32."""
    packing: bool = True
    """Compute on real tokens only, prompts of a group once, if the attention implementation allows it; else pad."""
    attention: str | None = Field(None, min_length=1)
    """A transformers attention implementation. Default: rlx's own variable-length SDPA if the model allows it, else
    `sdpa`, or `eager` for a model with soft caps of attention scores, which `sdpa` leaves out."""
    dropout: bool | None = None
    """Whether training applies the dropout of the model's config. Default: SFT does; RL doesn't, as the engine samples
    without."""
    gradient_checkpointing: bool = False
    """Recompute each decoder layer in the backward pass: less memory, about a third more time."""
    logprob_chunk: int = Field(8192, ge=1, le=1_000_000_000)
    """Vocabulary entries whose logits exist at once."""
    restarts: int = Field(3, ge=0, le=1_000_000)
    """How often in a run a policy that died is restarted from the newest checkpoint. An error that repeats at the same
    step ends the run."""
    parallel: ParallelConfig = ParallelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    env: dict[str, str] = {}
    """Environment variables for the policy's processes, over rlx's defaults for the device."""
