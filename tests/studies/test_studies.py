"""The list of studies: every function that keeps a table is in it, once."""

from pathlib import Path

from splitkit import studies
from splitkit.runs.kept_tables import Study
from splitkit.runs.profiles import CONTROLS, get_profile
from splitkit.storage import paths


def test_every_study_is_in_the_list() -> None:
    folder = Path(studies.__file__).parent
    found = sorted(
        f"{'.'.join(path.relative_to(folder).with_suffix('').parts)}:{after.split('def ')[1].split('(')[0]}"
        for path in folder.rglob("*.py")
        for after in path.read_text(encoding="utf-8").split("\n@kept(")[1:]
    )
    assert found == sorted((*studies.STUDIES, *studies.WITHOUT_JUDGE))


def test_every_table_has_one_study() -> None:
    every = list(studies.studies())
    assert all(isinstance(one, Study) for one in every)
    names = [name for one in every for name in one.names]
    assert len(names) == len(set(names))
    tiny = {name for one in studies.studies(get_profile("tiny")) for name in one.names}
    names = [name for one in studies.studies(get_profile("embedded")) for name in one.names]
    own = {"curve_lengths", "random_curves", "window_fits", "form_left_out", "manifold_moves"}
    own |= {"unified_view", "unified_view_change", "verdicts", "verdict_grades", "verdict_tests"}
    assert own == tiny - set(names)
    # the others are written by notebooks and by the search
    others = {"search", "shapes", "unified_view", "unified_view_change", "verdicts"}
    assert {path.stem for path in (paths.DATA / "results").glob("*.csv")} == {*names} | others


def test_a_rehearsal_makes_what_its_tier_makes() -> None:
    small, rehearsed, paper = (get_profile(name) for name in ("small", "small-rehearsal", "paper-rehearsal"))
    made = list(studies.studies(small))
    assert made == list(studies.studies(rehearsed)) and made != list(studies.studies(paper))
    names = [name for one in made for name in one.names]
    # made last, of all others; and it has no Table 3, whose scores are a judge's
    assert names[-3] == "verdicts" and "text_scores" in names and "table3_main" not in names
    controls = {objective for _, objective in rehearsed.combinations} & set(CONTROLS)
    assert controls == set(CONTROLS) and {cell.seed for cell in rehearsed.cells()} == {1000}
