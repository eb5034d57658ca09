"""The forms of rows, as a prompt for RL and as targets for SFT, with a template of characters."""

from __future__ import annotations

import copy
import json

import pytest

from rlx import DecoderOnlyLLMDataPacker
from rlx.errors import DatasetError, PluginError, UsageError
from rlx.packers.messages import clean_messages
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.sft_rows import sft_trajectories

TEMPLATE = (
    "{% for t in tools or [] %}({{ t.function.name }}){% endfor %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}({{ c.function.name }}){% endfor %}"
    "{% if m.role == 'assistant' %}<eos>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
MARKED = TEMPLATE.replace(
    "{{ m.content }}{% for c",
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eos>{% endgeneration %}{% else %}{{ m.content }}"
    "{% endif %}{% for c",
).replace("{% if m.role == 'assistant' %}<eos>{% endif %}", "")
THINKING = TEMPLATE.replace("assistant: {% endif %}", "assistant: {{ '<think>\n' }}{% endif %}")
UNTHINKING = TEMPLATE.replace("assistant: {% endif %}", "assistant: {{ '<think>\n\n</think>\n\n' }}{% endif %}")
USERS_ONLY = TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
CONTENTS = "{% for m in messages %}{{ m.content }}{% endfor %}"
PARTS_ONLY = TEMPLATE.replace(
    "{{ m.content }}", "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
)

USER = {"role": "user", "content": "ab"}
ASSISTANT = {"role": "assistant", "content": "cd"}
TOOL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
TOOL_TURNS = [USER, {"role": "assistant", "content": "", "tool_calls": [TOOL]}, {"role": "tool", "content": "9"}]
PROMPT = "user: ab\nassistant: "


@pytest.fixture(scope="module")
def with_template(folder):
    """`with_template(text)`: the character tokenizer with that chat template and characters for tags."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder)
    loaded.add_tokens(list("<>_"))

    def make(template=TEMPLATE):
        made = copy.copy(loaded)
        made.chat_template = template
        return made

    return make


def packer_of(tokenizer, **options):
    packer = DecoderOnlyLLMDataPacker(**options)
    packer.setup(None, tokenizer)
    return packer


def prompt_text(tokenizer, item, **options):
    return tokenizer.decode(prompt_token_ids(packer_of(tokenizer, **options), item, tokenizer, where="row 7 of d"))


def trained_text(tokenizer, item, reference=None, **options):
    """Return the row's trajectory as text, with the trained parts in square brackets."""
    packer = packer_of(tokenizer, **options)
    (trajectory,) = sft_trajectories(packer, item, reference, tokenizer, where="row 7 of d")
    parts = [(tokenizer.decode(segment.tokens), segment.learns) for segment in trajectory.segments]
    return "".join(f"[{text}]" if learns else text for text, learns in parts)


PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ([USER], PROMPT),
        ([{"role": "user", "content": PARTS}], PROMPT),
        ([{"role": "user", "content": ["a", "b"]}], PROMPT),
        ([{"role": "user", "content": [{"type": "input_text", "text": "ab", "image_url": None}]}], PROMPT),
        ([USER | {"tool_calls": None, "name": None, "weight": 0}], PROMPT),
        ([USER | {"tool_calls": []}], PROMPT),
        ({"prompt": [USER], "messages": [USER, ASSISTANT]}, PROMPT),
        ({"prompt": "ab", "completion": "c", "answer": "d"}, "ab"),
        ({"messages": [USER], "tools": None}, PROMPT),
        ({"messages": [USER], "tools": []}, PROMPT),
        ({"messages": [USER], "tools": ""}, PROMPT),
        ({"messages": [USER], "tools": [TOOL]}, f"(f){PROMPT}"),
        ({"prompt": [USER], "tools": [TOOL]}, f"(f){PROMPT}"),
        ({"messages": [USER], "tools": json.dumps([TOOL])}, f"(f){PROMPT}"),
        ({"messages": [USER], "tools": [json.dumps(TOOL)]}, f"(f){PROMPT}"),
        (TOOL_TURNS, "user: ab\nassistant: (f)<eos>\ntool: 9\nassistant: "),
        ({"messages": [USER], "images": []}, PROMPT),
        ({"messages": [USER], "images": None}, PROMPT),
    ],
)
def test_a_prompt_is_read_from_each_form_of_a_row(item, text, with_template):
    assert prompt_text(with_template(), item) == text


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"prompt": "ab", "messages": [USER]}, "both 'prompt' and 'messages' are given"),
        ({"prompt": [ASSISTANT], "messages": [USER]}, "both 'prompt' and 'messages' are given"),
        ({"prompt": "ab", "tools": [TOOL]}, "'tools' go to the chat template, but 'prompt' is not chat messages"),
        ({"messages": [USER], "tools": "["}, "'tools' is text that isn't JSON"),
        ({"messages": [USER], "tools": {"a": 1}}, "'tools' is a dict, not a list"),
        ({"messages": [USER], "chat_template_kwargs": [1]}, "'chat_template_kwargs' is a list"),
        ({"messages": [USER], "images": ["x.png"]}, "the column 'images' can't be used"),
        ({"prompt": "ab", "audio": {"path": "x"}}, "the column 'audio' can't be used"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}], "message 0, .* of type 'image_url'"),
        ([USER, {"role": "user", "content": [{"type": "text", "text": None}]}], "message 1, .* whose text is None"),
        ([{"role": "user", "content": 3}], "message 0, from the user, has a int as content"),
        ([{"role": "user", "content": {"a": 1}}], "message 0, from the user, has a dict as content"),
        ([{"role": "user", "content": None}], "message 0, from the user, has neither content nor tool_calls"),
        ([{"role": "user"}], "message 0, from the user, has neither content nor tool_calls"),
        ([{"role": None, "content": "a"}], "the role of message 0 is None"),
        ([USER, ASSISTANT], r"ends with a message of the assistant's\. .*prefill = true"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "Turn 'conversations' into 'messages'"),
    ],
)
def test_a_row_that_can_not_be_read_in_one_way_is_an_error(item, message, with_template):
    with pytest.raises(DatasetError, match=f"(?s)^row 7 of d: .*{message}"):
        prompt_text(with_template(), item)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ([USER, ASSISTANT], "user: ab\nassistant: cd"),
        ({"prompt": [USER, ASSISTANT]}, "user: ab\nassistant: cd"),
        ([USER, {"role": "assistant", "content": ""}], "user: ab\nassistant: "),
        ([USER], PROMPT),
        ("ab", "ab"),
    ],
)
def test_a_prefill_is_continued(item, text, with_template):
    assert prompt_text(with_template(), item, prefill=True) == text


