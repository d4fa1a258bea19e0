"""Lowered barriers: which, by how much, and that only stages before those that count have them."""

import numpy as np
import openmm
import pytest
from MDAnalysis.lib.distances import calc_dihedrals
from scipy.interpolate import CubicSpline

import phyff
from phyff.md import preset
from phyff.md.barriers import LEFT, POINTS, barrier_forces, bias_of, lowered_barriers
from phyff.md.run_system import prepared, stage_context

ANGLES = 2.0 * np.pi * np.arange(POINTS) / POINTS - np.pi


@pytest.fixture(scope="module")
def dmc() -> phyff.ForceField:
    return phyff.build("DMC")


@pytest.fixture(scope="module")
def lowered(dmc: phyff.ForceField) -> dict:
    return lowered_barriers(dmc, ["DMC"])


def test_wells_keep_their_depth_and_barriers_end_a_little_above_the_higher_one() -> None:
    energies = 20.0 * (1.0 - np.cos(2.0 * ANGLES)) + 5.0 * (1.0 - np.cos(ANGLES))  # 0 at cis, 10 at trans
    left = energies + bias_of(energies)
    wells = [0, POINTS // 2]
    np.testing.assert_array_equal(left[wells], energies[wells])
    assert left.max() == pytest.approx(10.0 + LEFT)
    assert np.all(left <= energies)


def test_a_well_high_up_stays_as_hard_to_reach_and_a_ripple_is_no_well() -> None:
    energies = 20.0 * (1.0 - np.cos(2.0 * ANGLES)) + 20.0 * (1.0 - np.cos(ANGLES))  # trans at 40
    left = energies + bias_of(energies)
    assert left[0] == pytest.approx(40.0)
    assert left[POINTS // 4] == pytest.approx(40.0 + LEFT)
    one_well = 30.0 * (1.0 - np.cos(ANGLES)) + 0.5 * np.cos(8.0 * ANGLES)
    np.testing.assert_array_equal(bias_of(one_well), 0.0)


def test_esters_bonds_are_found_with_their_barrier(lowered: dict) -> None:
    (row,) = lowered["DMC"]
    assert row["bond"] == "C-O-C-O" and len(row["torsions"]) == 2
    bias = np.array(row["bias_kJ_mol"])
    assert -32.0 < bias.min() < -20.0, "a barrier of 41 between wells at 0 and 11 kJ/mol"
    np.testing.assert_allclose(bias, bias[-np.arange(POINTS) % POINTS], err_msg="its mirror image is itself")
    assert bias[0] == bias[POINTS // 2] == 0.0


def test_the_force_is_the_bias_of_every_such_bond(dmc: phyff.ForceField, lowered: dict) -> None:
    species, row = dmc.species[0], lowered["DMC"][0]
    system = openmm.System()
    for _ in range(3 * species.n_atoms):
        system.addParticle(1.0)
    for force in barrier_forces(lowered, [(species, 3)], np.arange(3 * species.n_atoms)):
        system.addForce(force)
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), reference)
    xyz = np.random.default_rng(1).normal(size=(3 * species.n_atoms, 3))
    context.setPositions(xyz)
    atoms = xyz.reshape(3, -1, 3)
    angles = [calc_dihedrals(*atoms[:, torsion].transpose(1, 0, 2)) for torsion in row["torsions"]]
    profile = CubicSpline(
        np.append(ANGLES, np.pi), [*row["bias_kJ_mol"], row["bias_kJ_mol"][0]], bc_type="periodic"
    )
    energy = context.getState(energy=True).getPotentialEnergy()._value
    assert energy == pytest.approx(profile(np.array(angles)).sum(), abs=1e-4)
    assert energy < -1.0


def test_stages_that_count_have_no_bias(dmc: phyff.ForceField, lowered: dict, tmp_path) -> None:  # type: ignore[no-untyped-def]
    settings = preset("quick", cutoff_nm=0.65)
    run = prepared(dmc, [("DMC", 18)], 1.0, settings, tmp_path, "Reference")
    run.state.lowered_barriers = lowered
    biased = []
    for stage in settings.stages:
        context = stage_context(run, stage, 0)
        if "LoweredBarrier" in [force.getName() for force in context.getSystem().getForces()]:
            biased.append(stage.name)
    assert biased == ["mix", "equilibrate"]
    assert not any(stage.counts for stage in settings.stages if stage.lowered_barriers)
