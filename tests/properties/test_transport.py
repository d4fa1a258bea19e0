"""Transport: known diffusion and conductivity come back within their stated errors."""

import math

import numpy as np
import pytest
from synthetic_run import EC, ELECTROLYTE, LI, PF6, BrownianSpecies, SyntheticRun, ar1, molecule

from phyff.properties.displacement import (
    MeanSquareDisplacement,
    Window,
    find_window,
    molecular_displacement,
    molecular_msd,
    slope_verdict,
)
from phyff.properties.finite_size import (
    Viscosity,
    infinite_size,
    stokes_einstein_viscosity,
    vdw_radius,
    yeh_hummer,
)
from phyff.properties.result import Property
from phyff.properties.trajectory import read_replicas, read_run
from phyff.properties.transport import conductivity_factor, transport


def test_the_displacement_equals_the_plain_double_loop() -> None:
    walk = np.cumsum(np.random.default_rng(0).normal(size=(50, 2, 3)), axis=0)
    plain = [np.mean(np.sum((walk[lag:, 1] - walk[: 50 - lag, 1]) ** 2, axis=1)) for lag in range(26)]
    assert molecular_msd(walk)[:, 1] == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize(("molecules", "rattling"), [(20, 0.0), (1, 0.0), (20, 2.0)])
def test_the_stated_error_of_a_slope_covers_the_known_diffusion(molecules: int, rattling: float) -> None:
    rng = np.random.default_rng(11)
    deviations = []
    for _ in range(100):
        walk = np.cumsum(rng.normal(size=(800, molecules, 3)), axis=0)
        if rattling:
            walk += rattling * ar1(rng, (800, molecules, 3), 2.0)
        found = molecular_displacement("walkers", [walk], 1.0)
        deviations.append((found.slope - 3.0) / found.slope_error)
    inside = np.mean(np.abs(deviations) < 1.0)
    assert 0.55 <= inside <= 0.85
    assert np.mean(np.abs(deviations) < 2.0) >= 0.88


def test_the_window_waits_until_caged_molecules_diffuse() -> None:
    rng = np.random.default_rng(12)
    walk = np.cumsum(0.3 * rng.normal(size=(4000, 60, 3)), axis=0) + 1.5 * ar1(rng, (4000, 60, 3), 3.0)
    msd = molecular_msd(walk).mean(axis=1)
    window = find_window(msd, 4000, 180, 1.0)
    assert window.diffusive
    assert window.first > 50


def test_molecules_that_stay_caged_are_called_sub_diffusive() -> None:
    rng = np.random.default_rng(13)
    walk = ar1(rng, (400, 60, 3), 30.0)
    window = find_window(molecular_msd(walk).mean(axis=1), 400, 180, 1.0)
    assert not window.diffusive
    assert window.log_slope < 0.95
    assert window.needed_ps > 400.0


def test_the_passage_from_free_flight_into_the_cage_is_not_diffusion() -> None:
    lags = 0.05 * np.arange(91)
    slopes = np.interp(np.log(np.maximum(lags, 0.01)), np.log([0.05, 0.2, 0.8]), [1.9, 1.0, 0.5])
    msd = np.exp(np.concatenate([[-20.0], np.cumsum(slopes[1:] * np.diff(np.log(lags[1:]), prepend=-4.0))]))
    # As noisy as 18 molecules for 9 ps: 0.2 ps is the last clear lag.
    window = find_window(msd, 181, 54, 0.05)
    assert window.log_slope_ps <= 0.2
    assert abs(window.log_slope - 1.0) < 0.3
    assert not window.diffusive


def test_a_run_directory_gives_back_its_diffusion_and_conductivity(tmp_path) -> None:  # type: ignore[no-untyped-def]
    species = (
        BrownianSpecies("Li", LI, 1, 25, 0.0003),
        BrownianSpecies("PF6", PF6, -1, 25, 0.0006),
        BrownianSpecies("EC", EC, 0, 80, 0.0008),
    )
    run = read_run(SyntheticRun(species=species, n_frames=2500, frame_ps=2.0).write(tmp_path))
    found = transport(run, read_replicas(run)).properties
    # The barycentric frame takes the share of the molecules' own mass off independent walkers: about 1 %.
    for s in species:
        measured = found[f"self_diffusion_{s.name}_box"]
        known = 1000.0 * s.diffusion
        assert abs(measured.value - known) < 3.0 * measured.error + 0.015 * known
        assert measured.converged
    known = conductivity_factor(2.5, 298.15) * 25 * (0.0003 + 0.0006)
    nernst_einstein, collective = found["conductivity_nernst_einstein"], found["conductivity"]
    assert abs(nernst_einstein.value - known) < 3.0 * nernst_einstein.error + 0.015 * known
    assert abs(collective.value - known) < 3.0 * collective.error
    assert collective.error < 0.12 * known


