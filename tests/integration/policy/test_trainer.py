"""The trainer on one rank: weights, metrics, scores and checkpoints."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from rlx.algorithms.grpo import GRPO
from rlx.algorithms.sft import SFT
from rlx.config.sections.policy import PolicyConfig
from rlx.episodes import Episode, single_turn
from rlx.errors import RunError
from rlx.policy.train.optimizer import Optimizer
from rlx.policy.train.trainer import Trainer
from rlx.policy.weights import checkpoint
from rlx.policy.weights.full_weights import FullWeights
from rlx.policy.weights.saved_weights import SavedWeights
from rlx.policy.weights.writer import save


@pytest.fixture
def make(world, build):
    """`make(folder, algorithm, **policy)`: a trainer, its built model and its optimizer."""

    def trainer(folder, algorithm, **policy):
        config = PolicyConfig.model_validate({"dtype": "float32", "optimizer": {"lr": 1e-2}, **policy})
        built = build(folder, **policy)
        optimizer = Optimizer(dict(built.network.named_parameters()), config.optimizer, 10)
        return Trainer(world, built.model, optimizer, algorithm, config), built, optimizer

    return trainer


def _gathered(built):
    return {name: tensor.clone() for bucket in FullWeights(built, None).buckets() for name, tensor in bucket}


@pytest.mark.parametrize("work", ["score", "evaluate"])
def test_a_forward_pass_alone_leaves_the_master_weights_in_place(make, tied, sequences, groups, work):
    """A forward pass gathers weights rounded to bfloat16, which must not be the ones that are sent or saved."""
    trainer, built, _ = make(tied, SFT(), dtype="bfloat16")
    if work == "score":
        trainer.score(sequences)
    else:
        trainer.evaluate([episode for group in groups(0) for episode in group])
    assert all(isinstance(parameter, DTensor) for parameter in built.network.parameters())
    source = load_file(tied / "model.safetensors")
    assert all(torch.equal(tensor, source[name]) for name, tensor in _gathered(built).items())


def test_every_weight_is_trained(make, untied, groups):
    trainer, built, _ = make(untied, GRPO())
    before = _gathered(built)
    trainer.train(groups(0))
    after = _gathered(built)
    assert trainer.step == 1
    for group, advantages in zip(groups(0), trainer.advantages, strict=True):
        rewards = torch.tensor([episode.total_reward for episode in group])
        deviations = rewards - rewards.mean()
        torch.testing.assert_close(torch.tensor(advantages), deviations / (rewards.std() + 1e-4), atol=1e-3, rtol=1e-3)
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_mismatch_is_measured_on_the_sampled_tokens(make, tied, groups):
    trainer, _, _ = make(tied, GRPO())
    made = groups(0)
    flat = [episode for group in made for episode in group]
    trajectories = [episode.trajectories[0] for episode in flat]
    scores = trainer.score([trajectory.tokens for trajectory in trajectories])
    completions = [row[-len(t.segments[1].tokens) :] for row, t in zip(scores, trajectories, strict=True)]
    policy = torch.tensor([logprob for row in completions for logprob in row])
    sampler = torch.tensor([x for trajectory in trajectories for x in trajectory.segments[1].logprobs])
    metrics = trainer.train(made)
    difference = policy - sampler
    assert metrics["tokens/trained"] == len(sampler)
    assert metrics["mismatch/logprob_diff_mean"] == pytest.approx(float(difference.abs().mean()), rel=1e-5)
    assert metrics["mismatch/logprob_diff_max"] == pytest.approx(float(difference.abs().max()), rel=1e-5)
    kl = (difference.exp() - 1 - difference).mean()
    assert metrics["mismatch/kl"] == pytest.approx(float(kl), rel=1e-4)


def test_a_step_without_trained_tokens_is_an_error(make, tied):
    trainer, _, _ = make(tied, GRPO())
    with pytest.raises(RunError, match="Step 0 has no token to learn from"):
        trainer.train([[Episode(0, 0, 0, [single_turn([5, 6], [])])]])


def test_a_checkpoint_restores_weights_moments_and_random_state(make, world, tied, groups, tmp_path):
    trainer, built, optimizer = make(tied, GRPO())
    trainer.train(groups(0))
    save(tmp_path / "c", world, built, optimizer, trainer.step)
    moments = {name: tensor.full_tensor().clone() for name, tensor in optimizer.moments().items()}
    weights, drawn = _gathered(built), torch.rand(3)
    _, restored, other_optimizer = make(tied, GRPO())
    assert checkpoint.load(tmp_path / "c", world, restored.network, other_optimizer) == 1
    assert torch.equal(torch.rand(3), drawn)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in _gathered(restored).items())
    assert all(torch.equal(t.full_tensor(), moments[name]) for name, t in other_optimizer.moments().items())
    assert any(tensor.abs().sum() > 0 for tensor in moments.values())
    assert not [path for path in (tmp_path / "c").iterdir() if path.suffix not in {".json", ".safetensors"}]


class _Malicious:
    """Unpickling this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _pickles(folder, trap):
    """Put pickles everywhere in a checkpoint where a reader may look for one."""
    payload = pickle.dumps(_Malicious(str(trap)))
    torch.save(_Malicious(str(trap)), folder / "state.pt")
    for name in (".metadata", "__0_0.distcp", "pytorch_model.bin", "x.pkl"):
        (folder / name).write_bytes(payload)


