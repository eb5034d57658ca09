"""Packing: from the episodes of a step to the micro-batches of one rank.

Files:
    batch.py             MicroBatch, its outputs, and the protocol of a packed row's layout
    step_plan.py         plans the micro-batches of a step, the same plan on every rank
    cuts.py              cuts a step's sequences into batches, by memory and work
    packed_attention.py  causal attention over a packed row in which sequences share prompts

Rules:

* Packed rows hold no padding, and a prompt that completions of a group share only once. Padded rows hold one sequence
  each, padded on the right.
* Planning needs no communication.
"""

from __future__ import annotations
