"""Training: an intervention of any form by any objective, from one recorded pass over the pairs."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.architectures import check_layer
from splitkit.steering.choosing.broken_text import BrokenText, fault
from splitkit.steering.formats.shipped import is_shipped
from splitkit.steering.formats.sources import source_of
from splitkit.steering.forms import get_form
from splitkit.steering.interventions import Intervention
from splitkit.steering.model_state.digest import active_adapters, model_digest
from splitkit.steering.model_state.placement import dtype_name
from splitkit.steering.model_state.token_choice import check_names
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.objectives import CLOSED, CONTROLS, OBJECTIVES, get_objective
from splitkit.steering.pairs import Pair
from splitkit.steering.prompts.settings import bos_ids, steered_tokens, unstated_bos
from splitkit.steering.prompts.templates import TemplateArguments, as_details
from splitkit.steering.replay import Replay, at_rest
from splitkit.steering.strengths import whole_number
from splitkit.steering.tokenization import Encoded, encode_pairs
from splitkit.steering.trainer import Rows, SharedRows, TrainConfig, Trainer, record_rows

LONG = 2.0
"""Minutes from which on a training is a long one."""

__all__ = ["TrainConfig", "default_config", "train"]


def default_config(form: str, objective: str) -> TrainConfig:
    """The project's settings for the embedded models: the official factors, learning rates to fit.

    A local weight under split has no mirrored direction, as in most of the official settings; dpo draws its
    direction at each step, as BiPO does.
    """
    chosen = get_form(form)
    lowest, highest, step = chosen.factors
    negative = chosen.mirrored.get(objective, get_objective(objective).mirrored)
    return TrainConfig(
        lr=chosen.lr, factor_min=lowest, factor_max=highest, factor_step=step, negative=negative
    )


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    form: str,
    objective: str,
    layer: int | None = None,
    seed: int = 0,
    *,
    tokens: str = "all",
    config: TrainConfig | None = None,
    progress: bool = False,
    shared: SharedRows | None = None,
    chat_template_kwargs: TemplateArguments | None = None,
    **overrides: Any,
) -> Intervention:
    """min over dW, db of E[objective(L_p, L_n)] under h' = h + m dh (Eq. 5), m drawn per example and step.

    The factors of a pair's two answers are drawn independently, as in the official code. In the mirrored
    direction (`negative`) the answer without the concept wins under a negated factor. Under "zero" that
    direction is a constant without a gradient, because here m = 0 is the base model; the official vector
    projects itself out instead. Another departure from the official code: RePS divides by the length of the
    answer, not of the whole sequence.

    Args:
        model, tokenizer: the base model, which stays frozen and as it is, and its tokenizer.
        pairs: the examples to learn from.
        form: "local_weight", "lora" or "vector".
        objective: "sft", "reps", "dpo", "split", or for a vector one that is not trained: "diffmean", and the
            controls "random" and "natural" (see `objectives.CLOSED`).
        layer: the layer to steer, from 0; the middle one for None.
        tokens: the tokens that are steered, in training and, unless others are named, in later use: "all"
            but BOS, those of the "answer" or of the "prompt", or the prompt's "last" one.
        seed: of order, factors, dropout and a LoRA's start, or of a control; nothing global is touched.
        config: all settings at once; `default_config(form, objective)` for None. Its lr was made for the
            shipped models: on any other one an lr that is not named is scaled to the residual stream's norm,
            the width and the number of steps (`choosing.learning_rate.scaled_rate`). What was chosen is in
            `details["chosen"]`, the push at the mean factor in `details["push"]`.
        progress: show bars of what is done and how long the rest takes, of the recording and of the steps,
            and the learning rate that was chosen.
        shared: recordings that trainings on the same unchanged model, layer and pairs share; closed forms do
            not use them.
        chat_template_kwargs: arguments of the chat template by name, as `{"enable_thinking": False}`; see
            `prompts.templates`. The intervention keeps them, and `sweep` and `answers` take them from it.
        overrides: single settings, as `lr=0.02`, or hyper-parameters of the objective, as `gamma=3.0`.

    Raises:
        TypeError: for a config that is no TrainConfig.
        ValueError: for an unknown form, objective or setting (with those there are), bad pairs, a layer out
            of range, a seed that is no whole number.
        FloatingPointError: when a loss is not finite, naming step and pair.

    Warns:
        BrokenText: where training probably broke the text: at the mean factor that it drew the stream is
            pushed by more than its own length, or the mean loss rose by a tenth between first and last epoch.
        UserWarning: where nothing is named and the training takes minutes, how many.
    """
    get_form(form)
    check_names(tokens)
    if objective not in (*OBJECTIVES, *CLOSED):
        raise ValueError(f"unknown objective {objective!r}; there are {', '.join((*CLOSED, *OBJECTIVES))}.")
    if config is not None and not isinstance(config, TrainConfig):
        raise TypeError(
            f"config is a {type(config).__name__}, not a splitkit.TrainConfig as TrainConfig(lr=0.05) makes "
            "one; single settings go in by name, as lr=0.05."
        )
    model = plain_model(model)
    layer, seed = check_layer(model, layer), whole_number("seed", seed, None)
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed is a whole number of 64 bits, not {seed}.")
    if not isinstance(shared, (SharedRows, type(None))):
        raise TypeError(f"shared is a trainer.SharedRows(), not a {type(shared).__name__}.")
    chosen = {} if tokens == "all" else {"tokens": tokens}
    if objective in CLOSED:
        if form != "vector":
            raise ValueError(
                f"{objective} is a closed form for the form 'vector', not for {form!r}: take form='vector', "
                f"or for {form!r} one of {', '.join(OBJECTIVES)}."
            )
        if config is not None or overrides:
            given = ", ".join(overrides) or "config"
            raise ValueError(f"{objective} is a closed form and has no settings: leave out {given}.")
        with at_rest(model):
            seen = _Recorded(model, tokenizer, pairs, layer, chat_template_kwargs, progress)
            parameters = {"vector": CLOSED[objective](seen, seed).float().cpu()}
        details: dict[str, Any] = {"pairs": len(pairs), **chosen}
        details |= {"seed": seed} if objective in CONTROLS else {}
        details |= _base(model, tokenizer, chat_template_kwargs)
        return Intervention(form, objective, layer, parameters, model_digest(model), details)
    scaled = config is None and "lr" not in overrides and not is_shipped(model.name_or_path or "")
    config = _configured(config or default_config(form, objective), objective, overrides)
    with (
        at_rest(model),
        # whatever a caller's notebook is in
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        trainer = Trainer(
            model,
            tokenizer,
            pairs,
            form,
            objective,
            layer,
            seed,
            config,
            shared,
            tokens,
            chat_template_kwargs,
            progress,
            scaled,
        )
        if trainer.chosen and progress:
            tqdm.write(f"{form} {objective}: {trainer.chosen}")
        start = time.perf_counter()
        with tqdm(total=trainer.steps, disable=not progress, desc=f"{form} {objective}") as bar:
            for loss in trainer:
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
                if scaled and not progress and len(trainer.losses) == 1:
                    _tell_time(time.perf_counter() - start, trainer.steps)
        pushed = trainer.push()
    if said := fault(pushed, trainer.factor, trainer.epoch_losses()):
        warnings.warn(
            f"{said}: free text may be broken at every strength. Read answers, or train anew with a smaller "
            f"lr than {trainer.config.lr:g}.",
            BrokenText,
            stacklevel=2,
        )
    details = {"config": asdict(trainer.config), "seed": seed, "pairs": len(pairs)}
    details |= {"losses": trainer.epoch_losses(), **_base(model, tokenizer, chat_template_kwargs), **chosen}
    details |= {"chosen": trainer.chosen, "push": pushed} if scaled else {}
    parameters = {name: values.detach().cpu() for name, values in trainer.parameters.items()}
    return Intervention(form, objective, layer, parameters, model_digest(model), details)


def _tell_time(first: float, steps: int) -> None:
    """Warn where a training, by its first step's seconds, is a long one."""
    if (minutes := first * steps / 60) > LONG:
        warnings.warn(
            f"this training takes about {minutes:.0f} minutes ({steps} steps); progress=True shows how far "
            "it is, fewer epochs take less.",
            stacklevel=3,
        )


