"""Asks a remote scorer over HTTP, with retries.

* An attempt is retried if no answer comes in time, the connection breaks, or the status is one of RETRIED. Waits
  double, plus up to 50 % of random jitter, so that many processes don't retry at the same moment. `Retry-After` in
  seconds is obeyed.
* Each attempt carries the same request id.
* Any other answer is final. A malformed answer is a RewardError, and so is the last failed attempt.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from rlx import RewardError

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of failures that may be transient."""
SHOWN = 300
"""Characters of an answer shown in an error."""


class Answer(msgspec.Struct, frozen=True):
    """A scorer's answer. msgspec accepts no text, boolean, NaN or infinity as a number."""

    rewards: list[float | None]
    metrics: list[dict[str, float]] | None = None

    def all_metrics(self) -> list[dict[str, float]]:
        return [{} for _ in self.rewards] if self.metrics is None else self.metrics


@dataclass(frozen=True)
class RetryPolicy:
    """How long one attempt may take, how many retries follow the first, and the wait before the first retry."""

    attempt_seconds: float
    retries: int
    backoff_seconds: float

    def wait(self, retry: int, retry_after: float) -> float:
        """Return the seconds before retry number `retry`, from 0; at least `retry_after`, which the scorer set."""
        jitter = random.uniform(1.0, 1.5)  # noqa: S311 - no secret
        return max(self.backoff_seconds * 2.0**retry * jitter, retry_after)


class _AttemptFailed(Exception):  # noqa: N818 - internal: the request may still succeed
    """An attempt failed in a way that may be transient. `retry_after`: seconds to wait, if the scorer set them."""

    def __init__(self, problem: str, retry_after: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class Scorer:
    """A scorer, reached through `client`, which has no timeouts of its own."""

    def __init__(self, client: httpx2.AsyncClient, url: str, retry_policy: RetryPolicy) -> None:
        self._client = client
        self._url = url
        self._retry_policy = retry_policy

    async def ask(self, prompt: str, reference: Any, completions: Sequence[str]) -> Answer:
        """Ask for the rewards of a prompt's completions.

        Raises RewardError if all attempts fail, or the answer doesn't have a reward for each completion.
        """
        request_id = uuid.uuid4().hex
        question = {"request_id": request_id, "prompt": prompt, "reference": reference, "completions": completions}
        response = await self._send(msgspec.json.encode(question), request_id)
        return self._read(response, request_id, len(completions))

    async def _send(self, content: bytes, request_id: str) -> httpx2.Response:
        began = time.monotonic()
        for retry in range(self._retry_policy.retries + 1):
            try:
                return await self._attempt(content, request_id)
            except _AttemptFailed as failure:
                last = failure
            if retry < self._retry_policy.retries:
                await asyncio.sleep(self._retry_policy.wait(retry, last.retry_after))
        raise RewardError(
            f"The scorer at {self._url} did not answer request {request_id}: {last} "
            f"({self._retry_policy.retries + 1} attempts in {time.monotonic() - began:.1f} s)."
        ) from last

    async def _attempt(self, content: bytes, request_id: str) -> httpx2.Response:
        headers = {"Content-Type": "application/json", "X-Request-ID": request_id}
        try:
            async with asyncio.timeout(self._retry_policy.attempt_seconds):
                response = await self._client.post(self._url, content=content, headers=headers)
        except TimeoutError:
            raise _AttemptFailed(f"no answer within {self._retry_policy.attempt_seconds:g} s") from None
        except (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ProxyError) as error:
            raise _AttemptFailed(f"{type(error).__name__}: {error}") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RewardError(f"The scorer at {self._url} can't be reached: {type(error).__name__}: {error}") from error
        if response.status_code in RETRIED:
            raise _AttemptFailed(_status(response), _retry_after(response))
        return response

    def _read(self, response: httpx2.Response, request_id: str, completions: int) -> Answer:
        if not response.is_success:
            raise self._refused(request_id, _status(response))
        try:
            answer = msgspec.json.decode(response.content, type=Answer)
        except msgspec.MsgspecError as error:
            raise self._refused(request_id, f"{error}, in {_shown(response)}") from error
        if not len(answer.rewards) == len(answer.all_metrics()) == completions:
            counts = (
                f"{len(answer.rewards)} rewards and {len(answer.all_metrics())} metrics for {completions} completions"
            )
            raise self._refused(request_id, f"{counts}, in {_shown(response)}")
        return answer

    def _refused(self, request_id: str, problem: str) -> RewardError:
        return RewardError(
            f"The scorer at {self._url} did not answer request {request_id} with "
            f'{{"rewards": [one number for each completion]}}: {problem}'
        )


def _status(response: httpx2.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}, {_shown(response)}"


def _shown(response: httpx2.Response) -> str:
    return repr(response.text[:SHOWN])


def _retry_after(response: httpx2.Response) -> float:
    """Return the seconds to wait; 0 if the header is missing or names a date."""
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else 0.0
