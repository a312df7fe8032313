"""Profiles: the table of runs and their grids."""

from pathlib import Path

import numpy as np
import pytest

from splitkit.runs.profiles import CONTROLS, PROFILES, get_profile, strength_grid
from splitkit.storage import paths


def test_grid_is_symmetric_and_denser_near_zero() -> None:
    grid = np.array(strength_grid(8.0, 33))
    assert len(grid) == 33
    assert grid[16] == 0.0
    assert grid[-1] == pytest.approx(8.0)
    assert (grid == -grid[::-1]).all()
    steps = np.diff(grid[16:])
    assert (np.diff(steps) > 0).all()
    np.testing.assert_allclose(grid, 8 * np.sinh(5 * np.linspace(-1, 1, 33)) / np.sinh(5), atol=1e-12)


def test_unknown_profile_lists_what_there_is() -> None:
    with pytest.raises(KeyError, match="embedded.*smoke"):
        get_profile("papr")


def test_cells_are_distinct_and_come_seed_by_seed() -> None:
    for profile in PROFILES.values():
        cells = profile.cells()
        assert len({cell.slug for cell in cells}) == len(cells)
        assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
        assert {(cell.form, cell.objective) for cell in cells} == {*profile.combinations, *profile.answered}
        assert {cell.seed for cell in cells} == set(profile.seeds)


def test_the_embedded_profile_is_the_papers_section_3_to_5() -> None:
    profile = PROFILES["embedded"]
    cells = profile.cells()
    # three seeds; diffmean, which has no randomness, once
    assert len(cells) == 2 * 12 * (12 * 3 + 1)
    curves = [cell for cell in cells if profile.swept(cell)]
    assert len(curves) == 2 * (10 * 10 + 2 * (9 * 3 + 1)) and not any(c.objective == "dpo" for c in curves)
    assert all(profile.scored(cell) for cell in cells)
    assert profile.size("train", "psychopathy") == 500 and profile.size("train", "axbench/ocean") == 64


def test_fewer_seeds() -> None:
    embedded = PROFILES["embedded"]
    first = embedded.first_seeds(1)
    assert [cell for cell in embedded.cells() if cell.seed == 0] == first.cells()
    assert first.whole == embedded == embedded.first_seeds(3) and first.committed
    with pytest.raises(ValueError, match="4 seeds; profile embedded has 3: 1 to 3"):
        embedded.first_seeds(4)
    with pytest.raises(ValueError, match="0 seeds; profile embedded has 3: 1 to 3"):
        embedded.first_seeds(0)


def test_other_profiles_do_not_write_among_the_committed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLITKIT_RESULTS", raising=False)
    monkeypatch.delenv("SPLITKIT_FIGURES", raising=False)
    assert get_profile("embedded").results == paths.RESULTS
    assert paths.CACHE in get_profile("smoke").results.parents
    monkeypatch.setenv("SPLITKIT_RESULTS", "")  # set, but to nothing
    assert paths.CACHE in get_profile("smoke").results.parents
    assert paths.CACHE in get_profile("smoke").figures.parents
    monkeypatch.setenv("SPLITKIT_RESULTS", str(Path("anywhere")))
    assert get_profile("smoke").results == paths.RESULTS


def test_a_tier_has_every_combination_and_more_seeds_where_they_are_cheap() -> None:
    tiny = PROFILES["tiny"]
    cells = tiny.cells()
    assert len(cells) == 2 * ((12 * 10 + 1 + 6) + (12 * 5 + 1 + 6) + 10 * (13 + 2))
    curves = [cell for cell in cells if tiny.swept(cell)]
    assert len(curves) == 2 * (2 * (12 * 3 + 1 + 6) + 10 * (13 + 2))
    drawn = [cell for cell in cells if cell.objective in CONTROLS]
    assert all(tiny.swept(cell) and not tiny.scored(cell) for cell in drawn)
    grid = np.array(tiny.grid)
    assert (np.abs(grid) <= 1).sum() == 17 and (np.abs(grid) <= 0.25).sum() == 11 and len(grid) == 33


def test_a_tier_has_places_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny = get_profile("tiny")
    assert tiny.committed and not tiny.narrowed("tiny-qwen2").committed
    assert (tiny.results, tiny.figures) == (paths.RESULTS / "tiny", paths.FIGURES / "tiny")
    assert tiny.hparams == paths.DATA / "hparams" / "tiny.csv"
    assert get_profile("embedded").hparams == paths.DATA / "hparams.csv"
    # also where the environment moves the tables
    monkeypatch.setenv("SPLITKIT_RESULTS", str(tmp_path))
    assert tiny.results == paths.RESULTS / "tiny"