PREFILLED = {"prompt": [USER, {"role": "assistant", "content": "c"}], "completion": "d"}


@pytest.mark.parametrize("template", [TEMPLATE, MARKED], ids=["plain", "marked"])
@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"messages": [USER, ASSISTANT], "answer": "42"}, f"{PROMPT}[cd<eos>]"),
        ({"prompt": "x", "messages": [USER, ASSISTANT]}, f"{PROMPT}[cd<eos>]"),
        ({"prompt": [USER], "completion": [ASSISTANT]}, f"{PROMPT}[cd<eos>]"),
        ({"messages": [USER], "completion": [ASSISTANT]}, f"{PROMPT}[cd<eos>]"),
        (
            {"prompt": [USER, ASSISTANT, USER], "completion": [ASSISTANT]},
            f"{PROMPT}cd<eos>\n{PROMPT}[cd<eos>]",
        ),
        ([USER, ASSISTANT | {"weight": 0}, USER, ASSISTANT], f"{PROMPT}cd<eos>\n{PROMPT}[cd<eos>]"),
        ([USER, ASSISTANT | {"weight": 1}, USER, ASSISTANT | {"weight": 0}], f"{PROMPT}[cd<eos>]"),
        ([USER | {"weight": 0}, ASSISTANT | {"weight": None}], f"{PROMPT}[cd<eos>]"),
        ({"messages": [USER, {"role": "assistant", "content": PARTS}]}, f"{PROMPT}[ab<eos>]"),
        ({"messages": [USER, ASSISTANT], "tools": [TOOL]}, f"(f){PROMPT}[cd<eos>]"),
        ({"prompt": [USER], "completion": "cd", "tools": [TOOL]}, f"(f){PROMPT}[cd<eos>]"),
        ({"prompt": [USER], "completion": "cd", "answer": "42"}, f"{PROMPT}[cd<eos>]"),
        ({"prompt": [USER], "answer": "cd"}, f"{PROMPT}[cd<eos>]"),
    ],
)
def test_the_target_is_read_from_each_form_of_a_row(item, text, template, with_template):
    trained = trained_text(with_template(template), item)
    assert trained.startswith(text)
    assert "[" not in trained[len(text) :]