def _base(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, given: TemplateArguments | None
) -> dict[str, Any]:
    """Details of a base model and its prompts: type, adapters, BOS and template arguments, where any."""
    adapters = {"adapters": found} if (found := active_adapters(model)) else {}
    known = {"dtype": dtype_name(model), **source_of(model), **adapters}
    return {**known, **unstated_bos(model, tokenizer), **as_details(given)}


def _configured(config: TrainConfig, objective: str, overrides: dict[str, Any]) -> TrainConfig:
    """`config` with single settings replaced; an unknown one is an error."""
    settings = [item.name for item in fields(TrainConfig) if item.name != "weights"]
    weights = OBJECTIVES[objective].defaults
    unknown = sorted((set(overrides) | set(config.weights)) - set(settings) - set(weights))
    if unknown:
        raise ValueError(
            f"unknown setting {', '.join(unknown)}; there are {', '.join(settings)}, "
            f"and for {objective} {', '.join(weights) or 'no more'}."
        )
    chosen = {name: value for name, value in overrides.items() if name in weights}
    rest = {name: value for name, value in overrides.items() if name not in weights}
    return replace(config, weights={**weights, **config.weights, **chosen}, **rest)


class _Recorded:
    """`objectives.Activations` of some pairs, recorded where they are asked for."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pairs: Sequence[Pair],
        layer: int,
        chat_template_kwargs: TemplateArguments | None,
        progress: bool,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._replay = Replay(model, layer, "vector")
        self._sides = encode_pairs(model, tokenizer, pairs, chat_template_kwargs)
        self.progress = progress
        self.questions, self.width = [pair.question for pair in pairs], self._replay.sites.width

    def answers(self, positive: bool) -> Float[Tensor, "token hidden"]:
        sequences = self._sides[0 if positive else 1]
        rows = self._rows(sequences)
        return torch.cat([row["output"][s.prompt_length :] for row, s in zip(rows, sequences, strict=True)])

    def text(self, pair: int) -> Float[Tensor, "token hidden"]:
        sequence = self._sides[1][pair]
        (row,) = self._rows([sequence])
        steered = steered_tokens(torch.tensor([sequence.ids]), bos_ids(self._model))[0]
        return row["output"][steered.to(row["output"].device)]

    def _rows(self, sequences: Sequence[Encoded]) -> Rows:
        return record_rows(self._replay, self._tokenizer, sequences, self.progress)
