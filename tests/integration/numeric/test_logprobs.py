"""Chunked log-probabilities and entropies against those of full logits: values and gradients."""

from __future__ import annotations

import pytest
import torch

from rlx.policy.model.logprobs import LMHead, logits_logprobs, token_logprobs

TOKENS, HIDDEN, VOCABULARY = 7, 5, 23


@pytest.fixture
def tensors():
    source = torch.Generator().manual_seed(3)

    def draw(*shape):
        return (3 * torch.randn(*shape, generator=source, dtype=torch.float64)).requires_grad_()

    targets = torch.randint(0, VOCABULARY, (TOKENS,), generator=source)
    return draw(TOKENS, HIDDEN), draw(VOCABULARY, HIDDEN), draw(VOCABULARY), targets


def full_logits_reference(hidden, weight, bias, targets, *, temperature, scale, softcap):
    logits = scale * (hidden @ weight.T + (0 if bias is None else bias))
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logprobs = (logits / temperature).log_softmax(-1)
    return logprobs[torch.arange(len(targets)), targets], -(logprobs.exp() * logprobs).sum(-1)


OPTIONS = pytest.mark.parametrize(
    ("temperature", "scale", "softcap"), [(1.0, 1.0, None), (0.6, 1.0, None), (0.6, 0.25, None), (1.3, 0.5, 4.0)]
)


@OPTIONS
@pytest.mark.parametrize("chunk", [1, 4, 22, 23, 1000])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_full_logits(tensors, chunk, biased, temperature, scale, softcap):
    hidden, weight, bias, targets = tensors
    inputs = [hidden, weight, *([bias] if biased else [])]
    head = LMHead(weight, bias if biased else None, scale, softcap)
    logprobs, entropy = token_logprobs(hidden, head, targets, temperature=temperature, chunk=chunk)
    expected, expected_entropy = full_logits_reference(
        hidden, weight, bias if biased else None, targets, temperature=temperature, scale=scale, softcap=softcap
    )
    torch.testing.assert_close(logprobs, expected)
    torch.testing.assert_close(entropy, expected_entropy.detach())
    assert not entropy.requires_grad
    upstream = torch.linspace(-1, 2, TOKENS, dtype=torch.float64)
    for seen, wanted in zip(
        torch.autograd.grad(logprobs, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(seen, wanted)


@OPTIONS
def test_gradients_are_those_of_finite_differences(tensors, temperature, scale, softcap):
    hidden, weight, bias, targets = tensors

    def function(hidden, weight, bias):
        return token_logprobs(hidden, LMHead(weight, bias, scale, softcap), targets, temperature=temperature, chunk=6)[
            0
        ]

    assert torch.autograd.gradcheck(function, (hidden, weight, bias))


@pytest.mark.parametrize("rows", [2, 100])
def test_logits_that_a_model_computed_give_the_same_values(tensors, rows):
    hidden, weight, _, targets = tensors
    logits = hidden @ weight.T
    logprobs, entropy = logits_logprobs(logits, targets, temperature=0.6, chunk=rows)
    expected = full_logits_reference(hidden, weight, None, targets, temperature=0.6, scale=1.0, softcap=None)
    torch.testing.assert_close((logprobs, entropy.requires_grad), (expected[0], False))
    torch.testing.assert_close(entropy, expected[1].detach())


def test_large_logits_stay_finite(tensors):
    hidden, weight, _, targets = tensors
    logprobs, entropy = token_logprobs(1e4 * hidden, LMHead(weight), targets, temperature=1.0, chunk=4)
    assert logprobs.isfinite().all()
    assert entropy.isfinite().all()
    assert (logprobs <= 0).all()


def test_low_precision_inputs_give_float32_and_their_own_gradients(tensors):
    hidden, weight, _, targets = (tensor.detach() for tensor in tensors)
    narrow = [tensor.bfloat16().requires_grad_() for tensor in (hidden, weight / 10)]
    logprobs, entropy = token_logprobs(narrow[0], LMHead(narrow[1]), targets, temperature=1.0, chunk=8)
    assert logprobs.dtype == entropy.dtype == torch.float32
    gradients = torch.autograd.grad(logprobs.sum(), narrow)
    wide = [tensor.detach().double().requires_grad_() for tensor in narrow]
    expected = torch.autograd.grad(
        token_logprobs(wide[0], LMHead(wide[1]), targets, temperature=1.0, chunk=8)[0].sum(), wide
    )
    for seen, wanted in zip(gradients, expected, strict=True):
        assert seen.dtype == torch.bfloat16
        assert float((seen.double() - wanted).norm() / wanted.norm()) < 0.02


def test_float32_weights_work_with_bfloat16_states(tensors):
    hidden, weight, _, targets = (tensor.detach() for tensor in tensors)
    weight = weight.float().requires_grad_()
    token_logprobs(hidden.bfloat16(), LMHead(weight), targets, temperature=1.0, chunk=8)[0].sum().backward()
    assert weight.grad.dtype == torch.float32


def test_no_targets_give_empty_results_and_zero_gradients():
    hidden, weight = torch.zeros(0, HIDDEN, requires_grad=True), torch.ones(VOCABULARY, HIDDEN, requires_grad=True)
    logprobs, entropy = token_logprobs(
        hidden, LMHead(weight), torch.zeros(0, dtype=torch.int64), temperature=1.0, chunk=4
    )
    logprobs.sum().backward()
    assert logprobs.shape == entropy.shape == (0,)
    assert not weight.grad.any()


@pytest.mark.parametrize(("temperature", "chunk"), [(0.0, 4), (-1.0, 4), (1.0, 0)])
def test_invalid_settings_are_refused(tensors, temperature, chunk):
    hidden, weight, _, targets = tensors
    with pytest.raises(ValueError, match="temperature must be > 0 and chunk >= 1"):
        token_logprobs(hidden, LMHead(weight), targets, temperature=temperature, chunk=chunk)
