from __future__ import annotations

import copy

import pytest

from rlx import DataPacker, DecoderOnlyLLMDataPacker
from rlx.errors import BadRowError, DatasetError, UsageError
from rlx.packers.sft_rows import sft_trajectories
from rlx.policy.train.sft_data import SFTRows

PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
ENDED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}<eos>{% endif %}"
    "{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<eos>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
REASONING = (  # shows a turn's reasoning until another user message follows
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{{ m.role }}: "
    "{% if m.role == 'assistant' %}{% if loop.index0 > ns.last %}(hm) {% endif %}{{ m.content }}<eos>"
    "{% else %}{{ m.content }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
OPENED = PLAIN.replace("assistant: {% endif %}", "assistant: (think){% endif %}")
ENDLESS = MARKED.replace("<eos>{% endgeneration %}", "{% endgeneration %}<eos>")
HALF_MARKED = MARKED.replace("{% if m.role == 'assistant' %}", "{% if m.role == 'assistant' and loop.last %}")

CHAT = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "bc"},
    {"role": "user", "content": "d"},
    {"role": "assistant", "content": "e"},
]


def with_template(tokenizer, template):
    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    return made


def as_text(tokenizer, trajectories):
    """Return each trajectory as text, with the trained parts in square brackets."""
    texts = []
    for trajectory in trajectories:
        parts = [(tokenizer.decode(segment.tokens), segment.learns) for segment in trajectory.segments]
        texts.append("".join(f"[{text}]" if learns else text for text, learns in parts))
    return texts


def trained_text(tokenizer, template, messages, cls=DecoderOnlyLLMDataPacker, **options):
    tokenizer = with_template(tokenizer, template)
    packer = cls(**options)
    packer.setup(None, tokenizer)
    return as_text(tokenizer, sft_trajectories(packer, {"messages": messages}, None, tokenizer))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        # The last turn gets the EOS that this template doesn't write.
        (PLAIN, ["system: s\nuser: a\nassistant: [bc]\nuser: d\nassistant: [e<eos>]"]),
        (ENDED, ["system: s\nuser: a\nassistant: [bc<eos>]\nuser: d\nassistant: [e<eos>]"]),
        (MARKED, ["system: s\nuser: a\nassistant: [bc<eos>]\nuser: d\nassistant: [e<eos>]\n"]),
        (
            REASONING,
            [
                "system: s\nuser: a\nassistant: [(hm) bc<eos>]",
                "system: s\nuser: a\nassistant: bc<eos>\nuser: d\nassistant: [(hm) e<eos>]",
            ],
        ),
    ],
)
def test_exactly_the_assistant_turns_are_trained(template, expected, tokenizer):
    assert trained_text(tokenizer, template, CHAT) == expected


@pytest.mark.parametrize("template", [ENDED, MARKED])
def test_train_on_last_trains_only_the_last_turn(template, tokenizer):
    expected = ["system: s\nuser: a\nassistant: bc<eos>\nuser: d\nassistant: [e<eos>]"]
    assert trained_text(tokenizer, template, CHAT, train_on="last") == expected


def test_trained_turns_follow_the_prompt_that_the_engine_would_get(tokenizer):
    """In RL, the prompt before a turn comes from `encode_messages`; SFT must begin with the same tokens."""
    for template in (PLAIN, ENDED, MARKED, REASONING):
        templated = with_template(tokenizer, template)
        packer = DecoderOnlyLLMDataPacker()
        packer.setup(None, templated)
        last = sft_trajectories(packer, CHAT, None, templated)[-1]
        prompt = packer.get_rollout_input(CHAT[:-1])
        assert last.tokens[: len(prompt)] == prompt
        before = [segment.learns for segment in last.segments for _ in segment.tokens][: len(prompt)]
        assert not before[-1]


@pytest.mark.parametrize("template", [PLAIN, ENDED, MARKED])
def test_consecutive_assistant_turns_and_tool_messages(template, tokenizer):
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": "e"},
    ]
    (text,) = trained_text(tokenizer, template, messages)
    eos = "" if template == PLAIN else "<eos>"
    assert text.rstrip() == f"user: a\nassistant: [b{eos}]\ntool: t\nassistant: [c{eos}]\nassistant: [e<eos>]"


class Shouting(DataPacker):
    """Changes the prompts, so that generation marks of the template no longer match them."""

    def get_rollout_input(self, item):
        louder = [{**m, "content": m["content"].upper()} if m["role"] == "user" else m for m in item]
        return self.tokenizer.apply_chat_template(louder, add_generation_prompt=True, tokenize=False)


@pytest.mark.parametrize("template", [ENDED, MARKED])
def test_prompts_come_from_the_packer(template, tokenizer):
    expected = ["system: s\nuser: A\nassistant: [bc<eos>]\nuser: D\nassistant: [e<eos>]"]
    assert trained_text(tokenizer, template, CHAT, Shouting) == expected


class Untemplated(DataPacker):
    def get_rollout_input(self, item):
        return "".join(f"{m['role'][0]}{m['content']}!" for m in item)


def test_without_a_template_a_turn_is_its_text_and_eos(tokenizer):
    assert trained_text(tokenizer, None, CHAT, Untemplated) == ["ss!ua![bc<eos>]", "ss!ua!abc!ud![e<eos>]"]


@pytest.mark.parametrize(
    ("template", "messages", "error", "message"),
    [
        (OPENED, CHAT, UsageError, r"does not show which tokens of message 2 are .*ends with ' \(think\)'"),
        (HALF_MARKED, CHAT, UsageError, "1 runs of tokens, but the assistant has 2 turns"),
        ("{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}{% endgeneration %}", CHAT[1:3], UsageError,
         "1 runs of tokens, but the assistant has 1 turns"),
        (ENDLESS, CHAT, UsageError, r"leave out the '<eos>' that ends the assistant's turn.*Move "),
        (PLAIN, CHAT[2:], DatasetError, "the conversation begins with the assistant"),
        (PLAIN, [*CHAT[:2], {"role": "assistant"}, *CHAT[3:]], DatasetError,
         "message 2, from the assistant, has neither content nor tool_calls"),
        (PLAIN, CHAT[:4], DatasetError, "no target"),
    ],
)  # fmt: skip
def test_turns_that_cannot_be_located_are_an_error_and_never_trained(template, messages, error, message, tokenizer):
    templated = with_template(tokenizer, template)
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, templated)
    with pytest.raises(error, match=f"^row 2 of d: .*{message}"):
        sft_trajectories(packer, {"messages": messages}, None, templated, where="row 2 of d")


def test_a_conversation_is_one_episode_even_if_its_history_changes(tokenizer):
    class Rows:
        def where(self, row):
            return f"row {row}"

        def item(self, row):
            return CHAT

        def reference(self, row):
            return None

    templated = with_template(tokenizer, REASONING)
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, templated)
    assert len(SFTRows(Rows(), packer, templated, None).episode(0).trajectories) == 2
    longest = len("system: s\nuser: a\nassistant: bc_\nuser: d\nassistant: (hm) e_")
    SFTRows(Rows(), packer, templated, longest).episode(0)
    with pytest.raises(BadRowError, match=f"row 0 has {longest} tokens; the limit is {longest - 1}"):
        SFTRows(Rows(), packer, templated, longest - 1).episode(0)
