"""`[model]`: the policy that is trained, and its tokenizer."""

from __future__ import annotations

from pydantic import Field

from rlx.config.sections.base import Section


class ModelConfig(Section):
    """The policy that is trained, and its tokenizer."""

    path: str = Field(min_length=1)
    """Hugging Face folder or Hub name."""
    revision: str | None = Field(None, min_length=1)
    """Branch, tag or commit on the Hub."""
    tokenizer: str | None = Field(None, min_length=1)
    """Folder or Hub name of the tokenizer, if it is not the model's."""
    plugin: str | None = None
    """An `rlx.models` plugin. Default: the one keyed by the model's `model_type`, else `hf`."""
    trust_remote_code: bool = False
    """Run Python code from the model's folder."""
    chat_template: str | None = Field(None, min_length=1)
    """A Jinja chat template (text) to use in place of the tokenizer's."""
