"""One optimizer step of the policy: losses and gradients of a step's micro-batches, and the update.

Files:
    trainer.py    trains on groups, scores sequences, evaluates; adds up metrics over ranks
    optimizer.py  AdamW over sharded parameters, learning rate schedule, gradient clipping
    sft_data.py   dataset rows as the episodes that SFT trains on

Rule: losses are shares of the step's loss, normalised by counts over the whole step, so the result doesn't depend on
the number of ranks or micro-batches.
"""
