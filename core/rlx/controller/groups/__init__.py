"""Groups from lease to training: admission, placement on replicas, dropping, evaluation, and the ledger on disk.

* `groups.py`: `Groups`, all training groups that are leased or finished and not yet trained.
* `staleness.py`: `Window`, decides how far sampling runs ahead and which groups a step trains (pure logic).
* `placement.py`: `Placement`, assigns leases to replicas and keeps track of them.
* `least_loaded.py`: `LeastLoaded`, finds the replica with the fewest leases.
* `received.py`: checks a group that a replica sends, before anything is trained on it.
* `dropped_groups.py`: `Drops`, counts dropped groups, and fails the run if there are too many in a row.
* `evaluation.py`: `Evaluation`, samples and scores groups of the evaluation dataset.
* `ledger.py`: `Ledger`, the state of every group in SQLite.
* `resume.py`: decides which groups a resumed run uses, and which it samples again.

Rules:

* Every leased group is trained once or dropped with a reason; the ledger accounts for all of them.
* No group is trained at a step where it is staler than `async.max_staleness`.
* Tokens are trained only after the weights that sampled them are verified.
"""
