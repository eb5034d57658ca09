from __future__ import annotations

import sys

import pytest

from rlx import DataPacker, DecoderOnlyLLMDataPacker
from rlx.testing import CharTokenizer, ContractError, check_packer
from rlx.testing.suites.packer import RULES

CHAT = [{"role": "user", "content": "1+1="}]


class Prefixed(DecoderOnlyLLMDataPacker):
    def __init__(self, prefix: str = "Q: "):
        super().__init__()
        self.prefix = prefix

    def get_rollout_input(self, item):
        return self.prefix + item


class Delegating(DataPacker):
    """Delegates to the default packer; its `get_policy_input` has two arguments."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.inner = DecoderOnlyLLMDataPacker()

    def setup(self, config, tokenizer, *args, **kwargs):
        self.inner.setup(config, tokenizer)

    def get_rollout_input(self, item):
        return {"prompt_token_ids": self.inner.get_rollout_input(item)}

    def rollout_collate_fn(self, items):
        return list(items)

    def get_policy_input(self, item, rollout_output):
        return self.inner.get_policy_input(item, rollout_output)

    def policy_compute_max_len(self, samples):
        return self.inner.policy_compute_max_len(samples)

    def policy_collate_fn(self, samples, length):
        return self.inner.policy_collate_fn(samples, length)

    def sft_process_sample(self, item):
        ids = self.inner.tokenizer.encode("1+1=2")
        return {"input_ids": ids, "labels": [-100] * 4 + ids[4:]}


class Plain(DecoderOnlyLLMDataPacker):
    """Returns lists instead of tensors; never trains the first sampled token."""

    def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
        prompt = self.get_rollout_input(item)
        count = len(rollout_output.token_ids)
        skipped = min(max(n_ignore_prefix_tokens, 1), count)
        mask = [0] * (len(prompt) - 1 + skipped) + [1] * (count - skipped) + [0]
        return prompt + rollout_output.token_ids, mask

    def policy_compute_max_len(self, samples):
        return max(len(ids) for ids, _ in samples)

    def policy_collate_fn(self, samples, length):
        fill = lambda row: row + [0] * (length - len(row))  # noqa: E731
        return {
            "input_ids": [fill(ids) for ids, _ in samples],
            "logprob_masks": [fill(mask) for _, mask in samples],
        }


@pytest.mark.parametrize(
    ("packer", "options"),
    [
        (DecoderOnlyLLMDataPacker, {"items": ["1+1=", CHAT, {"prompt": "1"}]}),
        (Prefixed, {"items": ["1+1="], "args": {"prefix": "> "}}),
        (Delegating, {"items": [CHAT, "1+1="]}),
        (Plain, {"items": ["1+1="]}),
    ],
)
def test_packers_that_keep_the_contract(packer, options):
    check_packer(packer, **options)


def test_a_tokenizer_of_transformers_is_accepted(tmp_path):
    from transformers import AutoTokenizer

    from rlx.testing.models import save_char_tokenizer

    save_char_tokenizer(tmp_path)
    check_packer(Plain, items=["1+1="], tokenizer=AutoTokenizer.from_pretrained(tmp_path))


class NoSetup(DecoderOnlyLLMDataPacker):
    def setup(self, config): ...


class EmptyPrompt(DecoderOnlyLLMDataPacker):
    def get_rollout_input(self, item):
        return ""


class DropsItems(Delegating):
    def rollout_collate_fn(self, items):
        return []


class Counting(DecoderOnlyLLMDataPacker):
    calls = 0

    def get_rollout_input(self, item):
        self.calls += 1
        return f"{self.calls}. {item}"


class Consuming(DecoderOnlyLLMDataPacker):
    def get_rollout_input(self, item):
        item.setdefault("seen", True)
        return item["prompt"]


class Retokenizing(Plain):
    def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
        ids = self.get_rollout_input(item) + self.tokenizer.encode(str(rollout_output))
        return ids, [1] * (len(ids) - 1) + [0]


class UnshiftedMask(Plain):
    """Its mask is all ones and not shifted: it covers the prompt and the last sampled token, which predicts nothing."""

    def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
        ids, mask = super().get_policy_input(item, rollout_output)
        return ids, [1] * len(mask)


class ExtraArgument(Plain):
    def get_policy_input(self, item, rollout_output, image):
        raise AssertionError


class Truncating(Plain):
    def policy_compute_max_len(self, samples):
        return 6

    def policy_collate_fn(self, samples, length):
        return super().policy_collate_fn([(ids[:length], mask[:length]) for ids, mask in samples], length)


class Insistent(Plain):
    def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
        return super().get_policy_input(item, rollout_output)


class Shifted(Delegating):
    def sft_process_sample(self, item):
        ids = self.inner.tokenizer.encode("1+1=2")
        return {"input_ids": ids[:-1], "labels": ids}


class Idle(Delegating):
    def sft_process_sample(self, item):
        return {"input_ids": [4, 5], "labels": [-100, -100]}


BROKEN = [
    ("options", Prefixed, {"args": {"prefx": "> "}}, "args of .*Prefixed.*: prefx: unknown key. Did you mean 'prefix'"),
    ("options", Prefixed(), {}, "it is a Prefixed\n.*Name the class"),
    ("options", NoSetup, {}, "TypeError: .*setup.* takes 2 positional arguments"),
    ("rollout-input", EmptyPrompt, {}, "item '1\\+1=': the prompt is empty"),
    ("rollout-input", DropsItems, {}, "rollout_collate_fn got a list of one input"),
    ("rollout-input", DecoderOnlyLLMDataPacker, {"items": [3]}, "a int is not a prompt"),
    ("repeat", Counting, {}, r"item '1\+1=' gave \[4, .*\] and then \[5, "),
    ("repeat", Consuming, {"items": [{"prompt": "1"}]}, "item {'prompt': '1'} became {'prompt': '1', 'seen': True}"),
    ("policy-input", Retokenizing, {}, r"first difference is at token 0 of the completion(.|\n)*token_ids"),
    ("policy-input", UnshiftedMask, {}, "belongs to the prompt"),
    ("policy-input", ExtraArgument, {}, "missing 1 required positional argument: 'image'|AssertionError"),
    ("policy-input", Truncating, {}, "the sampler has 66 .*, the packer nothing more"),
    ("ignored-prefix", Insistent, {}, "with 2 of 5 tokens to ignore, the mask covers 4"),
    ("sft", Shifted, {}, "'input_ids' and 'labels' of the same length"),
    ("sft", Idle, {}, "gave nothing to learn"),
]


@pytest.mark.parametrize(("rule", "packer", "options", "text"), BROKEN)
def test_a_broken_rule_is_reported_with_what_was_observed(rule, packer, options, text):
    with pytest.raises(ContractError, match=text) as caught:
        check_packer(packer, **{"items": ["1+1="], **options})
    assert caught.value.rules == [rule]
    assert f"\n{rule}: {RULES[rule]}\n" in str(caught.value)


def test_every_rule_has_a_packer_that_breaks_it():
    assert {rule for rule, *_ in BROKEN} == set(RULES)


def test_a_packer_may_declare_that_it_retokenizes():
    class Open(Retokenizing):
        retokenizes = True

        def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
            ids, mask = super().get_policy_input(item, rollout_output)
            prompt = len(self.get_rollout_input(item))
            return ids, [0] * (prompt - 1) + mask[prompt - 1 :]

    check_packer(Open, items=["1+1="])


def test_without_torch_batches_of_tensors_are_skipped_with_a_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.warns(UserWarning, match="^torch is not installed: the batches of this packer were not checked$"):
        check_packer(Delegating, items=["1+1="])
    check_packer(Plain, items=["1+1="])
    with pytest.raises(ContractError, match="first difference"):
        check_packer(Retokenizing, items=["1+1="])


def test_arguments_are_those_of_a_run():
    class Looks(Plain):
        def setup(self, config, tokenizer):
            super().setup(config, tokenizer)
            assert config.rollout.max_tokens
            assert isinstance(tokenizer, CharTokenizer)

        def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
            assert isinstance(rollout_output, str)
            assert len(rollout_output.logprobs) == len(rollout_output.weight_versions) == len(rollout_output.token_ids)
            return super().get_policy_input(item, rollout_output, n_ignore_prefix_tokens)

    check_packer(Looks, items=["1+1="])
