import numpy as np
import pytest

from phyff.md.guard import DRIFT_CHECKS, WALL_CHECKS, Guard


@pytest.fixture
def guard() -> Guard:
    """Two diatomics "AB" of bond 0.1 nm; particle 2 of each is a Drude particle of particle 0."""
    return Guard(
        molecule=np.array([0, 0, 0, 1, 1, 1]),
        species=["AB", "AB"],
        atom_names=["A1", "B2", "D1"] * 2,
        atoms=np.array([0, 1, 3, 4]),
        bonds=np.array([[0, 1], [3, 4]]),
        bond_lengths=np.array([0.1, 0.1]),
        drudes=np.array([[2, 0], [5, 3]]),
        hard_wall=0.02,
        density_estimate=1.0,
    )


@pytest.fixture
def xyz() -> np.ndarray:
    one = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.001, 0, 0]])
    return np.concatenate([one, one + [0.0, 0.5, 0.0]])


def test_a_healthy_state_passes(guard, xyz):
    zero = np.zeros_like(xyz)
    assert guard.numbers(xyz, zero, -1.0) is None
    assert guard.structure(xyz, zero, 2.0) is None
    assert guard.drude(xyz) is None
    assert guard.density(1.1, xyz, 2.0) is None


def test_not_a_number_names_the_molecule(guard, xyz):
    velocities = np.zeros_like(xyz)
    velocities[4, 1] = np.nan
    assert "AB (residue 2, atom B2)" in guard.numbers(xyz, velocities, 0.0)
    assert "potential energy" in guard.numbers(xyz, np.zeros_like(xyz), np.nan)


def test_a_torn_bond_a_fused_pair_and_a_huge_force_name_their_molecules(guard, xyz):
    zero = np.zeros_like(xyz)
    torn = xyz.copy()
    torn[4, 0] += 0.08
    assert "AB (residue 2, atom A1) is torn" in guard.structure(torn, zero, 2.0)
    fused = xyz.copy()
    fused[3:, 1] = 1.95
    assert "residue 1, atom A1) and AB (residue 2, atom A1) fused" in guard.structure(fused, zero, 2.0)
    forces = zero.copy()
    forces[5, 2] = 3e5
    assert "the force on AB (residue 2, atom A1) is 3e+05" in guard.structure(xyz, forces, 2.0)


def test_a_drude_particle_counts_as_run_away_only_when_it_stays_at_the_wall(guard, xyz):
    away = xyz.copy()
    away[5] = away[3] + [0, 0, 0.02]
    for _ in range(WALL_CHECKS - 1):
        assert guard.drude(away) is None
    assert guard.drude(xyz) is None
    found = [guard.drude(away) for _ in range(WALL_CHECKS)]
    assert found[:-1] == [None] * (WALL_CHECKS - 1)
    assert "AB (residue 2, atom A1)" in found[-1]


def test_density_out_of_range_or_drifting_one_way_is_a_runaway(guard, xyz):
    assert "collapsing" in guard.density(2.6, xyz, 2.0)
    assert "evaporating" in guard.density(0.2, xyz, 2.0)
    guard.forget()
    found = [guard.density(0.9 - 0.05 * k, xyz, 2.0) for k in range(DRIFT_CHECKS + 1)]
    assert found[:-1] == [None] * DRIFT_CHECKS
    assert "evaporating" in found[-1] and "residue 1" in found[-1]
