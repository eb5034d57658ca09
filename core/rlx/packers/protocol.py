"""The methods that rlx calls on a packer, as a type. To write a packer, subclass `rlx.DataPacker`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from rlx.config.schema import Config
    from rlx.packers.tokenizer import Tokenizer

Item: TypeAlias = Any
"""A row of a dataset. Opaque to rlx: the dataset and the packer agree on its form."""
Sample: TypeAlias = Any
"""A packer's own form of one training sample. Opaque to rlx, which only hands it back to the packer."""


class Packer(Protocol):
    """The methods that rlx calls on a packer; `rlx.DataPacker` documents each of them.

    At run time only `setup` and `get_rollout_input` must exist. rlx looks for the others before it calls them, and does
    their work itself if they are missing or inherited from rlx's own classes.
    """

    def setup(self, config: Config, tokenizer: Tokenizer, /) -> None: ...

    def get_rollout_input(self, item: Item, /) -> object: ...

    def rollout_collate_fn(self, items: list[Any], /) -> object: ...

    def get_policy_input(self, item: Item, rollout_output: str, n_ignore_prefix_tokens: int = 0, /) -> Sample: ...

    def policy_compute_max_len(self, processed_samples: list[Sample], /) -> int: ...

    def policy_collate_fn(self, processed_samples: list[Sample], computed_max_len: int, /) -> Mapping[str, object]: ...

    def sft_process_sample(self, item: Item, /) -> Sample: ...

    def sft_compute_max_len(self, processed_samples: list[Sample], /) -> int: ...

    def sft_collate_fn(
        self, processed_samples: list[Sample], computed_max_len: int, ignore_label_id: int = -100, /
    ) -> Mapping[str, object]: ...
