"""The health of a run: processes that start, die, stop responding or are restarted, and waits that take too long.

* `members.py`: `Members`, the processes of the run: readiness at the start, heartbeats from then on.
* `process_failures.py`: `ProcessFailures`, decides whether a failed process ends the run or is restarted.
* `policy_restarts.py`: `PolicyRestarts`, the attempts of the policy.
* `restarts.py`: `Restarts`, the replicas that are being restarted.
* `watchdog.py`: `Watchdog`, warns when nothing moves, and ends a run in which nothing moves for too long.
* `busy_time.py`: `BusyTime`, the time in which engines had requests.

Rules:

* Replicas that die are restarted, up to `rollout.restarts` times in a run, and so is the policy, up to
  `policy.restarts` times. The death of any other process ends the run.
* Reports about an attempt of a process that has been replaced are ignored.
"""
