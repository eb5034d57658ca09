"""Trials of a run's plugins: they do a little of what a run will have them do.

* rows.py: datasets and packers: rows are read and tokenised; lengths.py: their lengths against the limits;
  scan.py: all rows are.
* rewards.py: each reward is called for a few rows, in a process of its own.
* objects.py: launcher and loggers are made, in a process of their own: maker.py is its program.
* progress.py: reports trials that take long.

Rule: a plugin may do anything. Its errors get its name and its place in the config, and its processes end.
"""
