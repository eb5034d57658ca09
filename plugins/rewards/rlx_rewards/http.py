"""`http`: scores from your own service, behind an HTTP endpoint.

All completions of a prompt go into one request (`batch_size` limits how many; with `group = false` in the config, each
goes alone). The protocol is one JSON object each way:

    POST url
    X-Request-ID: 5f1c...
    {"request_id": "5f1c...", "prompt": "7+5=", "reference": "12", "completions": ["12", "13"]}

    200 OK
    {"rewards": [1.0, 0.0], "metrics": [{"chars": 2}, {"chars": 2}]}

* There are as many rewards as completions, in their order; null means "not scored". `metrics` may be left out; other
  keys are ignored.
* Transient failures are retried (`scorer.py`) with the SAME request id, so that a service that has done the work
  already can answer from its cache.
* Any other answer is an error with the URL, the request id and the answer. It never counts as a reward of 0.
"""

from __future__ import annotations

import asyncio
import os
import string
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlx_rewards.scorer import Answer, RetryPolicy, Scorer


class HttpOptions(BaseModel):
    """Address of the scorer, and how long to keep trying."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: str
    """`http://...` or `https://...`"""
    batch_size: int | None = Field(None, gt=0)
    """Completions in one request, at most; default: all of a prompt. The requests of one prompt are sent at once."""
    attempt_seconds: float = Field(10.0, gt=0)
    """How long one attempt may take. All attempts and waits must fit into the reward's `timeout_seconds`."""
    retries: int = Field(3, ge=0)
    """Attempts after the first."""
    backoff_seconds: float = Field(0.5, ge=0)
    """The wait before the first retry; it doubles from one to the next."""
    headers: dict[str, str] = {}
    """Sent with each request. `${NAME}` is an environment variable, so that a config and its copies hold no secrets."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url = {self.url!r} isn't an http:// or https:// address")
        self.sent_headers()
        return self

    def sent_headers(self) -> dict[str, str]:
        """Return the headers, with environment variables filled in. Raises ValueError if one isn't set."""
        return {name: _substituted(name, value) for name, value in self.headers.items()}


class HttpReward:
    """A group reward that asks your own service over HTTP about all completions of a prompt at once."""

    group_reward = True

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._headers = options.sent_headers()
        self._retry_policy = RetryPolicy(options.attempt_seconds, options.retries, options.backoff_seconds)
        self._tls = httpx2.create_ssl_context()  # made once: it takes 20 ms

    async def __call__(
        self,
        to_be_evaluated: str | Sequence[str],
        reference: Any = None,
        *,
        prompt: str = "",
    ) -> tuple[Any, Any]:
        """Return (reward, metrics) for a text, lists of both for several. Raises RewardError if the scorer fails."""
        if isinstance(to_be_evaluated, str):
            rewards, metrics = await self._scores([to_be_evaluated], reference, prompt)
            return rewards[0], metrics[0]
        return await self._scores(to_be_evaluated, reference, prompt)

    async def _scores(
        self, texts: Sequence[str], reference: Any, prompt: str
    ) -> tuple[list[float | None], list[dict[str, float]]]:
        size = self._options.batch_size or len(texts)
        batches = [list(texts[start : start + size]) for start in range(0, len(texts), size)]
        # A client of its own for each call: the next may come from another event loop.
        async with httpx2.AsyncClient(headers=self._headers, timeout=None, verify=self._tls) as client:
            scorer = Scorer(client, self._options.url, self._retry_policy)
            requests = [scorer.ask(prompt, reference, batch) for batch in batches]
            answers = _all(await asyncio.gather(*requests, return_exceptions=True))
        return (
            [reward for answer in answers for reward in answer.rewards],
            [metrics for answer in answers for metrics in answer.all_metrics()],
        )


def _substituted(name: str, value: str) -> str:
    try:
        return string.Template(value).substitute(os.environ)
    except KeyError as error:
        raise ValueError(f"headers.{name}: the environment variable {error.args[0]} is not set") from None
    except ValueError:
        raise ValueError(f"headers.{name}: write $$ for a dollar sign, ${{NAME}} for an environment variable") from None


def _all(answers: Sequence[Answer | BaseException]) -> list[Answer]:
    """Return the answers. Raises the first error, if any."""
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if isinstance(answer, Answer)]
