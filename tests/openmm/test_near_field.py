"""Near fields of molecules as a stock OpenMM force: torch's energy and forces, in vacuum and boxes."""

import library_species
import numpy as np
import openmm
import pytest
import torch
from library_species import SHORT_RANGE, at_contact, random_pose
from openmm.app import Topology

from phyff.model.near_field import near_field_energies
from phyff.openmm.forcefield import ENGINES, ForceField
from phyff.openmm.near_field import NAME

NAMES = ("Li+", "Na+", "EC", "AN", "PF6-")
FORCE_FIELD = ForceField(tuple(library_species.load(name) for name in NAMES), SHORT_RANGE)
COUNTS = [("Li+", 2), ("EC", 2), ("AN", 1), ("PF6-", 1), ("Na+", 1)]
GROUP = 9


def _atoms() -> list[np.ndarray]:
    """(n, 3) nm each: molecules in contact, their atoms displaced."""
    rng = np.random.default_rng(12)
    placed: list[np.ndarray] = []
    for name, count in COUNTS:
        for _ in range(count):
            own = FORCE_FIELD.named(name).xyz
            xyz = random_pose(own, rng) + rng.normal(scale=0.004, size=own.shape)
            placed.append(at_contact(np.vstack(placed), xyz, 0.2, rng) if placed else xyz)
    return placed


def _expected(atoms: list[np.ndarray]) -> tuple[float, np.ndarray]:
    """Energy and forces on the atoms by torch."""
    species = [FORCE_FIELD.tensors[name] for name, count in COUNTS for _ in range(count)]
    xyz = torch.tensor(np.vstack(atoms), requires_grad=True)
    parts = near_field_energies(xyz, species, np.cumsum([0, *map(len, atoms)])[:-1].tolist())
    energy = parts["exchange"] - parts["penetration"] + parts["potential"]
    (gradient,) = torch.autograd.grad(energy, xyz)
    return energy.item(), -gradient.numpy()


def _near_field(system: openmm.System) -> openmm.Force:
    (force,) = (f for f in system.getForces() if NAME in f.getName())
    return force


def _found(
    topology: Topology, engine: str, atoms: list[np.ndarray], cutoff: float | None, platform: str
) -> tuple[float, np.ndarray]:
    system = FORCE_FIELD.create_system(topology, cutoff, engine)
    _near_field(system).setForceGroup(GROUP)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform)
    )
    context.setPositions(FORCE_FIELD.place(topology, np.vstack(atoms)))
    state = context.getState(energy=True, forces=True, groups={GROUP})
    forces = state.getForces(asNumpy=True)._value[FORCE_FIELD.atom_indices(topology)]
    return state.getPotentialEnergy()._value, forces


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_energy_and_forces_in_vacuum_are_those_of_torch(engine: str, platform: str) -> None:
    atoms = _atoms()
    energy, forces = _expected(atoms)
    assert abs(energy) > 1.0 and np.abs(forces).max() > 100.0
    found = _found(FORCE_FIELD.topology(COUNTS, engine=engine), engine, atoms, None, platform)
    assert found[0] == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(found[1], forces, atol=1e-5 * np.abs(forces).max())


@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_in_a_box_the_nearest_images_meet_wherever_molecules_are_written(skew: float) -> None:
    atoms = _atoms()
    energy, forces = _expected(atoms)
    vectors = 3.2 * np.array([[1.0, 0.0, 0.0], [skew, 1.0, 0.0], [-skew, skew, 1.0]])
    topology = FORCE_FIELD.topology(COUNTS)
    topology.setPeriodicBoxVectors(vectors * openmm.unit.nanometer)
    rng = np.random.default_rng(1)
    elsewhere = [xyz + rng.integers(-1, 2, size=3) @ vectors for xyz in atoms]
    found = _found(topology, "drude", elsewhere, 0.8, "Reference")
    assert found[0] == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(found[1], forces, atol=1e-5 * np.abs(forces).max())


def test_the_force_is_there_only_where_a_cation_meets_a_molecule() -> None:
    def has(counts: list[tuple[str, int]]) -> bool:
        system = FORCE_FIELD.create_system(FORCE_FIELD.topology(counts), None)
        return any(NAME in force.getName() for force in system.getForces())

    assert has([("Li+", 1), ("EC", 1)])
    assert not has([("PF6-", 1), ("EC", 1)])
    assert not has([("Li+", 1), ("Na+", 1)])
