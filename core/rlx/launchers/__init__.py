"""Launchers: start and end the processes of a run.

* base.py: the contract of a launcher plugin (`Launcher`, `ProcessHandle`, `ProcessSpec`).
* local.py: the launcher `local`, which starts every process on this machine.
* make.py: makes the launcher that a config names.
* nanny.py: the process above each process of a run, which ends its whole tree.
* linux.py: the two kernel features that both rely on.

Rules:

* A launcher starts, kills and reports. The supervisor (`rlx.launch.supervisor`) makes all decisions.
* No process of a run outlives its launcher, however the launcher ends.
"""
