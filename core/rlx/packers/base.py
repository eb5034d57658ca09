"""The contract of data packers: how a dataset item becomes tokens.

Rules:

* Tokens are the source of truth: the trainer learns from the tokens that the sampler emitted. In RL `get_rollout_input`
  decides what the model reads, and `get_policy_input` which of the sampled tokens are trained; it must not tokenise
  text again.
* The trainer lays out its batches itself. A batch that a packer collates is read back, row by row (see
  `rlx.packers.loss_mask` and `rlx.packers.sft_rows`).
* `rollout_output` is a `str` that also carries the sampled tokens (`RolloutOutput`), so that packers written for plain
  text keep working.

Shapes: B samples of a batch, S their padded length in tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from rlx.episodes import Segment, Trajectory
from rlx.packers.prompt import encode_item, prompt_token_ids
from rlx.packers.protocol import Item, Sample
from rlx.packers.sft_rows import IGNORE_LABEL, pad_token_id, target_trajectories

if TYPE_CHECKING:
    import torch

    from rlx.config.schema import Config
    from rlx.packers.tokenizer import Tokenizer


class RolloutOutput(str):
    """A completion's text, with the tokens that the sampler emitted. Each list has one entry for each token."""

    __slots__ = ("logprobs", "token_ids", "weight_versions")

    token_ids: list[int]
    logprobs: list[float]
    """Natural-log probabilities under the distribution that each token was drawn from; empty if unknown."""
    weight_versions: list[int]
    """The weight version that sampled each token; empty if unknown."""

    def __new__(
        cls,
        text: str,
        token_ids: Sequence[int] = (),
        logprobs: Sequence[float] = (),
        weight_versions: Sequence[int] = (),
    ) -> Self:
        made = super().__new__(cls, text)
        made.token_ids = list(token_ids)
        made.logprobs = list(logprobs)
        made.weight_versions = list(weight_versions)
        return made

    @classmethod
    def of(cls, text: str, segment: Segment) -> Self:
        """Make one from a sampled segment and its text."""
        versions = [span.version for span in segment.versions for _ in range(span.length)]
        return cls(text, segment.tokens, segment.logprobs, versions)


class DataPacker(ABC):
    """Base class of packers. Only `get_rollout_input` must be written.

    The constructor and `setup` accept and ignore further arguments, because older packers pass some. Errors that a
    packer raises are reported as PluginError, with the packer's name and the row.
    """

    config: Config
    tokenizer: Tokenizer
    retokenizes: bool = False
    """Whether the tokens trained in RL may differ from the sampled ones. Such tokens have no sampler logprobs."""
    train_on: Literal["all", "last"] = "all"
    """For SFT on conversations: train all of the assistant's turns, or only the last one."""

    def __init__(self, *args: object, **kwargs: object) -> None:  # noqa: ARG002
        super().__init__()

    def setup(self, config: Config, tokenizer: Tokenizer, *args: object, **kwargs: object) -> None:  # noqa: ARG002
        """Receive the run's config and tokenizer. Called once, before anything else."""
        self.config = config
        self.tokenizer = tokenizer

    @abstractmethod
    def get_rollout_input(self, item: Item) -> object:
        """Return what the engine reads for a dataset item: text, token ids, or a mapping with `prompt_token_ids`."""

    def rollout_collate_fn(self, items: list[Any]) -> object:
        """Return a list of as many inputs as `items`; rlx passes one at a time."""
        return items

    def get_policy_input(self, item: Item, rollout_output: str, n_ignore_prefix_tokens: int = 0) -> Sample:
        """Return one training sample, in the packer's own form.

        item: the dataset's item. rollout_output: a `RolloutOutput`. The first `n_ignore_prefix_tokens` tokens of the
        completion are not trained on.
        """
        raise NotImplementedError(_missing(self, "get_policy_input"))

    def policy_compute_max_len(self, processed_samples: list[Sample]) -> int:
        """Return the length of the longest sample, in tokens."""
        raise NotImplementedError(_missing(self, "policy_compute_max_len"))

    def policy_collate_fn(self, processed_samples: list[Sample], computed_max_len: int) -> Mapping[str, object]:
        """Return `input_ids` and `logprob_masks` (1 where the *next* token is trained on), [B, S] integers, padded on
        the right.
        """
        raise NotImplementedError(_missing(self, "policy_collate_fn"))

    def sft_process_sample(self, item: Item) -> Sample:
        """Return a row as a Trajectory (or a list of them), or as `{"input_ids": ..., "labels": ...}`: of the same
        length, labels not shifted and -100 at tokens that are not trained on.

        Default: the prompt as the engine would read it, then the row's target and an EOS; for a conversation, the
        assistant's turns. It returns several trajectories only if the chat template rewrites past turns.
        """
        made = target_trajectories(self, item, self.tokenizer)
        return made[0] if len(made) == 1 else made

    def sft_compute_max_len(self, processed_samples: list[Sample]) -> int:
        """Return the length of the longest row, in tokens."""
        raise NotImplementedError(_missing(self, "sft_compute_max_len"))

    def sft_collate_fn(
        self, processed_samples: list[Sample], computed_max_len: int, ignore_label_id: int = IGNORE_LABEL
    ) -> Mapping[str, object]:
        """Return `input_ids` and `labels` (not shifted, `ignore_label_id` at tokens that are not trained on), [B, S]
        integers, padded on the right.
        """
        raise NotImplementedError(_missing(self, "sft_collate_fn"))


