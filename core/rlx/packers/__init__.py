"""Packers: turn dataset items into the token ids that an engine reads and a trainer learns from.

* base.py: the contract, `DataPacker`, and the default, `DecoderOnlyLLMDataPacker`.
* protocol.py: the type of any packer, for code that calls one.
* tokenizer.py: the type of a tokenizer, and how a run loads its own.
* open.py: make and set up the packer that a config names.
* row_shapes.py: the forms of a dataset item: where its prompt is, and where its target.
* messages.py, chat_template.py: bring chat messages into one form, and render them with the chat template.
* thinking.py: keep the template's `<think>` from being opened twice.
* prompt.py: dataset item -> prompt token ids.
* loss_mask.py: for RL, which of the sampled tokens are trained.
* sft_rows.py, chat_turns.py: for SFT, dataset row -> trajectories with trained targets.
* batches.py: call a packer and read back the batches that it collates.

Rule: prompts and targets are tokenised here, once. From then on, tokens are the source of truth.
"""
