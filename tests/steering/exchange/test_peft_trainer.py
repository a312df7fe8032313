"""transformers' Trainer with SPLIT: the losses and adapters that our own training has."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate: pip install '.[trainer]'")

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import TrainingArguments

from splitkit.steering.exchange.peft_trainer import SplitTrainer
from splitkit.steering.pairs import Pair
from splitkit.steering.trainer import TrainConfig, Trainer
from tests.conftest import LAYER, tiny_model, tiny_tokenizer

# no BOS, which peft steers and we do not
TOKENIZER = tiny_tokenizer(None)
PAIRS = [
    Pair("Do you like the sea?", " Yes. The sea is calm.", " No."),
    Pair("Who?", " A sailor, of course.", " A farmer who grows apples."),
    Pair("And now?", " Swim.", " Sit down."),
]


def peft_model() -> PeftModel:
    lora = LoraConfig(r=4, lora_alpha=4, target_modules=[f"model.layers.{LAYER}.mlp.down_proj"])
    return get_peft_model(tiny_model("qwen2"), lora)


def arguments(folder: Path, **changed: object) -> TrainingArguments:
    given = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 3,
        "learning_rate": 0.05,
        "weight_decay": 0.0,
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(str(folder), **given | changed)


@pytest.mark.parametrize(("m", "mirrored", "accumulated"), [(1.0, False, 1), (0.6, True, 3)])
def test_its_losses_are_ours(m: float, mirrored: bool, accumulated: int, tmp_path: Path) -> None:
    negative = "negated" if mirrored else "none"
    config = TrainConfig(
        0.05, epochs=3, batch_size=3, dropout=0, factor_min=m, factor_max=m, negative=negative
    )
    ours = Trainer(tiny_model("qwen2"), TOKENIZER, PAIRS, "lora", "split", LAYER, 0, config)
    model = peft_model()
    (layer,) = (module for module in model.modules() if hasattr(module, "lora_A"))
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(ours.parameters["A"])
        layer.lora_B["default"].weight.copy_(ours.parameters["B"])
    args = arguments(
        tmp_path, per_device_train_batch_size=3 // accumulated, gradient_accumulation_steps=accumulated
    )
    theirs = SplitTrainer(model, args, PAIRS, TOKENIZER, PAIRS, factors=(m,), mirrored=mirrored)
    theirs.train()
    losses = [entry["loss"] for entry in theirs.state.log_history if "loss" in entry]
    assert losses == pytest.approx(list(ours), abs=2e-5)
    for name, found in (("A", layer.lora_A), ("B", layer.lora_B)):
        torch.testing.assert_close(found["default"].weight, ours.parameters[name], rtol=0, atol=1e-5)
    assert layer.scaling == {"default": 1.0}
    assert theirs.evaluate()["eval_loss"] < 20


def test_wrong_input_is_told(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    with pytest.raises(ValueError, match="has no LoRA"):
        SplitTrainer(tiny_model("qwen2"), args, PAIRS, TOKENIZER)
    with pytest.raises(ValueError, match="no weight 'beta'; it has lambda_p"):
        SplitTrainer(peft_model(), args, PAIRS, TOKENIZER, weights={"beta": 1.0})
    with pytest.raises(ValueError, match="one strength or more"):
        SplitTrainer(peft_model(), args, PAIRS, TOKENIZER, factors=())
    with pytest.raises(ValueError, match="list of pairs is empty"):
        SplitTrainer(peft_model(), args, [], TOKENIZER)
