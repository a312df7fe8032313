"""Kinds: pairs of form and objective, and the cell, which is one of them for a model, a task and a seed."""

from dataclasses import dataclass

WEIGHT_CELLS: tuple[tuple[str, str], ...] = tuple(
    (form, objective) for form in ("local_weight", "lora") for objective in ("sft", "reps", "split")
)
DPO_CELLS: tuple[tuple[str, str], ...] = tuple((form, "dpo") for form in ("local_weight", "lora", "vector"))
"""The paper has scores of DPO (Table 4) and no curves."""
VECTOR_CELLS: tuple[tuple[str, str], ...] = tuple(
    ("vector", objective) for objective in ("diffmean", "sft", "reps", "split")
)


@dataclass(frozen=True, order=True)
class Cell:
    """One model x task x form x objective x seed."""

    model: str
    task: str
    form: str
    objective: str
    seed: int = 0

    @property
    def slug(self) -> str:
        """A file name's worth of the cell, as in 'embedded-qwen2_axbench-ocean_vector_split_0'."""
        parts = (self.model, self.task, self.form, self.objective, str(self.seed))
        return "_".join(part.replace("/", "-") for part in parts)

    def __str__(self) -> str:
        return f"{self.model} {self.task} {self.form} {self.objective} seed {self.seed}"
