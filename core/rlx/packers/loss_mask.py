"""Apply a packer's loss mask to sampled completions.

Rules:

* By default the trainer learns from the prompt that the engine read and all tokens that it emitted, as
  `DecoderOnlyLLMDataPacker` has it. So packers that inherit `get_policy_input` and the collate functions from rlx are
  not called.
* A packer that defines its own is called for the whole group. Its `logprob_masks` (1 where the *next* token is trained
  on) decide which sampled tokens are trained; prompts never are.
* Its tokens must be those that were sampled. Tokenising the text again gives other tokens, which were not drawn from
  the policy. That is an error, unless the packer's class sets `retokenizes = True`: then its tokens are trained without
  sampler logprobs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from rlx.episodes import Episode, Segment, Trajectory, VersionSpan, single_turn
from rlx.errors import PluginError
from rlx.packers.base import RolloutOutput
from rlx.packers.batches import attribute_to, batch_rows, overrides, owner_of

if TYPE_CHECKING:
    from rlx.packers.protocol import Packer, Sample
    from rlx.packers.tokenizer import Tokenizer

POLICY_COLUMNS = {"input_ids": ("input_ids",), "logprob_masks": ("logprob_masks",)}
RETOKENIZED_METRIC = "packer/retokenized"
"""Share of the completions whose trained tokens differ from the sampled ones."""


def apply_policy_input(
    packer: Packer, item: object, group: Sequence[Episode], tokenizer: Tokenizer, *, where: str = ""
) -> None:
    """Replace the trajectories of a group of single-turn episodes with the ones that the packer makes.

    item: the dataset item of the group. Raises PluginError, with the row (`where`).
    """
    if not overrides(packer, "get_policy_input", "policy_compute_max_len", "policy_collate_fn"):
        return
    with attribute_to(packer, where):
        samples = [_policy_input(packer.get_policy_input, item, episode) for episode in group]
        batch = packer.policy_collate_fn(samples, packer.policy_compute_max_len(samples))
        rows = list(batch_rows(batch, POLICY_COLUMNS, len(group), f"{owner_of(packer)}: policy_collate_fn"))
        for episode, (tokens, mask) in zip(group, rows, strict=True):
            prompt, sampled = episode.trajectories[0].segments
            row = _PolicyRow(
                owner=owner_of(packer),
                tokenizer=tokenizer,
                prompt=prompt.tokens,
                sampled=sampled,
                tokens=tokens,
                mask=mask,
            )
            as_sampled, retokenizes = row.as_sampled, getattr(packer, "retokenizes", False)
            if not as_sampled and not retokenizes:
                raise PluginError(row.difference())
            episode.trajectories = [Trajectory(row.segments() if as_sampled else row.retokenized())]
            if retokenizes:
                episode.metrics[RETOKENIZED_METRIC] = float(not as_sampled)


def dry_run_policy_input(
    packer: Packer, item: object, prompt: list[int], tokenizer: Tokenizer, *, where: str = ""
) -> None:
    """Call the packer for two made-up completions, before anything is started. Raises PluginError."""
    group = []
    for sample, text in enumerate(("1", "A completion.")):
        tokens = [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
        # Sampled completions end with an EOS. Their text lacks it, which exposes a packer that tokenises text.
        tokens += [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        spans = [VersionSpan(0, len(tokens))]
        made_up = single_turn(prompt, tokens, logprobs=[-1.0] * len(tokens), versions=spans, finish_reason="stop")
        group.append(Episode(0, sample, 0, [made_up], text=text))
    apply_policy_input(packer, item, group, tokenizer, where=where)


def _policy_input(get_policy_input: Callable[..., Sample], item: object, episode: Episode) -> Sample:
    output = RolloutOutput.of(episode.text, episode.trajectories[0].segments[-1])
    try:
        inspect.signature(get_policy_input).bind(item, output, 0)
    except TypeError:  # without n_ignore_prefix_tokens, as in older packers
        return get_policy_input(item, output)
    return get_policy_input(item, output, 0)


@dataclass(frozen=True, kw_only=True)
class _PolicyRow:
    """One completion, and the row that the packer made of it."""

    owner: str
    tokenizer: Tokenizer
    prompt: list[int]
    sampled: Segment
    tokens: list[int]
    mask: list[int]
    """1 where the next of `tokens` is trained on."""

    @property
    def emitted(self) -> list[int]:
        return self.prompt + self.sampled.tokens

    @property
    def as_sampled(self) -> bool:
        """Whether the row consists of the tokens that the engine read and emitted, and padding."""
        return self.tokens[: len(self.emitted)] == self.emitted

    def segments(self) -> list[Segment]:
        """Return the prompt and the sampled tokens, split by the packer's mask."""
        begin, end = len(self.prompt), len(self.emitted)
        self._trained_tokens(begin, end)
        return [Segment("prompt", self.prompt), *split_by_mask(self.sampled, self.mask[begin - 1 : end - 1])]

    def retokenized(self) -> list[Segment]:
        """Return the packer's own tokens up to the last trained one: nothing depends on the tokens after it."""
        trained = self._trained_tokens(self._common_prefix(self.prompt), len(self.tokens))
        if not trained:
            return [Segment("prompt", self.prompt), *split_by_mask(self.sampled, [0] * len(self.sampled.tokens))]
        begin, end = trained[0], trained[-1] + 1
        # Their version is that of the oldest sampled token.
        version = min((span.version for span in self.sampled.versions), default=None)
        spans = [VersionSpan(version, end - begin)] if version is not None else []
        whole = Segment("sampled", self.tokens[begin:end], [], spans, finish_reason=self.sampled.finish_reason)
        return [Segment("prompt", self.tokens[:begin]), *split_by_mask(whole, self.mask[begin - 1 : end - 1])]

    def difference(self) -> str:
        """Return the error message for tokens that differ from the sampled ones."""
        index = self._common_prefix(self.emitted)
        inside = index - len(self.prompt)
        where = f"token {inside} of the completion" if inside >= 0 else f"token {index} of the prompt"
        sampler, packer = (self._describe_token(tokens, index) for tokens in (self.emitted, self.tokens))
        return (
            f"{self.owner}: get_policy_input returned other tokens than the sampled ones. The first difference is at "
            f"{where} (position {index}): the sampler has {sampler}, the packer {packer}. Text was tokenised again, "
            "and a text has more than one tokenisation; only the sampled tokens may be trained. Use "
            "rollout_output.token_ids, after the tokens of get_rollout_input. Or give the class `retokenizes = True`: "
            "then the packer's tokens are trained, and the trainer's own logprobs take the place of the sampler's."
        )

    def _trained_tokens(self, begin: int, end: int) -> list[int]:
        """Return the indices of the tokens that the mask covers. Raises PluginError if one is outside [begin, end)."""
        trained = [index + 1 for index, trained in enumerate(self.mask) if trained]
        wrong = next((index for index in trained if not begin <= index < end), None)
        if wrong is not None:
            what = "belongs to the prompt" if wrong < begin else "is beyond the completion"
            raise PluginError(
                f"{self.owner}: logprob_masks is 1 at position {wrong - 1}, so that token {wrong} would be trained, "
                f"which {what}: prompt and completion are tokens 0 to {end - 1}, the completion begins at {begin}. A "
                "mask is 1 where the next token is trained on."
            )
        return trained

    def _common_prefix(self, other: list[int]) -> int:
        """Return how many tokens at the beginning of the row equal those of `other`."""
        pairs = zip(other, self.tokens, strict=False)
        return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(other), len(self.tokens)))

    def _describe_token(self, tokens: list[int], index: int) -> str:
        if index >= len(tokens):
            return "nothing more"
        token = tokens[index]
        known = 0 <= token < len(self.tokenizer)
        return f"{token} ({self.tokenizer.decode([token])!r})" if known else f"{token} (not in the vocabulary)"


def split_by_mask(segment: Segment, mask: Sequence[int]) -> list[Segment]:
    """Split a segment into runs of trained and untrained tokens. `mask` has one entry for each token."""
    if all(mask):
        return [segment]
    versions = [span.version for span in segment.versions for _ in range(span.length)]
    runs = []
    end = 0
    for trained, run in groupby(mask, key=bool):
        begin, end = end, end + len(list(run))
        spans = [VersionSpan(version, len(list(same))) for version, same in groupby(versions[begin:end])]
        finish_reason = segment.finish_reason if end == len(mask) else None
        tokens, logprobs = segment.tokens[begin:end], segment.logprobs[begin:end]
        runs.append(Segment("sampled", tokens, logprobs, spans, trainable=trained, finish_reason=finish_reason))
    return runs
