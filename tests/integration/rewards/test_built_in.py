"""Rewards that come with rlx, called through the pool."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from rlx.errors import RewardError
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.rewards.pool import RewardPool
from rlx.rewards.scoring import RewardInput


@pytest.fixture
def scorer():
    """The URL of a scorer and the groups it was asked for. It returns lengths, and refuses completions with an x."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["completions"]
            requests.append(texts)
            self.send_response(422 if "x" in "".join(texts) else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"rewards": [len(text) for text in texts]}).encode())

        def log_message(self, *_): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", requests
        server.shutdown()
        thread.join()


@pytest.fixture
def built_in(boot, tmp_path):
    """`built_in({"name": "http", ...})`: a pool with rewards that come with rlx."""

    def make(*rewards: dict) -> RewardPool:
        made = boot()
        records = [resolve("rewards", reward["name"], discover(), tmp_path) for reward in rewards]
        config = {**made.config, "rewards": list(rewards)}
        return RewardPool(msgspec.structs.replace(made, config=config, plugins=[*made.plugins, *records]))

    return make


def group(*texts: str) -> list[RewardInput]:
    return [RewardInput(text, "12", prompt="7+5=", token_ids=range(len(text))) for text in texts]


async def test_a_remote_scorer_gets_one_request_for_a_group(built_in, scorer):
    url, requests = scorer
    async with built_in({"name": "http", "args": {"url": url}}) as pool:
        scores = await pool.score(group("1", "22", "333"), "train")
    assert [one.rewards[0].value for one in scores] == [1.0, 2.0, 3.0]
    assert requests == [["1", "22", "333"]]


async def test_a_remote_scorer_may_get_one_request_for_each_completion(built_in, scorer):
    url, requests = scorer
    async with built_in({"name": "http", "args": {"url": url}, "group": False}) as pool:
        scores = await pool.score(group("1", "22"), "train")
    assert [one.rewards[0].value for one in scores] == [1.0, 2.0]
    assert sorted(requests) == [["1"], ["22"]]


@pytest.mark.parametrize(("on_error", "drop"), [("fail", False), ("drop", True)])
async def test_the_refusal_of_a_remote_scorer_is_an_error_and_not_a_zero(built_in, scorer, on_error, drop):
    url, _ = scorer
    async with built_in({"name": "http", "args": {"url": url}, "on_error": on_error}) as pool:
        with pytest.raises(RewardError, match=f"The scorer at {url} did not answer .* 422") as caught:
            await pool.score(group("1", "x"), "train")
    assert caught.value.owner.startswith("reward 'http' (rlx ")
    assert caught.value.drop is drop


async def test_overlong_compares_the_sampled_tokens_with_the_limit_of_the_run(built_in):
    async with built_in({"name": "overlong"}, {"name": "gsm8k"}) as pool:
        completions = [RewardInput("#### 12", "12", token_ids=[7] * length) for length in (1, 410, 461, 512)]
        scores = await pool.score(completions, "train")
    # rollout.max_tokens is 512: the penalty grows over the last 102 tokens.
    assert [one.rewards[0].value for one in scores] == [0.0, 0.0, -0.5, -1.0]
    assert [one.rewards[1].value for one in scores] == [1.0] * 4
