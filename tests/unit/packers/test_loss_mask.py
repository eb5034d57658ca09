from __future__ import annotations

import random

import pytest
import torch

from rlx import DataPacker, DecoderOnlyLLMDataPacker
from rlx.episodes import Episode, Segment, VersionSpan, single_turn
from rlx.errors import PluginError
from rlx.packers.base import RolloutOutput
from rlx.packers.loss_mask import RETOKENIZED_METRIC, apply_policy_input, dry_run_policy_input
from rlx.packers.prompt import prompt_token_ids
from rlx.policy.packing.step_plan import plan_step

EOS = 1
WHERE = "row 3 of dataset 'x'"


class Overriding(DecoderOnlyLLMDataPacker):
    """The default packer as a subclass, so that rlx calls its `get_policy_input`."""

    def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
        return super().get_policy_input(item, rollout_output, n_ignore_prefix_tokens)


def set_up(cls, tokenizer):
    packer = cls()
    packer.setup(None, tokenizer)
    return packer


def group_of(tokenizer, prompt, *completions):
    """Return episodes as sampled: one logprob and one version per token, with growing versions."""
    group = []
    for sample, tokens in enumerate(completions):
        spans = [VersionSpan(4, 1), VersionSpan(5, len(tokens) - 1)]
        logprobs = [-0.1 * (position + 1) for position in range(len(tokens))]
        trajectory = single_turn(
            tokenizer.encode(prompt), tokens, logprobs=logprobs, versions=spans, finish_reason="stop"
        )
        group.append(Episode(0, sample, 0, [trajectory], text=tokenizer.decode(tokens, skip_special_tokens=True)))
    return group


def applied(packer, tokenizer, *completions, prompt="1+1="):
    group = group_of(tokenizer, prompt, *completions)
    apply_policy_input(packer, prompt, group, tokenizer, where=WHERE)
    return [episode.trajectories[0].segments for episode in group]


def test_calling_the_default_packer_changes_nothing(tokenizer):
    """For random prompts and completions, rlx trains what its own packer would return, without calling it."""
    draw = random.Random(7)
    packer = set_up(Overriding, tokenizer)
    for _ in range(50):
        prompt = "".join(draw.choices("0123456789+-= ", k=draw.randint(1, 20)))
        completions = [
            [draw.randrange(len(tokenizer)) for _ in range(draw.randint(2, 30))] for _ in range(draw.randint(1, 5))
        ]
        group = group_of(tokenizer, prompt, *completions)
        apply_policy_input(packer, prompt, group, tokenizer)
        assert group == group_of(tokenizer, prompt, *completions)


def test_the_trainer_learns_the_positions_of_the_default_packers_mask(tokenizer):
    packer = set_up(DecoderOnlyLLMDataPacker, tokenizer)
    group = group_of(tokenizer, "1+1=", [9, 8, EOS], [7, EOS])
    samples = [
        packer.get_policy_input("1+1=", RolloutOutput.of(episode.text, episode.trajectories[0].segments[1]))
        for episode in group
    ]
    batch = packer.policy_collate_fn(samples, packer.policy_compute_max_len(samples))
    plan = plan_step([group], [[1.0, 1.0]], ranks=1, rank=0, max_tokens=64, packing=False)
    (micro,) = plan.micro_batches
    predicted = torch.zeros(batch["input_ids"].shape, dtype=torch.bool).view(-1)
    predicted[micro.logit_positions] = True
    assert micro.tokens.tolist() == batch["input_ids"].tolist()
    assert predicted.view_as(batch["logprob_masks"]).tolist() == batch["logprob_masks"].tolist()


class WithoutPolicyInput(DataPacker):
    def get_rollout_input(self, item):
        return item


class Bare:
    def get_rollout_input(self, item):
        return item


