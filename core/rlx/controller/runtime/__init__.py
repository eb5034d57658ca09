"""Shared by every part of the controller: the config, the connections to the other processes, failures and progress.

* `services.py`: `Services`, the object that every part is constructed with.
* `failure.py`: `Failure`, the first error of the run, and the background tasks whose errors end it.
* `policy_state.py`: `PolicyState`, whether the policy is whole.
* `progress.py`: `Progress`, the current waits, and the time since anything moved.

Rules:

* This package imports no other part of the controller.
* No wait is endless: requests time out after `Services.patience` at the latest.
"""
