"""From the kept tables of a made-up record with a known truth to all twelve verdicts, as files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from splitkit.curves.decay import preference_curve, utility_curve
from splitkit.curves.validity import Validity
from splitkit.runs import results
from splitkit.runs.kept_tables import lacking
from splitkit.runs.profiles import AXBENCH, CONTROLS, PROFILES, Profile
from splitkit.storage import paths
from splitkit.studies.decisions import curve_claims, intervals, judge
from splitkit.studies.decisions.rules import FORMS, RULES
from splitkit.studies.decisions.view import claim_view
from splitkit.studies.null_curves import NOISE, SMOOTH
from splitkit.studies.scores import BASE
from tests.studies.decisions.tables import SETTINGS, cell
from tests.studies.decisions.test_manifold_claims import angles, left_out, moves

TINY, SMALL = PROFILES["tiny"], PROFILES["small"]
LEARNT, FLAT = TINY.models
CHAT, BASE_MODEL = "SmolLM2-135M-Instruct", "Gemma-3-270M"
D = Validity(0.0, 1.0, 1.0, 0.0, 1.0, 1.0)
CONCEPTS = AXBENCH[:3]
SCORED = [(form, objective) for form in FORMS for objective in ("sft", "reps", "split", "dpo")]
SCORED += [("vector", "diffmean")]


def decaying(m: np.ndarray) -> np.ndarray:
    return preference_curve(m, alpha=3.0, beta=0.2, b=0.1, validity=D)


def peaked(m: np.ndarray) -> np.ndarray:
    return utility_curve(m, beta_u=3.0, b_u=-4.0, validity=D)


def bent(m: np.ndarray) -> np.ndarray:
    return np.tanh(np.abs(m))


def still(m: np.ndarray) -> np.ndarray:
    return 0.001 * np.tanh(m)


def curves() -> pd.DataFrame:
    """Of one model what Eq. 15 and 17 say; of the other what is still, or (power) has no line and no peak."""
    shapes = {(LEARNT, task): (decaying, peaked) for task in ("psychopathy", *CONCEPTS)}
    shapes |= {(FLAT, "psychopathy"): (still, still), (FLAT, "powerseeking"): (bent, bent)}
    parts = []
    for (model, task), both in shapes.items():
        for form, objective in [*SETTINGS, *(("vector", control) for control in CONTROLS)]:
            once = task in CONCEPTS or (model, task) == (FLAT, "psychopathy") or objective == "diffmean"
            for seed in range(1 if once else 3):
                one = cell(form, objective, seed, task, *both).assign(model=model).iloc[::2]
                parts += [one, one.assign(split="test")]
    return pd.concat(parts, ignore_index=True)


def window_fits(curves: pd.DataFrame) -> pd.DataFrame:
    """R² of 1 where the truth is Eq. 15 and 17, of 0.5 elsewhere; half as much in the usable window."""
    keys = curves[[*curve_claims.CELL]].drop_duplicates()
    r2 = np.where(keys["model"] == LEARNT, 1.0, 0.5)
    parts = [
        keys.assign(split=split, curve=curve, window=window, r2=share * r2)
        for split in ("train", "test", "transfer")
        for curve in ("preference", "utility")
        for window, share in (("whole", 1.0), ("usable", 0.5))
    ]
    return pd.concat(parts, ignore_index=True)


def random_curves() -> pd.DataFrame:
    """Smooth ones that are not fitted, and shapes that do not count and are."""
    parts = [
        pd.DataFrame({"shape": shape, "number": range(40), "r2": r2, "curve": curve, "model": model}).assign(
            task="psychopathy"
        )
        for model, shape, r2 in ((LEARNT, SMOOTH, 0.4), (LEARNT, NOISE, 1.0), ("any", "line", 1.0))
        for curve in ("preference", "utility")
    ]
    return pd.concat(parts, ignore_index=True)


def answers(models: dict[str, tuple[float, float, float]], tasks: dict[str, int]) -> pd.DataFrame:
    """One answer per cell, as a share of the scale: (unsteered, SPLIT's, its rivals'); DPO does nothing."""
    rows = []
    for model, (unsteered, split, rival) in models.items():
        for task, seeds in tasks.items():
            top = {"psychopathy": 100, "powerseeking": 4}.get(task.removeprefix("paper/"), 2)
            means = {"split": split, "dpo": unsteered + 0.01}
            for form, objective in [*SCORED, ("vanilla", "vanilla")]:
                count = 1 if objective in ("diffmean", "vanilla") else seeds
                mean = unsteered if form == "vanilla" else means.get(objective, rival)
                for seed in range(count):
                    around = 0.004 * ((seed + len(objective + task)) % 5 - 2) * (mean < 1)
                    row = dict(zip(curve_claims.CELL, (model, task, form, objective, seed), strict=True))
                    score = top * (mean + around)
                    rows.append(row | {"question": 0, "score": score, "concept": score})
    return pd.DataFrame(rows)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results, where nothing asks for the state of the repository."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("SPLITKIT_RESULTS", raising=False)
    monkeypatch.setattr(results, "table_key", lambda profile: "a key")
    monkeypatch.setattr(results, "provenance", lambda profile, seconds: {})
    monkeypatch.setattr(intervals, "DRAWS", 100)
    return tmp_path / "results"


def write(profile: Profile, **tables: pd.DataFrame) -> None:
    """The tables as files, and empty ones of the same studies beside them."""
    names = [name for study in (judge.geometry, judge.unified_views) for name in study.names]
    beside = {name: pd.DataFrame({"model": ["-"]}) for name in (*names, *BASE, "curve_lengths")}
    profile.results.mkdir(parents=True)
    for name, table in (beside | tables).items():
        table.to_csv(profile.results / f"{name}.csv", index=False)


def test_a_record_gets_all_twelve_verdicts(record: Path) -> None:
    found, seeds = curves(), {"psychopathy": 8, "powerseeking": 8} | dict.fromkeys(AXBENCH, 1)
    view = pd.DataFrame({"form": FORMS, "compared_with": "rewritten", "deviation": 1e-14})
    view = pd.concat([view, view.assign(compared_with="untouched", deviation=1.0)])
    manifold = {"form_left_out": left_out(0.3, 0.2), "manifold_moves": moves(0.5)}
    manifold |= {"utility_angle": angles(0.05)}
    write(
        TINY,
        unified_view=pd.concat([view.assign(model=model) for model in TINY.models]),
        curves=found,
        window_fits=window_fits(found),
        random_curves=random_curves(),
        # of one model alone
        **{name: table.assign(model=LEARNT) for name, table in manifold.items()},
        answer_scores=answers({LEARNT: (0.5, 0.99, 0.7), FLAT: (0.5, 1.0, 1.0)}, seeds),
    )
    made = judge.verdicts(TINY)
    table = made["verdicts"].set_index(["model", "claim", "task", "part"])
    assert set(table.index.get_level_values("claim")) == set(RULES)
    judged = table.xs("claim", level="part")
    assert set(judge.asked(TINY)) == set(judged.reorder_levels(["claim", "model", "task"]).index)

    learnt = judged.loc[LEARNT].drop("powerseeking", level="task")
    of_learnt = learnt["verdict"].groupby("claim").agg(set)
    assert of_learnt.pop("C9") == {"holds", "undecided"}
    # of fits that are all right there is none that fails
    assert of_learnt.pop("C8") == {"in part"}
    assert set().union(*of_learnt) == {"holds"}
    assert judged.loc[(LEARNT, "C5", "psychopathy"), "random_curves"] == 0
    assert judged.loc[(LEARNT, "C5", "psychopathy"), "random_curves_beyond"] == "more"
    assert table.loc[(LEARNT, "C6", "psychopathy", "usable window"), "verdict"] == "does not hold"

    other = judged.loc[FLAT]
    assert other.loc[("C2", "powerseeking"), "verdict"] == "does not hold"
    assert other.loc[("C5", "powerseeking"), "verdict"] == "does not hold"
    assert other.loc[("C7", "powerseeking"), "why"].startswith("0 units off floor and ceiling")
    for claim in ("C2", "C3", "C4", "C5", "C6", "C7"):
        assert set(other.loc[claim].drop("powerseeking")["verdict"]) == {"undecided"}
        assert judged.loc[(LEARNT, claim, "powerseeking"), "why"].startswith("nothing to judge in ")
    assert other.loc[("C9", "psychopathy"), "why"].startswith("nothing to judge in form_left_out")
    assert other["verdict"].loc[["C1", "C10", "C11", "C12"]].tolist() == [
        *("holds", "undecided", "holds", "holds")
    ]
    assert judged.loc[judged["verdict"] == "undecided", "why"].notna().all()

    # as a reader sees it; the other tier has no record
    view = claim_view("C5", (SMALL, TINY))
    shown = view.table().set_index(["model", "task", "part"])
    assert shown.loc[(LEARNT, "psychopathy", ""), "random curves"] == "0.00 (more)"
    assert shown.loc[(LEARNT, "psychopathy", ""), "number"].startswith("1.00 [0.8")
    by_constant = view.by_constant().set_index(["model", "task"])
    assert by_constant.loc[(LEARNT, "psychopathy")].tolist() == ["tiny", "holds", "holds"]
    text = view._repr_markdown_()
    assert RULES["C5"].words in text and "| tiny | tiny-gemma2 | psychopathy |  | holds |" in text
    assert "No tier has a record" in claim_view("C5", (SMALL,))._repr_markdown_()
    with pytest.raises(KeyError, match="no claim 'C13'"):
        claim_view("C13")

    grades = made["verdict_grades"].set_index(["claim", "model", "task", "part"])
    assert set(grades.index) == set(made["verdicts"].set_index(grades.index.names).index)
    assert {"C9", "C10", "C11", "C12"} == set(made["verdict_tests"]["claim"])
    # and a run that left cells out would not make them
    said = lacking(judge.verdicts, TINY, {"verdicts"})
    assert "verdicts, verdict_grades, verdict_tests: pooled from all cells of curves" in said


def test_a_tier_without_judge_says_what_cannot_be_asked_of_it() -> None:
    small = replace(SMALL, models=(CHAT, BASE_MODEL))
    seeds = {"paper/psychopathy": 3, "paper/powerseeking": 1, "paper/axbench/night": 1}
    found = curves().replace({"model": {LEARNT: CHAT, FLAT: BASE_MODEL}})
    found = found[~found["task"].isin(CONCEPTS) & (found["seed"] == 0)]
    found = found.assign(task="paper/" + found["task"])
    scores = answers({CHAT: (0.5, 0.99, 0.7), BASE_MODEL: (0.5, 0.99, 0.7)}, seeds)
    view = pd.DataFrame({"form": FORMS, "compared_with": "rewritten", "deviation": 1e-14, "model": CHAT})
    tables = {"unified_view": view, "curves": found, "window_fits": window_fits(found)}
    tables |= {"random_curves": random_curves(), "answer_scores": scores}
    nothing = (left_out(0.3, 0.2), moves(0.5), angles(0.05))
    tables |= {name: one.iloc[:0] for name, one in zip(judge.READ["C9"], nothing, strict=True)}
    judged = judge.judge(tables, small).verdicts.query("part == 'claim'")
    why = judged.set_index(["claim", "model", "task"])["why"]
    assert set(why.index) == set(judge.asked(small)) and len(why) == len(judged)
    assert why["C2", BASE_MODEL, "axbench"] == "not asked: profile small has no axbench of this model"
    assert why["C2", CHAT, "axbench"] == "nothing to judge in curves"
    assert why["C1", BASE_MODEL, "all"] == "nothing to judge in unified_view"
    assert why["C9", CHAT, "psychopathy"].startswith("nothing to judge in form_left_out")
    assert (why[judged["verdict"].to_numpy() == "undecided"] != "").all()
    # one run of each objective is a test of nothing
    assert {"C10", "C12"} <= set(judged.loc[judged["verdict"] == "undecided", "claim"])
    assert set(judged.loc[judged["claim"] == "C11", "verdict"]) <= {"holds", "undecided"}
