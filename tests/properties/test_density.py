"""Density: known means and correlation times are found, and the stated error is honest."""

import numpy as np
import pytest
from synthetic_run import ar1

from phyff.properties.density import density, series_mean, statistical_inefficiency


@pytest.mark.parametrize("rows", [2000, 700])
def test_the_stated_error_covers_the_known_mean_as_often_as_one_and_two_sigma_should(rows: int) -> None:
    # 700 rows of correlation time 10 hold 35 independent samples: about the fewest that are called converged.
    rng = np.random.default_rng(3)
    trials = [series_mean(1.3 + 0.012 * ar1(rng, rows, 10.0)) for _ in range(150)]
    deviations = np.array([(t.mean - 1.3) / t.error for t in trials])
    assert 0.57 <= np.mean(np.abs(deviations) < 1.0) <= 0.80
    assert 0.89 <= np.mean(np.abs(deviations) < 2.0)


def test_the_statistical_inefficiency_is_twice_the_correlation_time_and_errs_upwards() -> None:
    rng = np.random.default_rng(4)
    found = np.mean([statistical_inefficiency(ar1(rng, 5000, 20.0)) for _ in range(30)])
    assert 39.0 <= found <= 48.0


def test_equilibration_at_the_start_is_cut_off() -> None:
    rng = np.random.default_rng(5)
    series = 1.3 + 0.01 * ar1(rng, 4000, 10.0)
    series[:800] -= np.linspace(0.3, 0.0, 800)
    mean = series_mean(series)
    assert 600 <= mean.first <= 1500
    assert abs(mean.mean - 1.3) < 3.0 * mean.error


def test_a_long_quiet_series_is_converged_and_reports_its_window() -> None:
    rng = np.random.default_rng(6)
    times = 0.1 * np.arange(1, 3001)
    found, mean = density(times, 1.3 + 0.012 * ar1(rng, 3000, 10.0))
    assert found.verdict == "converged"
    assert mean is not None
    assert found.details["window_ps"] == [pytest.approx(times[mean.first]), pytest.approx(300.0)]


def test_a_short_series_says_how_long_it_should_be() -> None:
    rng = np.random.default_rng(7)
    found, _ = density(0.1 * np.arange(200), 1.3 + 0.03 * ar1(rng, 200, 40.0))
    assert found.verdict.startswith("not converged: only")
    assert "needs about" in found.verdict


def test_a_drifting_series_is_not_converged() -> None:
    rng = np.random.default_rng(8)
    found, _ = density(0.1 * np.arange(3000), np.linspace(1.2, 1.3, 3000) + 0.002 * ar1(rng, 3000, 5.0))
    assert not found.converged


def test_a_handful_of_rows_gives_no_value() -> None:
    found, mean = density(np.arange(5.0), np.ones(5))
    assert mean is None
    assert found.to_json()["value"] is None
