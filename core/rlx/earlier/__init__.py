"""Work on the directory of a run that has ended, without the run's processes.

* directory.py: opens the directory: its config, its checkpoints, a lock against a run that goes on.
* generate.py: `rlx generate`, completions by a run or a model.
* ledger.py: `rlx ledger`, the groups of a run by state, and checks of the ledger.
* export.py: `rlx export`, a checkpoint as a Hugging Face folder.

Rules:

* A run that is going on keeps its directory for itself: nothing here works on it, except ledger.py, which only reads.
* No file that the run has written is changed.
"""