def test_reference_answers_are_targets_of_rows_without_one(with_template):
    tokenizer = with_template()
    assert trained_text(tokenizer, [USER], "cd") == f"{PROMPT}[cd<eos>]"
    assert trained_text(tokenizer, [USER], [ASSISTANT]) == f"{PROMPT}[cd<eos>]"
    assert trained_text(tokenizer, {"messages": [USER], "tools": [TOOL]}, "cd") == f"(f){PROMPT}[cd<eos>]"
    assert trained_text(tokenizer, {"prompt_token_ids": [13, 14]}, "cd").endswith("[cd<eos>]")


def test_a_prefill_and_its_completion_are_one_turn(with_template):
    assert trained_text(with_template(), PREFILLED, prefill=True) == "user: ab\nassistant: c[d<eos>]"
    with pytest.raises(DatasetError, match="prefill = true"):
        trained_text(with_template(), PREFILLED)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"messages": [USER, ASSISTANT], "completion": "42"}, "both 'messages' and 'completion' are given"),
        ({"prompt": [USER, ASSISTANT], "answer": "42"}, "both 'prompt' and 'answer' are given"),
        ({"prompt": "ab", "messages": [USER], "completion": "c"}, "both 'prompt' and 'messages' are given"),
        ({"prompt": "ab", "completion": [ASSISTANT]}, "'completion' is chat messages, but 'prompt' isn't"),
        ({"prompt": [USER], "completion": [USER]}, "'completion' ends with a message from the user"),
        ([ASSISTANT], "the conversation begins with the assistant"),
        ({"messages": [ASSISTANT]}, "the conversation begins with the assistant"),
        ([USER, ASSISTANT | {"weight": 0.5}], "the weight of message 1 is 0.5; it must be 0 or 1"),
        ([USER, ASSISTANT | {"weight": 0}], "all turns of the assistant have the weight 0"),
        ({"messages": [USER]}, "no target: .*reference_column"),
        ({"messages": [USER, ASSISTANT], "images": ["x.png"]}, "the column 'images' can't be used"),
    ],
)
def test_rows_without_one_clear_target_are_an_error(item, message, with_template):
    with pytest.raises(DatasetError, match=f"^row 7 of d: .*{message}"):
        trained_text(with_template(), item)


@pytest.mark.parametrize(
    ("template", "completion", "text"),
    [
        (THINKING, "<think>\na</think>b", f"{PROMPT}<think>\n[a</think>b<eos>]"),
        (THINKING, "<think>a</think>b", f"{PROMPT}<think>\n[a</think>b<eos>]"),
        (THINKING, "a</think>b", f"{PROMPT}<think>\n[a</think>b<eos>]"),
        (UNTHINKING, "<think>\n\n</think>\n\nb", f"{PROMPT}<think>\n\n</think>\n\n[b<eos>]"),
        (UNTHINKING, "b", f"{PROMPT}<think>\n\n</think>\n\n[b<eos>]"),
        (TEMPLATE, "<think>a</think>b", f"{PROMPT}[<think>a</think>b<eos>]"),
    ],
)
def test_a_tag_that_the_prompt_opens_is_not_opened_again(template, completion, text, with_template):
    assert trained_text(with_template(template), {"prompt": [USER], "completion": completion}) == text


