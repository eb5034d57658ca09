"""Final answers of mathematics: finds them in completions, and compares them with the reference.

From a completion to a verdict:

* `find`: the answer in a completion: the last box, or what follows the last "answer:".
* `clean`: one notation for Unicode, LaTeX and Markdown.
* `read`: which kind of answer it is, and its parts; `kinds` defines the kinds.
* `numbers`: numbers as exact fractions; when a rounded one counts.
* `units`: units of measurement, percent, currencies.
* `compare`: kind by kind, what is equal.
* `algebra`: expressions, by computing them with sympy.
"""
