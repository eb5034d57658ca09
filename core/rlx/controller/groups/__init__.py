"""Groups from lease to training: admission, placement on replicas, dropping, evaluation, and the ledger on disk.

* `groups.py`: `Groups`, all train groups that are leased or finished and not yet trained.
* `staleness.py`: `Window`, how far sampling may run ahead of training (pure logic).
* `placement.py`: `Placement`, the leases that each replica holds.
* `least_loaded.py`: `LeastLoaded`, the replica with the fewest groups out.
* `dropped_groups.py`: `Drops`, counts of dropped groups, and when to give up.
* `evaluation.py`: `Evaluation`, groups of the evaluation dataset.
* `ledger.py`: `Ledger`, the state of every group in SQLite.
* `resume.py`: the groups that a resumed run uses or samples again.

Rules:

* Every group that was leased is trained once or dropped with a reason; the ledger accounts for all of them.
* No group is trained at a step where it is staler than `async.max_staleness`.
* No tokens are trained that were sampled with weights that are not verified.
"""
