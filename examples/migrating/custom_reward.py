"""A custom reward, in place of the config's: `rlx run --config dapo.toml custom_reward.py`."""

import random
from typing import Any, Optional

from custom_entry import MathDapoDataset

from rlx import launch_worker


def custom_reward_fn(to_be_evaluated: str, reference: Optional[Any] = None, *args, **kwargs) -> float:
    assert isinstance(reference, str), "Reference answer should be a string"
    # For demo purpose, we just return a random float
    # In practice, you should implement your own reward function
    return random.random()


if __name__ == "__main__":
    launch_worker(
        dataset=MathDapoDataset(),
        reward_fns=[custom_reward_fn],
    )
