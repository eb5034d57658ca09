"""Compare the lengths of tokenised rows with the tokens that the model, or the config, has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlx.config.schema import Config
from rlx.errors import ConfigError, DatasetError, UsageError, first_line
from rlx.preflight.checks.model_facts import ModelFacts
from rlx.preflight.checks.problems import Problems

NAMED_ROWS = 5
"""Rows that a message names."""
BROKEN_ROWS = 3
"""Rows that can't be used and that are reported as problems."""


@dataclass(frozen=True)
class Limit:
    """The most tokens that a sequence may have."""

    tokens: int
    named: str
    """Its name, in the config or of the model."""


@dataclass
class Lengths:
    """The lengths of the rows of a dataset that were tokenised."""

    rows: int
    """Rows that the run uses, tokenised or not."""
    tokens: Mapping[int, int] = field(default_factory=dict)
    """Row -> tokens: of the prompt (RL), or of the longest sequence of the row (SFT)."""
    bad: dict[int, UsageError] = field(default_factory=dict)
    """Row -> why it can't be used, other than its length; of many, the first."""
    further_bad: int = 0
    """Rows that can't be used and that are not among the `bad`."""

    @property
    def longest(self) -> int:
        return max(self.tokens.values(), default=0)

    def above(self, limit: int) -> list[int]:
        """Return the rows with more tokens than `limit`."""
        return [row for row, tokens in self.tokens.items() if tokens > limit]

    def of_tried(self, count: int) -> str:
        """Return `count` as a part of the rows that were tried: `3 of 24 rows`, `3 of 64 rows tried`."""
        total = len(self.tokens) + len(self.bad) + self.further_bad
        tried = "" if total == self.rows else " tried"
        return f"{count:,} of {total:,} rows{tried}"

    def listed(self, rows: Sequence[int]) -> str:
        """Return the first of `rows` with their tokens, and how many more there are."""
        named = [f"row {row} has {self.tokens[row]:,} tokens" for row in rows[:NAMED_ROWS]]
        more = len(rows) - len(named)
        return ", ".join(named) + (f", and {more:,} more" if more else "")


def engine_limit(config: Config, facts: ModelFacts) -> Limit | None:
    """Return the limit for prompt and completion together; None if it isn't known."""
    given = config.rollout.vllm.get("max_model_len")
    if isinstance(given, int) and given > 0:
        return Limit(given, f"[rollout.vllm] max_model_len = {given}")
    return Limit(facts.context, f"the model's context of {facts.context} tokens") if facts.context else None


def sft_limit(config: Config, facts: ModelFacts) -> Limit | None:
    """Return the limit for a row of SFT; None if it isn't known."""
    given = config.policy.max_sequence_tokens
    if given is not None:
        return Limit(given, f"[policy] max_sequence_tokens = {given}")
    return Limit(facts.context, f"the model's context of {facts.context} tokens") if facts.context else None


def check_completions_fit(config: Config, facts: ModelFacts, problems: Problems) -> None:
    """Add a problem for each `max_tokens` that leaves no room for a prompt."""
    limit = engine_limit(config, facts)
    asked = {"[rollout] max_tokens": config.rollout.max_tokens}
    if config.eval is not None and config.eval.max_tokens is not None:
        asked["[eval] max_tokens"] = config.eval.max_tokens
    for key, tokens in asked.items():
        if limit is not None and limit.tokens <= tokens:
            context = f"the model's context is {limit.tokens} tokens" if limit.tokens == facts.context else limit.named
            problems.add(ConfigError(f"{key} = {tokens} leaves no room for a prompt: {context}."))


def report_prompts(
    lengths: Lengths,
    limit: Limit | None,
    max_tokens: int,
    problems: Problems,
    *,
    table: str,
    key: str,
    drop: bool = False,
) -> None:
    """Report prompts without room for a completion, and completions that are cut before they have `max_tokens`.

    table, key: the places of the dataset and of `max_tokens` in the config. drop: whether rows with such a prompt are
    dropped (`on_bad_row`).
    """
    if limit is None:
        return
    too_long = lengths.above(limit.tokens - 1)
    if too_long:
        text = (
            f"{table}: the prompts of {lengths.of_tried(len(too_long))} leave no room for a completion in "
            f"{limit.named}: {lengths.listed(too_long)}."
        )
        if drop and len(too_long) < len(lengths.tokens):
            problems.note(f"{text} {_dropped(table)}")
        else:
            advice = "Shorten these prompts or leave out their rows"
            advice += "." if drop else f', or set {table} on_bad_row = "drop".'
            problems.add(DatasetError(f"{text}\n{advice}"))
    cut = [row for row in lengths.above(limit.tokens - max_tokens) if row not in set(too_long)]
    if cut:
        shortest = limit.tokens - max(lengths.tokens[row] for row in cut)
        problems.note(
            f"{key} = {max_tokens}: completions of {lengths.of_tried(len(cut))} of {table} are cut before that, since "
            f"prompt and completion share {limit.named}: at {shortest} tokens after the longest prompt."
        )


def report_sequences(lengths: Lengths, limit: Limit | None, problems: Problems, *, table: str, drop: bool) -> None:
    """Report rows of SFT that are too long to be trained on. `drop`: as for `report_prompts`."""
    too_long = lengths.above(limit.tokens) if limit is not None else []
    if limit is None or not too_long:
        return
    text = f"{table}: {lengths.of_tried(len(too_long))} are longer than {limit.named}: {lengths.listed(too_long)}."
    if drop and len(too_long) < len(lengths.tokens):
        problems.note(f"{text} {_dropped(table)}")
    else:
        problems.add(DatasetError(f"{text}\nShorten or leave out these rows."))


def report_bad(lengths: Lengths, problems: Problems, *, table: str, drop: bool) -> None:
    """Report rows that can't be used. They are problems if rows are not dropped, or if no row can be used."""
    if drop and lengths.tokens:
        rows = list(lengths.bad)
        if rows:
            named = "; ".join(first_line(lengths.bad[row]) for row in rows[:NAMED_ROWS])
            total = len(rows) + lengths.further_bad
            more = f"; and {total - NAMED_ROWS:,} more" if total > NAMED_ROWS else ""
            count = lengths.of_tried(total)
            problems.note(f"{table}: {count} can't be used: {named}{more}. {_dropped(table)}")
        return
    for error in list(lengths.bad.values())[:BROKEN_ROWS]:
        problems.add(error, table)


def _dropped(table: str) -> str:
    return f'{table} on_bad_row = "drop": such rows are dropped and counted.'
