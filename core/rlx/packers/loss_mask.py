"""What of a sampled completion is trained, where a packer has a say in it.

The rules of this part:

* The trainer learns from the prompt that the engine read and the tokens that it emitted, all of them: that is what
  `DecoderOnlyLLMDataPacker` says, so packers that leave `get_policy_input` and its kin to rlx are not asked.
* A packer of its own is asked for the whole group. Its `logprob_masks` (1 where the *next* token is trained on) decide
  which sampled tokens are trained; prompts never are.
* Its tokens must be those that were sampled. Text tokenised again gives others, which nobody drew from the policy: an
  error, unless the packer's class says `retokenizes = True`. Then its tokens are trained without sampler logprobs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rlx.episodes import Episode, Segment, Trajectory, VersionSpan, single_turn
from rlx.errors import PluginError
from rlx.packers.base import RolloutOutput
from rlx.packers.batches import attribute_to, batch_rows, overrides, owner_of

COLUMNS = {"input_ids": ("input_ids",), "logprob_masks": ("logprob_masks",)}
RETOKENIZED = "packer/retokenized"
"""Metric: share of the completions that were trained with other tokens than the sampler's."""


def apply_policy_input(packer: Any, item: Any, group: Sequence[Episode], tokenizer: Any, *, where: str = "") -> None:
    """Put what the packer trains of `item`'s completions into their single-turn episodes.

    Raises PluginError, with the row (`where`).
    """
    if not overrides(packer, "get_policy_input", "policy_compute_max_len", "policy_collate_fn"):
        return
    with attribute_to(packer, where):
        for episode, row in zip(group, _rows(packer, item, group), strict=True):
            prompt, sampled = episode.trajectories[0].segments
            packed = _Packed(owner_of(packer), tokenizer, prompt.tokens, sampled, *row)
            same = packed.as_sampled
            if not same and not getattr(packer, "retokenizes", False):
                raise PluginError(packed.difference())
            episode.trajectories = [Trajectory(packed.segments() if same else packed.retokenized())]
            if getattr(packer, "retokenizes", False):
                episode.metrics[RETOKENIZED] = float(not same)


