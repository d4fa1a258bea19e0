"""Does an isolated species hold together: 100 ps of Langevin dynamics at 400 K in vacuum.

    python benchmarks/vacuum_stability.py NAME_OR_SMILES...

Prints the mean temperature of the atoms and the largest stretch of a bond; one beyond 1.3 times its length
counts as broken (exit code 1). Reference platform, drude engine, friction 5/ps against the cold oscillators.
"""

import sys

import numpy as np
import openmm
from openmm import unit

import phyff
from phyff.openmm.drude import DRUDE_MASS
from phyff.units import GAS_CONSTANT

TEMPERATURE, PICOSECONDS, FRAMES = 400.0, 100.0, 2000
BROKEN = 1.3


def main() -> int:
    whole = [_holds(source) for source in sys.argv[1:]]
    return 0 if whole and all(whole) else 1


def _holds(source: str) -> bool:
    forcefield = phyff.build(source)
    (species,) = forcefield.species
    topology = forcefield.topology([(species.name, 1)])
    system = forcefield.create_system(topology, cutoff_nm=None)
    integrator = forcefield.integrator(TEMPERATURE, timestep_fs=1.0, friction=5.0)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    start = np.array(species.conformers[0].xyz_nm)
    context.setPositions(forcefield.place(topology, start))
    atoms = forcefield.atom_indices(topology)
    masses = np.array([system.getParticleMass(int(i))._value for i in atoms])
    masses[forcefield.tensors[species.name].oscillators.numpy()] += DRUDE_MASS  # a pair moves as one
    bonds = np.array(species.molecule.bonds)
    rest = np.linalg.norm(start[bonds[:, 0]] - start[bonds[:, 1]], axis=1)
    stretch, temperatures = 1.0, []
    for _ in range(FRAMES):
        integrator.step(round(1000 * PICOSECONDS / FRAMES))
        state = context.getState(positions=True, velocities=True)
        xyz = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)[atoms]
        speed = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)[atoms]
        lengths = np.linalg.norm(xyz[bonds[:, 0]] - xyz[bonds[:, 1]], axis=1)
        stretch = max(stretch, float((lengths / rest).max()))
        temperatures.append((masses[:, None] * speed**2).sum() / (3 * len(atoms) * GAS_CONSTANT))
    good = bool(np.isfinite(temperatures).all()) and stretch < BROKEN
    print(
        f"{species.name}: {PICOSECONDS:g} ps, atoms at {np.mean(temperatures):.0f} K, longest bond "
        f"{stretch:.3f} times its length, {'whole' if good else 'BROKEN'}",
        flush=True,
    )
    return good


if __name__ == "__main__":
    sys.exit(main())