def test_text_prompts_keep_their_tags(with_template):
    assert trained_text(with_template(), {"prompt": "a<p>", "completion": "<p>b"}) == "a<p>[<p>b<eos>]"


@pytest.mark.parametrize(
    ("template", "item", "message"),
    [
        (UNTHINKING, {"prompt": [USER], "completion": "<think>a</think>b"}, "for an answer without reasoning"),
        (THINKING.replace("{% for m in", "{% set k = '<think>\n\n</think>\n' %}{% for m in").replace(
            "{{ m.content }}", "{{ k if m.role == 'assistant' }}{{ m.content }}"),
         [USER, {"role": "assistant", "content": "<think>a</think>b"}], "opens <think> by itself"),
        (USERS_ONLY, [*TOOL_TURNS, ASSISTANT], "leaves out the content of message 2, from the tool: '9'"),
        (TEMPLATE, [USER, ASSISTANT | {"reasoning_content": "hm, hm"}], "leaves out the 'reasoning_content'"),
        (CONTENTS, [*TOOL_TURNS, ASSISTANT], "leaves out message 1's call of 'f'"),
        (CONTENTS, {"messages": [USER, ASSISTANT], "tools": [TOOL]}, "leaves out the row's tool 'f'"),
        (STRICT, [{"role": "system", "content": "s"}, USER, ASSISTANT],
         r"chat template of .* raised TemplateError: System role not supported.*instruction = \"\""),
        ("{% if %}", [USER, ASSISTANT], "TemplateSyntaxError.*Correct model.chat_template"),
        ("{{ messages[0].content + 1 }}", [USER, ASSISTANT], "chat template of .* raised TypeError.*The roles of"),
    ],
)  # fmt: skip
def test_what_a_template_makes_of_messages_is_compared_with_them(template, item, message, with_template):
    with pytest.raises((UsageError, DatasetError), match=f"(?s)^row 7 of d: .*{message}") as caught:
        trained_text(with_template(template), item)
    assert not isinstance(caught.value, PluginError)


def test_templates_that_read_content_parts_only_get_them(with_template):
    assert prompt_text(with_template(PARTS_ONLY), [USER]) == PROMPT
    assert trained_text(with_template(PARTS_ONLY), [USER, ASSISTANT]) == f"{PROMPT}[cd<eos>]"


@pytest.mark.parametrize("content", ["ab  ", "\nab", "a\tb"])
def test_content_that_a_template_only_trims_or_escapes_is_shown(content, with_template):
    for change in ("| trim", "| tojson", "| upper"):
        template = TEMPLATE.replace("m.content }}", f"m.content {change} }}}}")
        assert prompt_text(with_template(template), [USER | {"content": content}])


def test_arguments_of_the_template_come_from_the_row(with_template):
    template = "{{ 'no ' if not thinking }}" + TEMPLATE
    tokenizer = with_template(template)
    assert prompt_text(tokenizer, [USER]) == f"no {PROMPT}"
    row = {"messages": [USER], "chat_template_kwargs": {"thinking": True, "other": None}}
    assert prompt_text(tokenizer, row) == PROMPT
    assert trained_text(tokenizer, {**row, "completion": "cd"}) == f"{PROMPT}[cd<eos>]"


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        ({"content": "a", "tool_calls": None}, {"content": "a"}),
        ({"content": None, "tool_calls": [TOOL]}, {"content": None, "tool_calls": [TOOL]}),
        ({"tool_calls": [TOOL]}, {"tool_calls": [TOOL]}),
        (
            {"content": "", "tool_calls": [{"id": None, "function": {"name": "f", "arguments": {"x": 1, "y": None}}}]},
            {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
        ),
        ({"content": "a", "x": [{"k": None, "l": [None, {"m": None}]}]}, {"content": "a", "x": [{"l": [None, {}]}]}),
    ],
)  # fmt: skip
def test_keys_that_arrow_added_are_left_out_at_every_depth(message, cleaned):
    assert clean_messages([{"role": "assistant", **message}]) == [{"role": "assistant", **cleaned}]
