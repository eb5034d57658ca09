from __future__ import annotations

import asyncio
import socket

import pytest
from pydantic import ValidationError

from rlx.errors import ConfigError, RewardError
from rlx.rewards.bound import BoundReward, check_reward_args
from rlx_rewards import HttpOptions, HttpReward
from rlx_rewards.scorer import RetryPolicy

from .conftest import Reply

TEXTS = ["a", "bb", "ccc"]


def reward(url, **options):
    return HttpReward(HttpOptions(url=url, **{"backoff_seconds": 0.0, "attempt_seconds": 20.0, **options}))


async def test_a_group_is_sent_in_one_request(server):
    assert await reward(server.url)(TEXTS, "gold", prompt="?") == ([1, 2, 3], [{}, {}, {}])
    (question,) = server.asked
    assert question == {
        "request_id": server.headers[0]["X-Request-ID"],
        "prompt": "?",
        "reference": "gold",
        "completions": TEXTS,
    }
    assert server.headers[0]["Content-Type"] == "application/json"


async def test_a_single_text_gets_one_reward(server):
    server.replies = [Reply(body={"rewards": [0.5], "metrics": [{"chars": 1}], "model": "judge-7"})]
    assert await reward(server.url)("a", None) == (0.5, {"chars": 1.0})
    assert server.asked[0]["completions"] == ["a"]
    assert server.asked[0]["reference"] is None


async def test_batches_keep_the_order(server):
    texts = ["x" * n for n in (5, 3, 1, 4, 2)]
    assert (await reward(server.url, batch_size=2)(texts, None))[0] == [5, 3, 1, 4, 2]
    assert sorted(len(question["completions"]) for question in server.asked) == [1, 2, 2]
    assert len({question["request_id"] for question in server.asked}) == 3


async def test_metrics_and_unscored_completions_are_returned(server):
    metrics = [{"judge": 1.0}, {}, {"judge": 0.25}]
    server.replies = [Reply(body={"rewards": [1, None, -2.5], "metrics": metrics})]
    assert await reward(server.url)(TEXTS, {"gold": [1, "x"]}) == ([1, None, -2.5], metrics)
    assert server.asked[0]["reference"] == {"gold": [1, "x"]}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_transient_errors_are_retried_with_the_same_request_id(server, status):
    server.replies = [Reply(status, "busy"), Reply(status, "busy")]
    assert (await reward(server.url, retries=2)(TEXTS, None))[0] == [1, 2, 3]
    assert len(server.asked) == 3
    assert len({question["request_id"] for question in server.asked}) == 1
    assert {headers["X-Request-ID"] for headers in server.headers} == {server.asked[0]["request_id"]}


async def test_two_calls_have_different_request_ids(server):
    judge = reward(server.url)
    await judge(TEXTS, None)
    await judge(TEXTS, None)
    assert server.asked[0]["request_id"] != server.asked[1]["request_id"]


@pytest.mark.parametrize("reply", [Reply(silent=True), Reply(hangs_up=True)])
async def test_a_lost_answer_is_retried(server, reply):
    server.replies = [reply]
    assert (await reward(server.url, attempt_seconds=1.0)(TEXTS, None))[0] == [1, 2, 3]
    assert server.asked[0] == server.asked[1]


async def test_the_last_answer_is_reported_after_the_retries(server):
    server.replies = [Reply(500, "first"), Reply(503, "the model is loading")]
    with pytest.raises(RewardError) as caught:
        await reward(server.url, retries=1)(TEXTS, None)
    assert f"The scorer at {server.url} did not answer request {server.asked[0]['request_id']}" in str(caught.value)
    assert "503 Service Unavailable, 'the model is loading' (2 attempts in " in str(caught.value)


async def test_no_answer_in_time_is_an_error(server):
    server.replies = [Reply(silent=True)]
    with pytest.raises(RewardError, match=r"no answer within 0\.1 s \(1 attempts in "):
        await reward(server.url, attempt_seconds=0.1, retries=0)(TEXTS, None)


async def test_a_server_that_is_down_is_an_error():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(RewardError, match=rf"The scorer at {url} did not answer .* ConnectError: .* \(3 attempts in "):
        await reward(url, retries=2)(TEXTS, None)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 422, 501])
