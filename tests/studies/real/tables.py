"""Small tables of made-up models: one direction that steers, three that learned nothing."""

import numpy as np
import pandas as pd

M = np.array([-1.0, 0.0, 1.0])


def curves() -> pd.DataFrame:
    """Curves of two models, sums over two tokens: a nat per token of preference at m = 1."""
    parts = []
    for model in ("a", "b"):
        for objective, seed, slope in (
            ("diffmean", 0, 2.0),
            ("random", 0, 0.1),
            ("random", 1, -0.1),
            ("natural", 0, 0.2),
        ):
            for split in ("train", "test"):
                part = pd.DataFrame(
                    {"m_relative": M, "preference": 5.0 + slope * M, "utility": -4.0 * np.abs(M) - 1.0}
                )
                keys = {"model": model, "task": "psychopathy", "form": "vector", "objective": objective}
                parts.append(part.assign(**keys, seed=seed, split=split, tokens=2.0))
    return pd.concat(parts, ignore_index=True)