def test_nothing_in_a_checkpoint_is_ever_unpickled(make, world, tied, groups, tmp_path):
    trainer, built, optimizer = make(tied, GRPO())
    trainer.train(groups(0))
    folder, trap = tmp_path / "c", tmp_path / "trap"
    save(folder, world, built, optimizer, trainer.step)
    _pickles(folder, trap)
    found = []
    # An audit hook can't be removed: it does nothing after this test.
    sys.addaudithook(lambda event, _: found.append(event) if found is not None and "pickle" in event else None)
    pickle.loads(pickle.dumps(Path("x")))
    assert found == ["pickle.find_class"], "the hook sees what is unpickled"
    found.clear()
    assert checkpoint.load(folder, world, built.network, optimizer) == 1
    weights = SavedWeights(folder, built.network, built.mapper)
    assert sum(len(bucket) for bucket in weights.buckets()) > 0
    for name in [path.name for path in folder.glob("*.safetensors")]:
        (folder / name).write_bytes(pickle.dumps(_Malicious(str(trap))))
    with pytest.raises(RunError, match="cannot be read: "):
        checkpoint.load(folder, world, built.network, optimizer)
    with pytest.raises(RunError, match="cannot be read: "):
        SavedWeights(folder, built.network, built.mapper)
    (folder / "state.json").write_bytes(pickle.dumps(_Malicious(str(trap))))
    with pytest.raises(RunError, match="isn't a complete checkpoint"):
        checkpoint.load(folder, world, built.network, optimizer)
    assert found == []
    assert not trap.exists()
    found = None


def test_a_checkpoint_of_another_model_is_not_exported(make, world, tied, untied, tmp_path):
    _, built, optimizer = make(tied, GRPO())
    _, other, _ = make(untied, GRPO())
    save(tmp_path / "c", world, built, optimizer, 1)
    assert SavedWeights(tmp_path / "c", built.network, built.mapper).step == 1
    with pytest.raises(RunError, match=r"isn't a checkpoint of this model: lm_head\.weight, model\.layers"):
        SavedWeights(tmp_path / "c", other.network, other.mapper)


def test_an_incomplete_checkpoint_is_refused(make, world, tied, tmp_path):
    _, built, optimizer = make(tied, GRPO())
    with pytest.raises(RunError, match="isn't a complete checkpoint"):
        checkpoint.load(tmp_path, world, built.network, optimizer)
