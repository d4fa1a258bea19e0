"""Structure: an ideal gas has g = 1, a lattice its coordination number, a bound shell its verdict."""

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic_run import SyntheticRun

from phyff.properties.structure import BIN_NM, first_minimum, radial_distribution, structure
from phyff.properties.trajectory import Production, read_replicas, read_run


def production(snapshots: NDArray[np.float64], box_nm: float) -> Production:
    return Production(np.zeros((len(snapshots), 1, 3)), snapshots.astype(np.float32), 1, 1.0, box_nm)


def test_an_ideal_gas_has_a_flat_distribution() -> None:
    rng = np.random.default_rng(1)
    gas = production(rng.uniform(0.0, 3.0, size=(60, 400, 3)) + 30.0, 3.0)
    curve = radial_distribution("gas", np.arange(100), np.arange(100, 400), [gas])
    outer = curve.r > 0.5
    assert curve.g[outer].mean() == pytest.approx(1.0, abs=0.01)
    assert np.mean(np.abs(curve.g[outer] - 1.0) < 2.0 * curve.g_error[outer]) > 0.8
    inside = 300 / 27.0 * 4.0 / 3.0 * np.pi * curve.r[-1] ** 3
    assert curve.running[-1] == pytest.approx(inside, rel=0.02)


def test_a_gas_of_one_kind_does_not_count_an_atom_as_its_own_neighbour() -> None:
    rng = np.random.default_rng(2)
    gas = production(rng.uniform(0.0, 3.0, size=(60, 200, 3)), 3.0)
    curve = radial_distribution("gas", np.arange(200), np.arange(200), [gas])
    assert curve.g[curve.r > 0.5].mean() == pytest.approx(1.0, abs=0.01)


def test_rock_salt_has_six_neighbours() -> None:
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cations = np.flatnonzero(grid.sum(axis=1) % 2 == 0)
    anions = np.flatnonzero(grid.sum(axis=1) % 2 == 1)
    snapshots = 0.28 * grid + rng.normal(0.0, 0.008, size=(25, 512, 3))
    curve = radial_distribution("lattice", cations, anions, [production(snapshots, 8 * 0.28)])
    assert 0.31 < curve.shell_nm < 0.46
    assert np.interp(curve.shell_nm, curve.r, curve.running) == pytest.approx(6.0, abs=1e-6)


def test_a_curve_without_a_peak_has_no_first_shell() -> None:
    r = 0.005 * np.arange(200) + 0.0025
    assert np.isnan(first_minimum(r, np.ones(200)))


def test_a_shell_that_never_exchanges_is_counted_but_not_called_converged(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = read_run(SyntheticRun(n_frames=100, shell=2, box_nm=6.0).write(tmp_path))
    (trajectory,) = read_replicas(run)
    found, curves = structure(run, [trajectory])
    carbonyl = found["coordination_Li_carbonyl_O"]
    # Unbound solvent walks into shells too, so the exact answer is a plain count, two of it the bound pair.
    solvent = run.species[2]
    oxygens = trajectory.snapshots[:, solvent.atoms(solvent.carbonyl)].astype(float)
    edge = carbonyl.details["shell_nm"] + BIN_NM / 2.0
    counts, bound = [], []
    for ion in range(30):
        difference = oxygens - trajectory.snapshots[:, [ion]].astype(float)
        difference -= 6.0 * np.round(difference / 6.0)
        inside = np.linalg.norm(difference, axis=2) < edge
        counts.append(inside.sum(axis=1).mean())
        bound.append(inside[:, 2 * ion : 2 * ion + 2].sum(axis=1).mean())
    assert np.mean(bound) == pytest.approx(2.0, abs=1e-3)
    assert carbonyl.value == pytest.approx(np.mean(counts), abs=1e-3)
    assert "not converged" in carbonyl.verdict
    assert set(found) == {"coordination_Li_O", "coordination_Li_carbonyl_O", "coordination_Li_F"}
    assert [curve.label for curve in curves] == ["Li-O", "Li-carbonyl O", "Li-F"]


def test_too_few_frames_give_no_coordination(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = read_run(SyntheticRun(n_frames=5).write(tmp_path))
    found, curves = structure(run, read_replicas(run))
    assert curves == ()
    assert found["coordination_Li_O"].to_json()["value"] is None
