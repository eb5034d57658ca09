"""Rewards: functions that score completions, called in separate processes.

* base.py: the contract: what a reward is called with and may return, and `group_reward`.
* bound.py: a reward with its options, ready to be called; checks of options and signature.
* result.py: the result of a call as scores.
* roles.py: which rewards of a config score which groups, and what they count for.
* pool.py: the processes and their queue; scoring.py: one group's calls and scores; process.py: one process.
* worker.py: the program of a reward process; call.py: one call in it; lazy.py: objects that load on first use.
* messages.py: frames between pool and worker; serialization.py: which data can be sent.

Rule: a reward that fails is an error with its name and the completion, never a reward of 0.
"""
