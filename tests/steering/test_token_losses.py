"""Head: losses in chunks equal the plain ones, and so do their gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from splitkit.steering import token_losses
from splitkit.steering.token_losses import token_losses_from_hidden


def plain(hidden, layer, targets, cap):
    logits = layer(hidden)
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return functional.cross_entropy(logits.float(), targets, reduction="none")


@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("chunk", "rows"), [(1, 4), (250, 128), (10**6, 1)])
def test_equals_the_plain_loss_and_gradient(monkeypatch, cap, bias, chunk, rows) -> None:
    monkeypatch.setitem(token_losses.CHUNK, "cpu", chunk)
    monkeypatch.setattr(token_losses, "ROWS", rows)
    torch.manual_seed(0)
    layer = nn.Linear(16, 50, bias=bias).requires_grad_(False)
    layer.weight.mul_(8)
    targets, weights = torch.randint(50, (23,)), torch.randn(23)
    one = torch.randn(23, 16, requires_grad=True)
    two = one.detach().clone().requires_grad_()
    found, expected = token_losses_from_hidden(one, layer, targets, cap), plain(two, layer, targets, cap)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-5, atol=1e-5)


def test_large_logits_do_not_overflow() -> None:
    layer = nn.Linear(4, 6, bias=False).requires_grad_(False)
    hidden = torch.full((2, 4), 1e4)
    found = token_losses_from_hidden(hidden, layer, torch.tensor([0, 5]))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, plain(hidden, layer, torch.tensor([0, 5]), None))


def test_half_precision_is_summed_in_float32() -> None:
    torch.manual_seed(1)
    layer = nn.Linear(8, 40, bias=False).to(torch.bfloat16).requires_grad_(False)
    hidden = torch.randn(5, 8, dtype=torch.bfloat16)
    found = token_losses_from_hidden(hidden, layer, torch.arange(5))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(hidden, layer, torch.arange(5), None))


@pytest.mark.parametrize(("vocabulary", "expected"), [(3328, [157, 143]), (49152, [128, 128, 44])])
def test_a_product_has_enough_rows_whatever_the_vocabulary(monkeypatch, vocabulary, expected) -> None:
    seen: list[int] = []
    multiply = torch.mm

    def counted(one, two, out):
        seen.append(len(one))
        return multiply(one, two, out=out)

    monkeypatch.setattr(torch, "mm", counted)
    layer = nn.Linear(2, vocabulary, bias=False).requires_grad_(False)
    token_losses_from_hidden(torch.randn(300, 2), layer, torch.zeros(300, dtype=torch.long))
    assert seen == expected
