"""Cations, molecules and anions in contact, and one force on them: for tests of what bare cations feel."""

import numpy as np
import openmm
from library_species import at_contact, random_pose
from openmm.app import Topology

from phyff.openmm.forcefield import ForceField

COUNTS = [("Li+", 2), ("EC", 2), ("AN", 1), ("PF6-", 1), ("Na+", 1)]
NAMES = tuple(name for name, _ in COUNTS)
GROUP = 9


def placed(forcefield: ForceField, gap: float) -> list[np.ndarray]:
    """(n, 3) nm each: molecules `gap` nm from each other, their atoms displaced."""
    rng = np.random.default_rng(12)
    found: list[np.ndarray] = []
    for name, count in COUNTS:
        for _ in range(count):
            own = forcefield.named(name).xyz
            xyz = random_pose(own, rng) + rng.normal(scale=0.004, size=own.shape)
            found.append(at_contact(np.vstack(found), xyz, gap, rng) if found else xyz)
    return found


def evaluated(
    forcefield: ForceField,
    topology: Topology,
    engine: str,
    atoms: list[np.ndarray],
    cutoff: float | None,
    platform: str,
    name: str,
) -> tuple[float, np.ndarray]:
    """Energy and forces on the atoms of the one force whose name ends so."""
    system = forcefield.create_system(topology, cutoff, engine)
    (force,) = (f for f in system.getForces() if f.getName().endswith(name))
    force.setForceGroup(GROUP)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform)
    )
    context.setPositions(forcefield.place(topology, np.vstack(atoms)))
    state = context.getState(energy=True, forces=True, groups={GROUP})
    forces = state.getForces(asNumpy=True)._value[forcefield.atom_indices(topology)]
    return state.getPotentialEnergy()._value, forces


def skewed_box(
    forcefield: ForceField, atoms: list[np.ndarray], skew: float
) -> tuple[Topology, list[np.ndarray]]:
    """A box around the molecules, each written into a neighbouring image at random."""
    vectors = 3.2 * np.array([[1.0, 0.0, 0.0], [skew, 1.0, 0.0], [-skew, skew, 1.0]])
    topology = forcefield.topology(COUNTS)
    topology.setPeriodicBoxVectors(vectors * openmm.unit.nanometer)
    rng = np.random.default_rng(1)
    return topology, [xyz + rng.integers(-1, 2, size=3) @ vectors for xyz in atoms]