async def test_a_refusal_is_not_retried(server, status):
    server.replies = [Reply(status, "no such thing: " + "x" * 500)]
    with pytest.raises(
        RewardError, match=rf"did not answer request \w+ .*: {status} .*, 'no such thing: x+'"
    ) as caught:
        await reward(server.url)(TEXTS, None)
    assert len(server.asked) == 1
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>", "JSON is malformed"),
        ("", "truncated"),
        ([1, 2, 3], "Expected `object`, got `array`"),
        ({"reward": [1, 2, 3]}, "missing required field `rewards`"),
        ({"rewards": 1.0}, "Expected `array`"),
        ({"rewards": [1, "2", 3]}, r"got `str` - at `\$\.rewards\[1\]`"),
        ({"rewards": [1, True, 3]}, r"got `bool` - at `\$\.rewards\[1\]`"),
        ('{"rewards": [1, NaN, 3]}', "JSON is malformed"),
        ('{"rewards": [1, 1e999, 3]}', r"out of range - at `\$\.rewards\[1\]`"),
        ({"rewards": []}, "0 rewards and 0 metrics for 3 completions"),
        ({"rewards": [1, 2]}, "2 rewards and 2 metrics for 3 completions"),
        ({"rewards": [1, 2, 3, 4]}, "4 rewards and 4 metrics for 3 completions"),
        ({"rewards": [1, 2, 3], "metrics": [{}]}, "3 rewards and 1 metrics for 3 completions"),
        ({"rewards": [1, 2, 3], "metrics": [{"a": "b"}, {}, {}]}, "got `str`"),
    ],
)
async def test_an_invalid_answer_is_not_retried(server, body, message):
    server.replies = [Reply(body=body)]
    with pytest.raises(RewardError, match=message) as caught:
        await reward(server.url)(TEXTS, None)
    assert server.url in str(caught.value)
    assert server.asked[0]["request_id"] in str(caught.value)
    assert len(server.asked) == 1


async def test_one_failed_batch_fails_the_group(server):
    server.replies = [Reply(400, "no")]
    with pytest.raises(RewardError, match="400 Bad Request"):
        await reward(server.url, batch_size=1)(TEXTS, None)
    assert len(server.asked) == 3


def test_one_reward_works_in_successive_event_loops(server):
    judge = reward(server.url)
    for _ in range(2):
        assert asyncio.run(judge(TEXTS, None))[0] == [1, 2, 3]


def test_waits_double_and_respect_retry_after():
    policy = RetryPolicy(attempt_seconds=1.0, retries=3, backoff_seconds=0.5)
    for retry, shortest in enumerate([0.5, 1.0, 2.0]):
        waits = [policy.wait(retry, 0.0) for _ in range(100)]
        assert shortest <= min(waits) < max(waits) <= 1.5 * shortest
    assert policy.wait(0, 7.0) == 7.0
    assert policy.wait(3, 0.1) >= 4.0


@pytest.mark.parametrize(("asked", "waited"), [({"Retry-After": "7"}, 7.0), ({"Retry-After": "Wed, 21 Oct"}, 0.0)])
async def test_a_retry_waits_as_long_as_the_retry_after_header(server, monkeypatch, asked, waited):
    waits = []
    sleep = asyncio.sleep
    monkeypatch.setattr("rlx_rewards.scorer.asyncio.sleep", lambda seconds: (waits.append(seconds), sleep(0))[1])
    server.replies = [Reply(429, "slowly", asked)]
    await reward(server.url)(TEXTS, None)
    assert waits == [waited]


async def test_headers_take_secrets_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")
    judge = reward(server.url, headers={"Authorization": "Bearer ${JUDGE_TOKEN}", "X-Price": "$$5"})
    await judge(TEXTS, None)
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert server.headers[0]["X-Price"] == "$5"


async def test_a_header_that_cannot_be_sent_is_an_error(server):
    with pytest.raises(RewardError, match=f"The scorer at {server.url} can't be reached: LocalProtocolError"):
        await reward(server.url, headers={"X-Bad": "a\nb"})(TEXTS, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "url: this is missing"),
        ({"url": "localhost:8000/score"}, "url = 'localhost:8000/score' isn't an http:// or https:// address"),
        ({"url": "ftp://judge/score"}, "isn't an http:// or https:// address"),
        ({"url": "http:///score"}, "isn't an http:// or https:// address"),
        ({"url": "http://judge", "batch_size": 0}, "batch_size: must be greater than 0"),
        ({"url": "http://judge", "retries": -1}, "retries: must be at least 0"),
        ({"url": "http://judge", "attempt_seconds": 0}, "attempt_seconds: must be greater than 0"),
        ({"url": "http://judge", "headers": {"A": "$NO_SUCH_VARIABLE"}}, "variable NO_SUCH_VARIABLE is not set"),
        ({"url": "http://judge", "headers": {"A": "5$"}}, r"headers\.A: write \$\$ for a dollar sign"),
        ({"url": "http://judge", "timeout": 5}, "timeout: unknown key."),
    ],
)
def test_invalid_options_are_errors_before_any_request(options, message):
    with pytest.raises(ConfigError, match=message):
        check_reward_args(HttpReward, options, owner="reward 'http'")
    with pytest.raises(ValidationError):
        HttpOptions(**options)


def test_http_reward_is_a_group_reward_and_accepts_only_the_prompt():
    bound = BoundReward(HttpReward, {"url": "http://judge"})
    assert bound.group
    assert bound.accepts == {"prompt"}
