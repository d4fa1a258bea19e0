"""Viscosity from driven flow: the analysis of made-up flows, and its place in a run directory."""

import json

import numpy as np
import pytest
from synthetic_run import SyntheticRun, ar1

from phyff.errors import InputError
from phyff.properties import study
from phyff.properties.response import Series
from phyff.properties.viscosity import viscosity_of_flow

DENSITY, WAVE_NUMBER, FRICTION, VISCOSITY = 1.2, 2.5, 1.0, 2.0
MOBILITY = 1.0 / (FRICTION + VISCOSITY * WAVE_NUMBER**2 / DENSITY)


def flow(rng: np.random.Generator, thinning: float = 0.0, rows: int = 4000):  # type: ignore[no-untyped-def]
    """Made-up series of profile velocities: linear response, shear thinning, correlated noise."""
    return {
        a: Series(MOBILITY * a * (1.0 + thinning * a**2) + 0.002 * ar1(rng, rows, 4.0), 0.02)
        for a in (0.02, 0.04, 0.08)
    }


def test_the_stated_error_covers_the_known_viscosity() -> None:
    rng = np.random.default_rng(1)
    trials = [viscosity_of_flow(flow(rng), WAVE_NUMBER, DENSITY, FRICTION)[0] for _ in range(60)]
    deviations = np.array([(t.value - VISCOSITY) / t.error for t in trials])
    assert 0.52 <= np.mean(np.abs(deviations) < 1.0) <= 0.85
    assert np.mean(np.abs(deviations) < 2.0) >= 0.88


def test_shear_thinning_is_extrapolated_away() -> None:
    rng = np.random.default_rng(2)
    found, curve = viscosity_of_flow(flow(rng, thinning=60.0, rows=40000), WAVE_NUMBER, DENSITY, FRICTION)
    assert curve is not None and curve.cubic > 0.0
    assert abs(found.value - VISCOSITY) < 3.0 * found.error
    assert not found.details["linear_response"]


def test_a_flow_lost_in_noise_has_no_viscosity() -> None:
    rng = np.random.default_rng(3)
    noise = {a: Series(0.05 * ar1(rng, 300, 20.0), 0.02) for a in (1e-4, 2e-4)}
    found, _ = viscosity_of_flow(noise, WAVE_NUMBER, DENSITY, FRICTION)
    assert found.to_json()["value"] is None
    assert "above the noise" in found.verdict
    faster = {a: Series(1.2 * a / FRICTION + 0.002 * ar1(rng, 4000, 4.0), 0.02) for a in (0.02, 0.04, 0.08)}
    found, curve = viscosity_of_flow(faster, WAVE_NUMBER, DENSITY, FRICTION)
    assert curve is not None and curve.visible and np.isnan(found.value)


def test_a_run_directory_uses_its_own_viscosity_for_the_finite_size_correction(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run_dir = SyntheticRun(n_frames=200).write(tmp_path)
    files = []
    for amplitude, series in flow(np.random.default_rng(4)).items():
        still = [f"{0.02 * k:.3f},99.0" for k in range(1, 51)]
        rows = [f"{1.0 + 0.02 * k:.3f},{v:.8f}" for k, v in enumerate(series.values, start=1)]
        (run_dir / f"{amplitude}.csv").write_text("\n".join(["time_ps,velocity_nm_ps", *still, *rows]) + "\n")
        files.append({"file": f"{amplitude}.csv", "strength": amplitude})
    about = {
        "series": files,
        "steady_ps": 1.0,
        "wave_number_per_nm": WAVE_NUMBER,
        "density_g_cm3": DENSITY,
        "friction_per_ps": FRICTION,
    }
    (run_dir / "viscosity.json").write_text(json.dumps(about))
    found = study(run_dir)
    assert abs(found.properties["viscosity"].value - VISCOSITY) < 4.0 * found.properties["viscosity"].error
    corrected = found.properties["self_diffusion_EC"]
    assert corrected.details["viscosity_source"] == "computed (periodic perturbation)"
    assert corrected.details["viscosity_cP"] == pytest.approx(found.properties["viscosity"].value)
    (run_dir / "viscosity.json").write_text("{}")
    with pytest.raises(InputError, match=r"viscosity\.json"):
        study(run_dir)
