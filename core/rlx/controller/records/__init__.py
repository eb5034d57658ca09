"""The results of a run: metrics, checkpoints, trajectory files and the summary.

* `metrics.py`: metrics of a step, a weight sync and an evaluation, from messages.
* `bad_rows.py`: `BadRows`, the dataset rows that were dropped because they can't be used.
* `summary.py`: `Totals` of the run, and the content of summary.json.
* `checkpoint.py`: checkpoint folders (begin, commit, load, prune), and the controller's part of their content.
* `manifest.py`: checksums of a checkpoint's files.
* `best.py`: the best version so far by an evaluation metric.
* `trajectories.py`: episodes as Parquet files.
* `samples.py`: completions of one group, for loggers.

Rules:

* This package imports no other part of the controller.
* A reward of None was not scored: it is left out of means, never counted as 0.
"""