def dry_run_policy_input(packer: Any, item: Any, prompt: list[int], tokenizer: Any, *, where: str = "") -> None:
    """Ask the packer about two made-up completions, before anything is started. Raises PluginError."""
    group = []
    for sample, text in enumerate(("1", "A completion.")):
        tokens = [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
        # As sampled ones end: text does not show it, so that a packer that tokenises text comes to light here.
        tokens += [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        spans = [VersionSpan(0, len(tokens))]
        made_up = single_turn(prompt, tokens, logprobs=[-1.0] * len(tokens), versions=spans, finish_reason="stop")
        group.append(Episode(0, sample, 0, [made_up], text=text))
    apply_policy_input(packer, item, group, tokenizer, where=where)


def _rows(packer: Any, item: Any, group: Sequence[Episode]) -> list[tuple[list[int], ...]]:
    """For each completion, tokens and mask as the packer collated them."""
    samples = [_sample(packer.get_policy_input, item, episode) for episode in group]
    batch = packer.policy_collate_fn(samples, packer.policy_compute_max_len(samples))
    return list(batch_rows(batch, COLUMNS, len(group), f"{owner_of(packer)}: policy_collate_fn"))


def _sample(get_policy_input: Callable[..., Any], item: Any, episode: Episode) -> Any:
    output = RolloutOutput.of(episode.text, episode.trajectories[0].segments[-1])
    try:
        inspect.signature(get_policy_input).bind(item, output, 0)
    except TypeError:  # without n_ignore_prefix_tokens, as in older packers
        return get_policy_input(item, output)
    return get_policy_input(item, output, 0)


@dataclass(frozen=True)
class _Packed:
    """One completion, and the row that the packer made of it."""

    owner: str
    tokenizer: Any
    prompt: list[int]
    sampled: Segment
    tokens: list[int]
    mask: list[int]

    @property
    def emitted(self) -> list[int]:
        return self.prompt + self.sampled.tokens

    @property
    def as_sampled(self) -> bool:
        """Whether the row is what the engine read and emitted, and padding."""
        return self.tokens[: len(self.emitted)] == self.emitted

    def segments(self) -> list[Segment]:
        begin, end = len(self.prompt), len(self.emitted)
        self._trained(begin, end)
        return [Segment("prompt", self.prompt), *_cut(self.sampled, self.mask[begin - 1 : end - 1])]

    def retokenized(self) -> list[Segment]:
        """The packer's own tokens, up to the last that is trained: nothing depends on what follows it."""
        trained = self._trained(self._agreed(of=self.prompt), len(self.tokens))
        if not trained:
            return [Segment("prompt", self.prompt), *_cut(self.sampled, [0] * len(self.sampled.tokens))]
        begin, end = trained[0], trained[-1] + 1
        # Its age is that of the oldest token that was sampled.
        version = min((span.version for span in self.sampled.versions), default=None)
        spans = [VersionSpan(version, end - begin)] if version is not None else []
        whole = Segment("sampled", self.tokens[begin:end], [], spans, finish_reason=self.sampled.finish_reason)
        return [Segment("prompt", self.tokens[:begin]), *_cut(whole, self.mask[begin - 1 : end - 1])]

    def difference(self) -> str:
        place = self._agreed(of=self.emitted)
        inside = place - len(self.prompt)
        where = f"token {inside} of the completion" if inside >= 0 else f"token {place} of the prompt"
        sampler, packer = (self._shown(tokens, place) for tokens in (self.emitted, self.tokens))
        return (
            f"{self.owner}: get_policy_input gives other tokens than those that were sampled. The first difference is "
            f"at {where} (position {place}): the sampler has {sampler}, the packer {packer}. Text was tokenised again, "
            "and a text has more than one tokenisation; what is trained must be what was sampled. Use "
            "rollout_output.token_ids, behind the tokens of get_rollout_input. Or give the class `retokenizes = True`: "
            "then the packer's tokens are trained, and the trainer's own logprobs take the place of the sampler's."
        )

    def _trained(self, begin: int, end: int) -> list[int]:
        """Indices of the tokens that the mask covers. Raises PluginError where one lies outside begin ... end - 1."""
        trained = [index + 1 for index, covered in enumerate(self.mask) if covered]
        wrong = next((index for index in trained if not begin <= index < end), None)
        if wrong is not None:
            what = "belongs to the prompt" if wrong < begin else "is beyond the completion"
            raise PluginError(
                f"{self.owner}: logprob_masks is 1 at position {wrong - 1}, so that token {wrong} would be trained, "
                f"which {what}: prompt and completion are tokens 0 to {end - 1}, the completion begins at {begin}. A "
                "mask is 1 where the next token is trained on."
            )
        return trained

    def _agreed(self, *, of: list[int]) -> int:
        """How many tokens at the beginning of the row are those of `of`."""
        pairs = zip(of, self.tokens, strict=False)
        return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(of), len(self.tokens)))

    def _shown(self, tokens: list[int], place: int) -> str:
        if place >= len(tokens):
            return "nothing more"
        token = tokens[place]
        known = 0 <= token < len(self.tokenizer)
        return f"{token} ({self.tokenizer.decode([token])!r})" if known else f"{token} (not in the vocabulary)"


def _cut(segment: Segment, mask: Sequence[int]) -> list[Segment]:
    """A segment as runs of tokens that are trained, and that are not. `mask` has one entry for each token."""
    if all(mask):
        return [segment]
    versions = [span.version for span in segment.versions for _ in range(span.length)]
    cut = []
    end = 0
    for trained, run in groupby(mask, key=bool):
        begin, end = end, end + len(list(run))
        spans = [VersionSpan(version, len(list(same))) for version, same in groupby(versions[begin:end])]
        ending = segment.finish_reason if end == len(mask) else None
        tokens, logprobs = segment.tokens[begin:end], segment.logprobs[begin:end]
        cut.append(Segment("sampled", tokens, logprobs, spans, trainable=trained, finish_reason=ending))
    return cut
