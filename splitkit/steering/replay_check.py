"""Proofs: a model cut at a layer computes what the whole model does; for sites that no test covers."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from splitkit.steering.forms import tensor_shapes
from splitkit.steering.interventions import Intervention
from splitkit.steering.models import model_digest
from splitkit.steering.tokenization import Batch

if TYPE_CHECKING:
    from splitkit.steering.replay import Replay

_ROWS, _TOKENS = 2, 8


@torch.no_grad()
def prove_replay(model: PreTrainedModel, layer: int, replay: "Replay") -> None:
    """L under h' = h + m dh (Eq. 5), replayed, equals L of the whole model under hooks, on made-up ids.

    A random dh as large as the layer's output is added to one row and taken from the other.

    Raises:
        ValueError: when the two losses differ by more than rounding does, or the part does not run at all.
    """
    kind = model.config.model_type
    hint = (
        f"splitkit.steering.architectures.SITES[{kind!r}] = SitePaths(...) does not describe this model: "
        "look for a norm after the down-projection (after_down_path), a learned embedding of positions "
        "(position_path), or another residual_path. Logits that are scaled after the head cannot be replayed."
    )
    batch, m = _batch(model).to(model.device), torch.tensor([1.0, -1.0], device=model.device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        recording = replay.record(batch)
        raw = _intervention(model, layer, replay, 1.0)
        unit = recording.activations["output"].float().norm() / raw.delta(recording.x).norm()
        iv = _intervention(model, layer, replay, unit.item())
        found = replay.losses(recording, iv.delta(recording.x), m)
        with iv.applied(model, m):
            expected = _losses(model, batch)
        base = _losses(model, batch)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{hint} ({type(error).__name__}: {error})") from error
    finally:
        for module, mode in modes:
            module.training = mode
    # float32 leaves room for another order of summation, a narrower type for its own rounding
    allowed = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
    worst = (found - expected).abs().max().item()
    if not worst <= allowed * (1 + (expected - base).abs().max().item()):
        raise ValueError(f"{hint} (The loss differs by {worst:.2g} nats per token.)")


def _intervention(model: PreTrainedModel, layer: int, replay: "Replay", scale: float) -> Intervention:
    generator = torch.Generator().manual_seed(0)
    shapes = tensor_shapes(replay.form, replay.sites.down_width, replay.sites.width, rank=1)
    last = list(shapes)[-1]
    parameters = {
        # of a LoRA's two factors only one carries the scale
        name: (1.0 if replay.form == "lora" and name != last else scale)
        * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }
    return Intervention(replay.form, "random", layer, parameters, model_digest(model))


def _batch(model: PreTrainedModel) -> Batch:
    ids = torch.randint(model.config.vocab_size, (_ROWS, _TOKENS), generator=torch.Generator().manual_seed(0))
    bos = getattr(model.config, "bos_token_id", None)
    if bos is not None:
        ids[:, 0] = bos
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    answer = mask.bool().clone()
    answer[:, :3] = False
    return Batch(torch.arange(_ROWS), ids, mask, answer)


def _losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).logits.to(batch.input_ids.device)
    each = functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), batch.input_ids[:, 1:], reduction="none"
    )
    answer = batch.answer_mask[:, 1:]
    return (each * answer).sum(1) / answer.sum(1)