@pytest.mark.parametrize("packer", [WithoutPolicyInput(), Bare(), DecoderOnlyLLMDataPacker()])
def test_a_packer_without_its_own_policy_input_is_not_called(packer, tokenizer):
    # A call would fail: these packers lack a tokenizer or the method.
    before = group_of(tokenizer, "1", [5, 6])
    group = group_of(tokenizer, "1", [5, 6])
    apply_policy_input(packer, "1", group, tokenizer)
    dry_run_policy_input(packer, "1", [4], tokenizer)
    assert group == before


def masking(*trained, **attributes):
    """Return a packer class whose mask covers the tokens at these positions of the completion."""

    def get_policy_input(self, item, rollout_output):
        sample = DecoderOnlyLLMDataPacker.get_policy_input(self, item, rollout_output)
        before = len(sample["input_ids"]) - len(rollout_output.token_ids) - 1
        sample["logprob_masks"] = [int(i - before in trained) for i in range(len(sample["input_ids"]))]
        return sample

    return type("Masking", (DecoderOnlyLLMDataPacker,), {"get_policy_input": get_policy_input, **attributes})


def test_a_mask_cuts_the_completion_into_trained_and_untrained_segments(tokenizer):
    packer = set_up(masking(0, 3, 4), tokenizer)
    (segments,) = applied(packer, tokenizer, [10, 11, 12, 13, 14, EOS])
    prompt, *cut = segments
    assert prompt == Segment("prompt", tokenizer.encode("1+1="))
    assert [(s.kind, s.trainable, s.tokens) for s in cut] == [
        ("sampled", True, [10]),
        ("sampled", False, [11, 12]),
        ("sampled", True, [13, 14]),
        ("sampled", False, [EOS]),
    ]
    assert [s.logprobs for s in cut] == [pytest.approx(part) for part in ([-0.1], [-0.2, -0.3], [-0.4, -0.5], [-0.6])]
    assert [s.versions for s in cut] == [
        [VersionSpan(4, 1)], [VersionSpan(5, 2)], [VersionSpan(5, 2)], [VersionSpan(5, 1)]
    ]  # fmt: skip
    assert [s.finish_reason for s in cut] == [None, None, None, "stop"]


def test_only_tokens_under_the_mask_reach_the_loss(tokenizer):
    packer = set_up(masking(0, 3), tokenizer)
    group = group_of(tokenizer, "1+1=", [10, 11, 12, 13], [20, 21])
    apply_policy_input(packer, "1+1=", group, tokenizer)
    (micro,) = plan_step([group], [[1.0, 1.0]], ranks=1, rank=0, max_tokens=64, packing=True).micro_batches
    assert micro.targets.tolist() == [10, 13, 20]
    assert micro.sampler_logprobs.tolist() == pytest.approx([-0.1, -0.4, -0.1])
    assert [episode.sampled_tokens for episode in group] == [4, 2]


def test_a_mask_of_zeros_trains_nothing(tokenizer):
    (segments,) = applied(set_up(masking(), tokenizer), tokenizer, [10, 11])
    assert [(s.tokens, s.trainable) for s in segments[1:]] == [([10, 11], False)]


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (-1, "logprob_masks is 1 at position 2, so that token 3 would be trained, which belongs to the prompt"),
        (
            2,
            "logprob_masks is 1 at position 5, so that token 6 .* is beyond the completion.*next token",
        ),
    ],
)
def test_a_mask_outside_the_sampled_tokens_is_an_error(position, message, tokenizer):
    with pytest.raises(PluginError, match=f"^{WHERE}: packer Masking: {message}"):
        applied(set_up(masking(0, position), tokenizer), tokenizer, [10, 11])


class EncodesText(DecoderOnlyLLMDataPacker):
    """Encodes the completion's text, as packers for plain text do."""

    def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
        return super().get_policy_input(item, str(rollout_output), n_ignore_prefix_tokens)


class Retokenizes(EncodesText):
    retokenizes = True


