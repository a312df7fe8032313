"""A classifier of a task's concept in texts: TF-IDF and logistic regression on answers that no split uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from splitkit.datasets.examples import NO_CONCEPT, Example
from splitkit.datasets.files import fetch, import_extra
from splitkit.datasets.splits import SIZES, cut
from splitkit.datasets.tasks import CONCEPTS, task_rows
from splitkit.steering.pairs import PAPER

FOLDS = 5


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier, the area under its ROC curve by cross-validation, and the texts of each class."""

    pipeline: Any
    auc: float
    positives: int
    negatives: int

    def probability(self, texts: Sequence[str]) -> np.ndarray:
        """The probability of the concept in every text, (text,) in 0 to 1."""
        return self.pipeline.predict_proba(list(texts))[:, 1] if len(texts) else np.empty(0)


@lru_cache(maxsize=16)
def concept_classifier(task: str, used: int) -> Classifier:
    """The classifier of one of the paper's open tasks.

    Args:
        task: "paper/powerseeking" or a concept of AxBench.
        used: training rows, from the first, whose texts an experiment uses: they are left out.

    Raises:
        ValueError: for a task without open answers, or fewer than `FOLDS` texts of a class.
        ImportError: without scikit-learn (extra `data`).
    """
    texts, labels = _texts(task, used)
    return _fitted(task, texts, labels)


def _texts(task: str, used: int) -> tuple[list[str], list[int]]:
    """Texts with the concept and without, 1 and 0, none of them an answer that an experiment uses."""
    family = task.removeprefix(PAPER).partition("/")[0]
    if family not in ("powerseeking", "axbench"):
        raise ValueError(f"{task} has no open answers: its yes or no is read.")
    rows, test, _ = task_rows(task, progress=False)
    size = SIZES[family]
    if family == "powerseeking":
        train = cut(rows, size, "train", seed=f"{task}/0", test=test)[used:]
        return [text for e in train for text in (e.positive, str(e.negative))], [1, 0] * len(train)
    # AxBench's validation is of its training rows
    own = cut(rows, _without_validation(size), "train", seed=f"{task}/0")[used:]
    others = [e for name in CONCEPTS for e in _positives(name) if not task.endswith(f"/{name}")]
    free = _free_of_concepts()
    negatives = [*(e.positive for e in others), *free]
    return [*(e.positive for e in own), *negatives], [1] * len(own) + [0] * len(negatives)


def _without_validation(size: Any) -> Any:
    from dataclasses import replace

    return replace(size, validation=0)


def _positives(name: str) -> list[Example]:
    return task_rows(f"{PAPER}axbench/{name}", progress=False)[0]


def _free_of_concepts() -> list[str]:
    import pandas as pd

    import_extra("pyarrow", "Reading parquet files")
    table = pd.read_parquet(fetch("axbench_concept10/train_data.parquet", progress=False))
    return [text for text in table.loc[table["concept_id"] == NO_CONCEPT, "output"] if text.strip()]


def _fitted(task: str, texts: Sequence[str], labels: Sequence[int]) -> Classifier:
    import_extra("sklearn", "Classifying answers")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    if min(sum(labels), len(labels) - sum(labels)) < FOLDS:
        raise ValueError(f"{task}: {sum(labels)} of {len(labels)} texts are left to train a classifier on")
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000),
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    held_out = cross_val_predict(pipeline, list(texts), list(labels), cv=folds, method="predict_proba")[:, 1]
    auc = float(roc_auc_score(labels, held_out))
    return Classifier(pipeline.fit(list(texts), list(labels)), auc, sum(labels), len(labels) - sum(labels))
