"""Charge that flows along bonds as a stock OpenMM force: torch's energy and forces, in vacuum and boxes."""

import library_species
import numpy as np
import openmm
import pytest
import torch
from cations_in_contact import COUNTS, NAMES, evaluated, placed, skewed_box
from library_species import SHORT_RANGE, with_random_flows

from phyff.model.charge_flow import CUTOFF, flow_energy
from phyff.openmm.charge_flow import LONGEST_BOND, NAME
from phyff.openmm.forcefield import ENGINES, ForceField

FORCE_FIELD = ForceField(
    tuple(with_random_flows(library_species.load(name), np.random.default_rng(8)) for name in NAMES),
    SHORT_RANGE,
)
PLATFORMS = ("Reference", "CPU")


def _expected(atoms: list[np.ndarray]) -> tuple[float, np.ndarray]:
    """Energy and forces on the atoms by torch."""
    species = [FORCE_FIELD.tensors[name] for name, count in COUNTS for _ in range(count)]
    xyz = torch.tensor(np.vstack(atoms), requires_grad=True)
    energy = flow_energy(xyz, species, np.cumsum([0, *map(len, atoms)])[:-1].tolist())
    (gradient,) = torch.autograd.grad(energy, xyz)
    return energy.item(), -gradient.numpy()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_energy_and_forces_in_vacuum_are_those_of_torch(engine: str, platform: str) -> None:
    atoms = placed(FORCE_FIELD, 0.22)
    energy, forces = _expected(atoms)
    assert abs(energy) > 5.0 and np.abs(forces).max() > 100.0
    found = evaluated(
        FORCE_FIELD, FORCE_FIELD.topology(COUNTS, engine=engine), engine, atoms, None, platform, NAME
    )
    assert found[0] == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(found[1], forces, atol=1e-5 * np.abs(forces).max())


@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_in_a_box_the_nearest_images_meet_wherever_molecules_are_written(skew: float) -> None:
    atoms = placed(FORCE_FIELD, 0.22)
    energy, forces = _expected(atoms)
    topology, elsewhere = skewed_box(FORCE_FIELD, atoms, skew)
    found = evaluated(FORCE_FIELD, topology, "drude", elsewhere, 0.8, "Reference", NAME)
    assert found[0] == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(found[1], forces, atol=1e-5 * np.abs(forces).max())


def test_no_bond_of_the_library_reaches_beyond_the_cutoff_of_the_force() -> None:
    # OpenMM leaves out a flow whose atom i is beyond; its mean distance must be beyond the switch by then
    for name in library_species.NAMES:
        species = library_species.load(name)
        for i, j in species.molecule.bonds:
            longest = np.linalg.norm(species.xyz[i] - species.xyz[j])
            assert longest < 0.95 * LONGEST_BOND  # the rest is for its vibration


def test_the_force_is_there_only_where_a_cation_meets_what_flows() -> None:
    def names(counts: list[tuple[str, int]], forcefield: ForceField = FORCE_FIELD) -> set[str]:
        system = forcefield.create_system(forcefield.topology(counts), None)
        return {force.getName() for force in system.getForces()}

    assert NAME in names([("Li+", 1), ("EC", 1)])
    assert NAME not in names([("PF6-", 1), ("EC", 1)])
    assert NAME not in names([("Li+", 1), ("Na+", 1)])
    still = tuple(s.model_copy(update={"charge_flow": ()}) for s in FORCE_FIELD.species)
    assert NAME not in names([("Li+", 1), ("EC", 1)], ForceField(still, SHORT_RANGE))


def test_a_box_that_the_short_range_fits_has_room_for_it() -> None:
    topology = FORCE_FIELD.topology([("Li+", 1), ("EC", 1)], box_nm=1.31)
    system = FORCE_FIELD.create_system(topology, 0.65)
    (force,) = (f for f in system.getForces() if f.getName() == NAME)
    assert force.getCutoffDistance()._value == pytest.approx(CUTOFF + 0.5 * LONGEST_BOND)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(
        FORCE_FIELD.place(topology, np.vstack([[[0.3, 0.3, 0.3]], FORCE_FIELD.named("EC").xyz]))
    )
    assert np.isfinite(context.getState(energy=True).getPotentialEnergy()._value)