class DecoderOnlyLLMDataPacker(DataPacker):
    """The default packer: text, chat messages, or a mapping with `prompt` or `messages`, for models that read tokens
    from left to right.

    train_on: for SFT on conversations; train all of the assistant's turns, or only the last one.
    prefill: have the completion continue the prompt's last message, if that is the assistant's; an error otherwise.
    """

    # For subclasses with a constructor of their own that doesn't call this one.
    prefill: bool = False

    def __init__(self, *args: object, train_on: Literal["all", "last"] = "all", prefill: bool = False) -> None:
        if train_on not in {"all", "last"}:
            raise ValueError(f"train_on is {train_on!r}; it must be 'all' or 'last'")
        super().__init__(*args)
        self.train_on = train_on
        self.prefill = prefill

    def get_rollout_input(self, item: Item) -> list[int]:
        return encode_item(self.tokenizer, item, prefill=self.prefill)

    def get_policy_input(
        self, item: Item, rollout_output: str, n_ignore_prefix_tokens: int = 0
    ) -> dict[str, list[int]]:
        """Return `input_ids`, and `logprob_masks` of the same length: 1 where the *next* token is trained on."""
        prompt = prompt_token_ids(self, item, self.tokenizer)
        completion = self._completion_ids(rollout_output)
        trained = max(len(completion) - n_ignore_prefix_tokens, 0)
        mask = [0] * (len(prompt) - 1 + len(completion) - trained) + [1] * trained + [0]
        return {"input_ids": prompt + completion, "logprob_masks": mask}

    def policy_compute_max_len(self, processed_samples: list[dict[str, list[int]]]) -> int:
        return max(len(sample["input_ids"]) for sample in processed_samples)

    def policy_collate_fn(
        self, processed_samples: list[dict[str, list[int]]], computed_max_len: int
    ) -> dict[str, torch.Tensor]:
        """Return `input_ids` int64 and `logprob_masks` bool, both [B, S = computed_max_len], padded on the right."""
        import torch

        ids = [sample["input_ids"] for sample in processed_samples]
        masks = [sample["logprob_masks"] for sample in processed_samples]
        return {
            "input_ids": torch.tensor(_padded(ids, computed_max_len, pad_token_id(self.tokenizer))),
            "logprob_masks": torch.tensor(_padded(masks, computed_max_len, 0), dtype=torch.bool),
        }

    def sft_compute_max_len(self, processed_samples: list[Trajectory]) -> int:
        return max(len(trajectory) for trajectory in processed_samples)

    def sft_collate_fn(
        self, processed_samples: list[Trajectory], computed_max_len: int, ignore_label_id: int = IGNORE_LABEL
    ) -> dict[str, torch.Tensor]:
        """Return `input_ids` and `labels` (not shifted), int64 [B, S = computed_max_len], padded on the right."""
        import torch

        ids = [trajectory.tokens for trajectory in processed_samples]
        labels = [_labels(trajectory, ignore_label_id) for trajectory in processed_samples]
        return {
            "input_ids": torch.tensor(_padded(ids, computed_max_len, pad_token_id(self.tokenizer))),
            "labels": torch.tensor(_padded(labels, computed_max_len, ignore_label_id)),
        }

    def _completion_ids(self, rollout_output: str | Sequence[int]) -> list[int]:
        if isinstance(rollout_output, RolloutOutput):
            return rollout_output.token_ids
        if isinstance(rollout_output, str):  # not from rlx's sampler: there is only text
            return [int(token) for token in self.tokenizer.encode(rollout_output, add_special_tokens=False)]
        return list(rollout_output)


def _labels(trajectory: Trajectory, ignore: int) -> list[int]:
    return [token if segment.learns else ignore for segment in trajectory.segments for token in segment.tokens]


def _padded(rows: list[list[int]], length: int, filler: int) -> list[list[int]]:
    longest = max(map(len, rows))
    if longest > length:
        raise ValueError(f"a sample has {longest} tokens, more than the computed maximum of {length}")
    return [row + [filler] * (length - len(row)) for row in rows]


def _missing(packer: DataPacker, method: str) -> str:
    return f"{type(packer).__name__} has no {method}: implement it, or delegate to DecoderOnlyLLMDataPacker"
