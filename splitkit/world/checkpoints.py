"""Checkpoints of pretraining: safetensors, so that nothing that is read can run code."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel


class Checkpoint:
    """Model, optimizer and step in one safetensors file, written whole or not at all."""

    def __init__(self, file: Path, model: PreTrainedModel, optimizer: torch.optim.AdamW) -> None:
        self.file, self.model, self.optimizer = file, model, optimizer
        self.names = [name for name, _ in model.named_parameters()]

    def save(self, step: int) -> None:
        tensors = {"step": torch.tensor(step)}
        for name, parameter in self.model.named_parameters():
            tensors[f"model.{name}"] = parameter.detach().contiguous()
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value.contiguous()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".part")
        save_file(tensors, temporary)
        temporary.replace(self.file)

    def load(self) -> int:
        """Restores model and optimizer if there is a checkpoint; returns the step to go on from."""
        if not self.file.exists():
            return 0
        tensors = load_file(self.file)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
                self.optimizer.state[parameter] = {
                    key: tensors[f"optimizer.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                }
        return int(tensors["step"])
