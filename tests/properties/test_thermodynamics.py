"""Fluctuation formulas, dielectric constant and structure factor: known answers come back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import SyntheticRun, ar1

from phyff.properties.density import density
from phyff.properties.dielectric import dielectric, dipole_of_charges, force_field_dipoles
from phyff.properties.scattering import structure_factor
from phyff.properties.thermodynamics import thermodynamics
from phyff.properties.trajectory import NptSeries, Production, Run, SpeciesInBox, read_run
from phyff.units import BOLTZMANN, COULOMB, GAS_CONSTANT

TEMPERATURE = 300.0


def species(name: str, elements: tuple[str, ...], count: int) -> SpeciesInBox:
    n = len(elements)
    return SpeciesInBox(
        name, name, count, 0, elements, np.ones(n), np.full(n, 0.15), np.zeros(n, dtype=bool), 0, 0
    )


def run_of(*members: SpeciesInBox) -> Run:
    return Run(Path("."), {"name": "x", "temperature_K": TEMPERATURE, "pressure_bar": 1.0}, members)


def frames(xyz: np.ndarray, box_nm: float) -> Production:
    return Production(np.zeros((len(xyz), 1, 3)), xyz.astype(np.float32), 1, 1.0, box_nm)


def test_the_stated_error_of_the_compressibility_covers_the_known_one() -> None:
    rng = np.random.default_rng(1)
    volume, spread = 30.0, 0.2
    known = spread**2 / (volume * BOLTZMANN * TEMPERATURE * 1e18)
    deviations = []
    for _ in range(80):
        volumes = volume + spread * ar1(rng, 3000, 8.0)
        times = 0.1 * np.arange(1, 3001)
        series = NptSeries(times, 36.0 / volumes, volumes)
        found = thermodynamics(series, density(times, series.densities)[1], TEMPERATURE, 1.0)
        deviations.append((found["compressibility"].value - known) / found["compressibility"].error)
    assert 0.55 <= np.mean(np.abs(deviations) < 1.0) <= 0.82
    assert np.mean(np.abs(deviations) < 2.0) >= 0.88


def test_thermal_expansion_is_the_covariance_of_volume_and_enthalpy() -> None:
    rng = np.random.default_rng(2)
    shared, own = ar1(rng, 6000, 4.0), ar1(rng, 6000, 4.0)
    volumes, energies = 30.0 + 0.2 * shared, 50.0 * shared + 80.0 * own
    times = 0.1 * np.arange(1, 6001)
    series = NptSeries(times, 36.0 / volumes, volumes, energies)
    found = thermodynamics(series, density(times, series.densities)[1], TEMPERATURE, 1.0)
    known = 0.2 * 50.0 / (GAS_CONSTANT * TEMPERATURE**2 * 30.0)
    assert abs(found["thermal_expansion"].value - known) < 3.0 * found["thermal_expansion"].error
    assert found["thermal_expansion"].converged


def test_a_series_without_volumes_gives_no_compressibility() -> None:
    assert thermodynamics(NptSeries(np.arange(3.0), np.ones(3)), None, TEMPERATURE, 1.0) == {}


def test_free_dipoles_have_the_dielectric_constant_of_an_ideal_gas() -> None:
    rng = np.random.default_rng(3)
    count, box, distance, charge = 100, 3.0, 0.1, 0.4
    axes = rng.normal(size=(400, count, 3))
    axes *= distance / np.linalg.norm(axes, axis=2, keepdims=True)
    centres = rng.uniform(0.0, box, size=(400, count, 1, 3))
    xyz = (centres + np.stack([-0.5 * axes, 0.5 * axes], axis=2)).reshape(400, -1, 3)
    run = run_of(species("HCl", ("H", "Cl"), count))
    dipoles = {"HCl": dipole_of_charges(np.array([charge, -charge]))}
    known = 1.0 + 4.0 * np.pi * COULOMB * count * (charge * distance) ** 2 / (
        3.0 * box**3 * GAS_CONSTANT * TEMPERATURE
    )
    found = dielectric(run, [frames(xyz, box)], dipoles, induced=True)["dielectric_constant"]
    assert abs(found.value - known) < 3.0 * found.error
    assert found.converged
    lower = dielectric(run, [frames(xyz, box)], dipoles, induced=False)["dielectric_constant"]
    assert lower.verdict == "not converged: induced dipoles are not in the trajectory"
    assert dielectric(run, [frames(xyz, box)], {}, induced=True) == {}


def test_a_logged_dipole_gives_the_induced_part_and_the_electronic_one_is_added(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    box, spread, count, alpha = 2.5, 0.9, 100, 6.5
    run = replace(run_of(species("HCl", ("H", "Cl"), count)), directory=tmp_path)
    still = frames(np.zeros((50, 2 * count, 3)), box)
    replicas = [replace(still, dipoles=spread * ar1(rng, (4000, 3), 5.0)) for _ in range(2)]
    fluctuating = 4.0 * np.pi * COULOMB * 3.0 * spread**2 / (3.0 * box**3 * GAS_CONSTANT * TEMPERATURE)
    unknown = dielectric(run, replicas, {}, induced=False)["dielectric_constant"]
    assert abs(unknown.value - 1.0 - fluctuating) < 3.0 * unknown.error
    assert "electronic part is unknown" in unknown.verdict
    response = {"polarizability_qm_A3": 2.0 * alpha, "polarizability_trace_relative_error": -0.5}
    member = {"name": "HCl", "quality": {"response": response}}
    (tmp_path / "forcefield.json").write_text(json.dumps({"species": [member]}))
    found = dielectric(run, replicas, {}, induced=False)["dielectric_constant"]
    share = 4.0 * np.pi / 3.0 * count * alpha * 1e-3 / box**3
    assert found.value - unknown.value == pytest.approx((1.0 + 2.0 * share) / (1.0 - share) - 1.0)
    assert found.error == unknown.error and found.converged


def test_the_stated_error_of_the_dielectric_constant_covers_the_known_one() -> None:
    rng, run = np.random.default_rng(6), run_of(species("HCl", ("H", "Cl"), 1))
    known = 1.0 + 4.0 * np.pi * COULOMB * 3.0 / (3.0 * 27.0 * GAS_CONSTANT * TEMPERATURE)
    deviations = []
    for _ in range(100):
        production = replace(frames(np.zeros((2, 2, 3)), 3.0), dipoles=ar1(rng, (2000, 3), 5.0))
        found = dielectric(run, [production], {}, induced=False)["dielectric_constant"]
        deviations.append((found.value - known) / found.error)
    assert 0.54 <= np.mean(np.abs(deviations) < 1.0) <= 0.82  # 68 % +- three binomial standard errors
    assert np.mean(np.abs(deviations) < 2.0) >= 0.88


def test_off_atom_charges_of_the_force_field_count_in_the_dipole(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run_dir = SyntheticRun(production=False).write(tmp_path)
    (run_dir / "forcefield.json").write_text(
        '{"species": [{"name": "X", "drude_charges": {"atoms": [0.5, 0.0, 0.0], "sites": ['
        '{"kind": "average", "atoms": [0, 1], "weights": [0.5, 0.5], "charge": -0.7},'
        '{"kind": "out-of-plane", "atoms": [0, 1, 2], "weights": [0.1, 0.2, 3.0], "charge": 0.2}]}}]}'
    )
    dipole = force_field_dipoles(read_run(run_dir))["X"]
    xyz = np.array([[[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.2, 0.0]]])
    by_hand = -0.7 * np.array([0.05, 0.0, 0.0]) + 0.2 * np.array([0.01, 0.04, 3.0 * 0.02])
    assert dipole(xyz)[0] == pytest.approx(by_hand)


def test_an_ideal_gas_has_a_structure_factor_of_one() -> None:
    rng = np.random.default_rng(4)
    run = run_of(species("O2", ("O",), 300))
    found = structure_factor(run, [frames(rng.uniform(0.0, 3.0, size=(60, 300, 3)), 3.0)])
    assert found is not None
    assert found.s.mean() == pytest.approx(1.0, abs=0.02)
    assert found.q[-1] < 30.0


def test_a_lattice_scatters_at_its_reciprocal_vectors_only() -> None:
    grid = 0.5 * np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(1, -1, 3)
    run = run_of(species("O2", ("O",), 216))
    found = structure_factor(run, [frames(np.repeat(grid, 20, axis=0), 3.0)])
    assert found is not None
    first_peak = 2.0 * np.pi / 0.5
    assert found.s[found.q < 0.95 * first_peak].max() < 1e-6