def test_one_collective_run_in_a_hundred_picoseconds_asks_for_more_time(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = read_run(SyntheticRun(n_frames=101).write(tmp_path))
    found = transport(run, read_replicas(run)).properties["conductivity"]
    assert found.verdict.startswith("not converged:")
    assert "needs about" in found.verdict
    assert found.error > 0.0


def test_conductivities_of_caged_ions_wait_for_diffusion_and_doubt_themselves(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cages = {"cage_nm": 0.5, "cage_ps": 20.0}
    species = tuple(
        BrownianSpecies(s.name, s.mapped_smiles, s.charge, 30, 1e-5, **cages) for s in ELECTROLYTE
    )
    run = read_run(SyntheticRun(species, n_frames=301).write(tmp_path))
    found = transport(run, read_replicas(run)).properties
    assert "sub-diffusive" in found["conductivity"].verdict
    green_kubo, known = found["conductivity_green_kubo"], conductivity_factor(2.5, 298.15) * 60 * 1e-5
    assert green_kubo.verdict == found["conductivity"].verdict
    # The spectrum alone would be six errors too high and not know it.
    assert green_kubo.value - known > 5.0 * green_kubo.details["statistical_error"]
    assert green_kubo.value - known < 2.0 * green_kubo.error


@pytest.mark.parametrize(("lag_ps", "why"), [(2.0, "sub-diffusive"), (0.05, "too short")])
def test_a_slope_within_a_cage_is_not_called_sub_diffusion(lag_ps: float, why: str) -> None:
    """Below SHORTEST_LAG_PS a slope tells nothing, however low."""
    window = Window(1, 4, diffusive=False, log_slope=-0.07, log_slope_ps=lag_ps, needed_ps=100.0)
    lags = np.arange(10.0)
    verdict = slope_verdict(MeanSquareDisplacement("Li+", lags, lags, window, 1.0, 0.1, 0.0, 9.0))
    assert verdict.startswith("not converged") and why in verdict


def test_too_few_frames_give_no_values(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = read_run(SyntheticRun(n_frames=10).write(tmp_path))
    found = transport(run, read_replicas(run)).properties
    assert found["conductivity"].to_json()["value"] is None
    assert found["self_diffusion_Li"].verdict == "not converged: only 10 frames of production"


def test_the_conductivity_factor_is_that_of_a_hand_calculation() -> None:
    joules = 1.380649e-23 * 300.0
    by_hand = (1.602176634e-19) ** 2 * 1e-6 / (joules * 27e-27) * 10.0
    assert conductivity_factor(3.0, 300.0) == pytest.approx(by_hand, rel=1e-12)


def test_the_finite_size_correction_of_water_is_a_sixth_of_its_diffusion() -> None:
    # Yeh and Hummer's TIP3P water: box 1.86 nm, 298 K, viscosity 0.31 cP: about 1.07e-9 m2/s.
    assert yeh_hummer(298.0, 0.31, 1.86) == pytest.approx(1.07, rel=0.02)


def test_stokes_einstein_iteration_meets_its_closed_form() -> None:
    diffusion, radius, box, temperature = 0.8, 0.26, 2.5, 298.15
    viscosity = stokes_einstein_viscosity(diffusion, radius, temperature, box, coefficient=6.0)
    infinite = diffusion + yeh_hummer(temperature, viscosity, box)
    assert infinite == pytest.approx(diffusion / (1.0 - 2.837297 * radius / box), rel=1e-8)


def test_without_a_viscosity_the_value_stays_uncorrected_and_says_so() -> None:
    found = infinite_size(Property(0.5, 0.01, "1e-9 m2/s", "converged"), None, 298.0, 2.5)
    assert found.value == 0.5
    assert found.verdict == "not converged: no viscosity for the finite-size correction"


def test_a_given_viscosity_is_used(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = read_run(SyntheticRun(n_frames=200, settings={"viscosity_cP": 2.0}).write(tmp_path))
    found = transport(run, read_replicas(run)).properties["self_diffusion_EC"]
    assert found.details["viscosity_source"] == "viscosity_cP of run.json"
    assert found.details["finite_size_correction"] == pytest.approx(yeh_hummer(298.15, 2.0, 2.5))


def test_the_van_der_waals_radius_of_one_atom_is_its_own() -> None:
    assert vdw_radius(np.zeros((1, 3)), np.array([0.15])) == pytest.approx(0.15, rel=0.01)


def test_the_van_der_waals_radius_of_ethylene_carbonate_is_sensible() -> None:
    radii = np.array([0.155, 0.17, 0.155, 0.17, 0.17, 0.155, 0.12, 0.12, 0.12, 0.12])
    assert math.isclose(vdw_radius(molecule(EC), radii), 0.26, abs_tol=0.02)


def test_an_uncertain_finite_size_correction_is_not_called_converged() -> None:
    measured = Property(0.3, 0.003, "1e-9 m2/s", "converged")
    sure = infinite_size(measured, Viscosity(1.3, 0.05, "computed"), 298.0, 2.5)
    unsure = infinite_size(measured, Viscosity(1.3, 0.6, "estimated"), 298.0, 2.5)
    assert sure.converged
    assert "finite-size correction" in unsure.verdict
