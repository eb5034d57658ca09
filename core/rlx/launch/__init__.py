"""The launcher's side of a run: from a checked plan to an exit code.

* run.py: `run(plan)`, one run from its directory to its exit code.
* run_dir.py: makes, locks and reopens run directories.
* changes.py: the changes that a resume makes to the config of its run.
* processes.py: the processes of a run and the boot data of each.
* supervisor.py: watches the processes and the controller until the run is over.
* silence.py: notices a controller that has stopped speaking, and finds out where it stands.
* outcome.py: how a run ended, and the report that the user gets.
* signals.py: Ctrl-C, SIGTERM, SIGHUP (a closed terminal), SIGQUIT.
* screen.py: stdout and stderr of the launcher, whose writes neither raise nor wait.
* environment.py: environment.json, the software that a run used.

Rules:

* This package is used by the process that the user starts, and by no other.
* The controller decides how a run ends. The launcher ends a run itself only if the controller is dead or silent, or if
  the user asks twice.
* No process of a run outlives `run`.
"""

from __future__ import annotations
