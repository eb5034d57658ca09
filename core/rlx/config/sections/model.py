"""`[model]`: the policy that is trained, and its tokenizer."""

from __future__ import annotations

from rlx.config.sections.base import Section


class ModelConfig(Section):
    """The policy that is trained, and its tokenizer."""

    path: str
    """Hugging Face folder or Hub name."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    tokenizer: str | None = None
    """Folder or Hub name of the tokenizer, if it is not the model's."""
    plugin: str | None = None
    """An `rlx.models` plugin. Default: the one keyed by the model's `model_type`, else `hf`."""
    trust_remote_code: bool = False
    """Run Python code from the model's folder."""
    chat_template: str | None = None
    """A Jinja chat template (text) to use in place of the tokenizer's."""
