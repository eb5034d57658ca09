"""The health of a run: processes that start, die, fall silent or are restarted, and waits that take too long.

* `members.py`: `Members`, the processes of the run: readiness at the start, heartbeats from then on.
* `process_failures.py`: `ProcessFailures`, whether the death of a process ends the run or restarts a replica.
* `restarts.py`: `Restarts`, the replicas that are being restarted.
* `watchdog.py`: `Watchdog`, warns when nothing moves, and ends a run in which nothing moves for too long.
* `busy_time.py`: `BusyTime`, seconds in which engines had requests.

Rules:

* A replica that dies is restarted up to `rollout.restarts` times in a run. The death of any other process ends the run.
* Reports about an attempt of a process that has been replaced are ignored.
"""
