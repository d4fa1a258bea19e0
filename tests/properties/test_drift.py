"""Conductivity from drift: made-up drifting ions, and its place in a run directory and its report."""

import json

import numpy as np
import pytest
from synthetic_run import SyntheticRun, ar1

from phyff.properties import study
from phyff.properties.drift import MS_CM, conductivity_of_drift
from phyff.properties.response import Series
from phyff.properties.result import Property
from phyff.report.page import render

VOLUME, CONDUCTIVITY, FRAME_PS = 20.0, 12.0, 0.1
DIFFUSION = CONDUCTIVITY / MS_CM * VOLUME * 0.0257
"""e2 nm2/ps of the charge displacement's random walk in one direction: sigma V k T (0.0257 eV)."""


def drifting(rng: np.random.Generator, saturation: float = 0.0, rows: int = 10000) -> dict[float, Series]:
    """Random walks with drift and rattling; saturation: relative loss of current per (V/nm)^2."""
    made = {}
    for field in (0.05, 0.10, 0.15):
        drift = CONDUCTIVITY / MS_CM * field * (1.0 - saturation * field**2) * VOLUME
        steps = drift * FRAME_PS + rng.normal(scale=np.sqrt(2.0 * DIFFUSION * FRAME_PS), size=rows)
        made[field] = Series(np.cumsum(steps) + 0.05 * ar1(rng, rows, 2.0), FRAME_PS)
    return made


def test_the_stated_error_covers_the_known_conductivity() -> None:
    rng = np.random.default_rng(1)
    trials = [conductivity_of_drift(drifting(rng, rows=3000), VOLUME)[0] for _ in range(400)]
    deviations = np.array([(t.value - CONDUCTIVITY) / t.error for t in trials])
    deviations = deviations[np.isfinite(deviations)]  # what does not show above the noise has no value
    assert len(deviations) > 360
    assert 0.61 <= np.mean(np.abs(deviations) < 1.0) <= 0.75  # 68 % +- three binomial standard errors
    assert np.mean(np.abs(deviations) < 2.0) >= 0.88  # 91 %: sometimes noise passes for curvature


def test_saturation_is_extrapolated_away_and_a_range_beyond_linear_response_is_refused() -> None:
    rng = np.random.default_rng(2)
    mild, response = conductivity_of_drift(drifting(rng, 10.0, rows=200000), VOLUME)
    assert response is not None and response.cubic < 0.0
    assert not mild.details["linear_response"]
    assert abs(mild.value - CONDUCTIVITY) < 3.0 * mild.error
    strong, _ = conductivity_of_drift(drifting(rng, 100.0, rows=200000), VOLUME)
    assert strong.verdict == "not converged: beyond linear response even in the weakest field"


def test_currents_lost_in_noise_have_no_conductivity() -> None:
    rng = np.random.default_rng(3)
    noise = {field: Series(np.cumsum(rng.normal(size=400)), FRAME_PS) for field in (1e-4, 2e-4)}
    found, _ = conductivity_of_drift(noise, VOLUME)
    assert found.to_json()["value"] is None and "above the noise" in found.verdict
    short, _ = conductivity_of_drift({0.1: Series(np.arange(20.0), FRAME_PS)}, VOLUME)
    assert "fewer than" in short.verdict


def test_a_converged_value_must_agree_with_einstein_and_helfand() -> None:
    series = drifting(np.random.default_rng(4), rows=100000)
    assert conductivity_of_drift(series, VOLUME)[0].converged
    other = Property(2.0 * CONDUCTIVITY, 0.5, "mS/cm", "converged")
    assert "disagrees with Einstein-Helfand" in conductivity_of_drift(series, VOLUME, other)[0].verdict


def test_a_run_directory_shows_the_current_on_its_page(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run_dir = SyntheticRun(production=False).write(tmp_path)
    files = []
    for strength, series in drifting(np.random.default_rng(5)).items():
        rows = [f"{FRAME_PS * k:.3f},{d:.6f}" for k, d in enumerate(series.values, start=1)]
        (run_dir / f"field-{strength}.csv").write_text("\n".join(["time_ps,d", *rows]) + "\n")
        files.append({"file": f"field-{strength}.csv", "strength": strength})
    (run_dir / "field.json").write_text(json.dumps({"series": files, "volume_nm3": VOLUME, "steady_ps": 1.0}))
    found = study(run_dir)
    conductivity = found.properties["conductivity_field"]
    assert conductivity.value == pytest.approx(CONDUCTIVITY, abs=4.0 * conductivity.error)
    page = render(found)
    assert "Current in an electric field" in page and "Conductivity (drift in an electric field)" in page