@pytest.fixture(scope="module")
def merging():
    """A tokenizer with the tokens a, b and ab: the text `ab` has two encodings."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<eos>": 0, "a": 1, "b": 2, "ab": 3, "p": 4}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(words, [("a", "b")])), eos_token="<eos>", name_or_path="merging"
    )


def test_retokenized_text_is_an_error_that_shows_the_first_difference(merging):
    with pytest.raises(PluginError) as caught:
        applied(set_up(EncodesText, merging), merging, [1, 3, 1, 2, 0], prompt="pp")
    message = str(caught.value)
    assert message.startswith(
        f"{WHERE}: packer EncodesText: get_policy_input returned other tokens than the sampled ones"
    )
    assert "at token 2 of the completion (position 4): the sampler has 1 ('a'), the packer 3 ('ab')" in message
    assert "rollout_output.token_ids" in message
    assert "`retokenizes = True`" in message


def test_a_missing_eos_is_an_error(merging):
    with pytest.raises(PluginError, match=r"token 1 of the completion .*: the sampler has 0 \('<eos>'\), the packer"):
        applied(set_up(EncodesText, merging), merging, [3, 0], prompt="pp")


class OtherPrompt(DecoderOnlyLLMDataPacker):
    def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
        return super().get_policy_input("p" + item, rollout_output, n_ignore_prefix_tokens)


def test_a_different_prompt_is_an_error(merging):
    with pytest.raises(PluginError, match=r"token 1 of the prompt \(position 1\): the sampler has 3 .*, the packer 4"):
        applied(set_up(OtherPrompt, merging), merging, [1, 0], prompt="pab")


def test_a_packer_that_retokenizes_trains_its_own_tokens_without_sampler_logprobs(merging):
    group = group_of(merging, "pp", [1, 2, 1, 0], [3, 1])
    apply_policy_input(set_up(Retokenizes, merging), "pp", group, merging)
    changed, same = (episode.trajectories[0].segments for episode in group)
    assert changed == [
        Segment("prompt", [4, 4]),
        Segment("sampled", [3, 1], [], [VersionSpan(4, 2)], finish_reason="stop"),
    ]
    assert same == group_of(merging, "pp", [3, 1])[0].trajectories[0].segments
    assert [episode.metrics for episode in group] == [{RETOKENIZED_METRIC: 1.0}, {RETOKENIZED_METRIC: 0.0}]
    (micro,) = plan_step([group], [[1.0, 1.0]], ranks=1, rank=0, max_tokens=64, packing=True).micro_batches
    assert micro.targets.tolist() == [3, 1, 3, 1]
    assert micro.sampler_logprobs.isnan().tolist() == [True, True, False, False]


class Joined(DecoderOnlyLLMDataPacker):
    """Encodes prompt and completion as one text, so that a token may span the boundary; trains the last token."""

    retokenizes = True

    def get_policy_input(self, item, rollout_output):
        ids = self.tokenizer.encode(item + rollout_output)
        return {"input_ids": ids, "logprob_masks": [0] * (len(ids) - 2) + [1, 0]}


def test_retokenized_prompts_come_from_the_packer(merging):
    (segments,) = applied(set_up(Joined, merging), merging, [2, 1, 0], prompt="pa")
    assert [(s.kind, s.tokens) for s in segments] == [("prompt", [4, 3]), ("sampled", [1])]


def test_training_a_retokenized_prompt_is_an_error(merging):
    joined = type(
        "Wide",
        (Joined,),
        {"policy_collate_fn": lambda self, samples, _: {
            "input_ids": [s["input_ids"] for s in samples],
            "logprob_masks": [[1] * (len(s["input_ids"]) - 1) + [0] for s in samples],
        }},
    )  # fmt: skip
    with pytest.raises(PluginError, match="position 0, so that token 1 would be trained, which belongs to the prompt"):
        applied(set_up(joined, merging), merging, [2, 1, 0], prompt="ppa")


def collating(change):
    def policy_collate_fn(self, samples, length):
        return change(DecoderOnlyLLMDataPacker.policy_collate_fn(self, samples, length))

    return type("Collating", (DecoderOnlyLLMDataPacker,), {"policy_collate_fn": policy_collate_fn})


def left_padded(batch):
    rows = [torch.roll(row, 2) for row in batch["input_ids"]]
    masks = [torch.roll(row, 2) for row in batch["logprob_masks"]]
    attended = [[0, 0] + [1] * (len(row) - 2) for row in rows]
    return {"input_ids": rows, "logprob_masks": masks, "attention_mask": attended}


def test_batches_may_be_lists_or_tensors_and_padded_by_an_attention_mask(tokenizer):
    plain = set_up(collating(lambda batch: {name: value.tolist() for name, value in batch.items()}), tokenizer)
    assert applied(plain, tokenizer, [10, 11], [12, 13, EOS]) == applied(Bare(), tokenizer, [10, 11], [12, 13, EOS])
    padded = set_up(collating(lambda batch: left_padded(with_extra_padding(batch))), tokenizer)
    assert applied(padded, tokenizer, [10, 11]) == applied(Bare(), tokenizer, [10, 11])


def with_extra_padding(batch):
    return {name: torch.nn.functional.pad(value, (0, 2)) for name, value in batch.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: None, "policy_collate_fn returned a NoneType, not a mapping with 'input_ids', 'logprob_masks'"),
        (lambda batch: {"input_ids": batch["input_ids"]}, "returned no 'logprob_masks'; it returned 'input_ids'"),
        (lambda batch: {**batch, "pixel_values": 1}, "'pixel_values', which the trainer can't use"),
        (lambda batch: {**batch, "logprob_masks": batch["logprob_masks"][:, 1:]}, "row 0, .* not of the same length"),
        (
            lambda batch: {**batch, "input_ids": batch["input_ids"][:1]},
            "'input_ids' must hold one row .* the 2 samples",
        ),
        (lambda batch: {**batch, "input_ids": [1, 2]}, "'input_ids' must hold one row of numbers"),
        (lambda batch: 1 / 0, f"packer Collating: {WHERE} raised ZeroDivisionError"),
    ],
)
def test_an_unreadable_batch_is_an_error(change, message, tokenizer):
    with pytest.raises(PluginError, match=message):
        applied(set_up(collating(change), tokenizer), tokenizer, [10, 11], [12, 13])


class Unbatched(DataPacker):
    def get_rollout_input(self, item):
        return item

    def get_policy_input(self, item, rollout_output, *, strict=True):
        return {"input_ids": [1, 2], "logprob_masks": [1, 0]}


class WrongSignature(Overriding):
    def get_policy_input(self, item):
        return None


@pytest.mark.parametrize(
    ("packer", "message"),
    [
        (Unbatched, "NotImplementedError: Unbatched has no policy_compute_max_len: implement it, or delegate"),
        (WrongSignature, r"TypeError: .*get_policy_input\(\) takes 2 positional arguments but 3 were given"),
        (EncodesText, "the sampler has 1 ('<eos>'), the packer 0 ('<pad>')".replace("(", r"\(").replace(")", r"\)")),
        (masking(-1), "belongs to the prompt"),
    ],
)
def test_a_dry_run_finds_the_errors_of_a_run(packer, message, tokenizer):
    made = set_up(packer, tokenizer)
    with pytest.raises(PluginError, match=f"row 3.*{message}"):
        dry_run_policy_input(made, "1+1=", prompt_token_ids(made, "1+1=", tokenizer), tokenizer, where=WHERE)


@pytest.mark.parametrize("packer", [Overriding, Retokenizes, masking(0)])
def test_a_dry_run_accepts_a_correct_packer(packer, tokenizer):
    dry_run_policy_input(set_up(packer, tokenizer), "1+1=", tokenizer.encode("1+1="), tokenizer)
