"""Datasets: the source of a run's prompts or SFT rows, and the order in which they are read.

* base.py: the contract, `Dataset`.
* open.py: make and set up the dataset that a config names.
* view.py: read an opened dataset: rows, reference answers, fingerprint.
* order.py: which row a group samples.

Rule: a row is read by its number, and is the same in every process.
"""
