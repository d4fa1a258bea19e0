"""Viscosity of the Lennard-Jones liquid near its triple point by driven flow: thermostat and box size.

    python benchmarks/viscosity_argon.py [PS]

T* = 0.722, rho* = 0.8442, cut at 2.5 sigma, PS (default 300) at each of three accelerations, chosen for alike
shear rates in both boxes. Published Green-Kubo value of the full potential, 2048 atoms: 3.24 +- 0.04
(Ferrario et al., Phys. Rev. A 44, 6936 (1991)).
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import openmm

from phyff.md.driven import Driving
from phyff.md.viscosity import shear_flow
from phyff.properties.trajectory import Run
from phyff.properties.viscosity import viscosity

SIGMA, EPSILON, MASS = 0.3405, 0.996, 39.948
CELL_NM = SIGMA * (4.0 / 0.8442) ** (1.0 / 3.0)
TEMPERATURE = 0.722 * EPSILON / 0.00831446
REDUCED_CP = np.sqrt(MASS * EPSILON) / SIGMA**2 * 1.66053907e-3
"""cP of one sqrt(m epsilon) / sigma^2 (amu/nm/ps = 1.66e-6 Pa s)."""


def liquid(cells_z: int) -> tuple[openmm.System, np.ndarray]:
    """System of 4 x 4 x cells_z face-centred cells and its lattice (n, 3) in nm."""
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(CELL_NM * np.diag([4.0, 4.0, float(cells_z)])))
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(2.5 * SIGMA)
    cells = np.array([[x, y, z] for x in range(4) for y in range(4) for z in range(cells_z)])
    basis = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    lattice = CELL_NM * (cells[:, None] + basis).reshape(-1, 3)
    for _ in lattice:
        system.addParticle(MASS)
        force.addParticle(0.0, SIGMA, EPSILON)
    system.addForce(force)
    return system, lattice


def main() -> None:
    """One row a box and friction."""
    ps = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    for cells_z, friction, largest in ((4, 0.2, 0.09), (4, 2.0, 0.09), (8, 0.2, 0.045)):
        system, lattice = liquid(cells_z)

        def integrator(friction: float = friction) -> openmm.Integrator:
            made = openmm.LangevinMiddleIntegrator(TEMPERATURE, friction, 0.004)
            made.setRandomNumberSeed(3)
            return made

        context = openmm.Context(system, integrator(), openmm.Platform.getPlatformByName("CPU"))
        context.setPositions(lattice)
        context.setVelocitiesToTemperature(2.0 * TEMPERATURE, 1)
        context.getIntegrator().step(10000)
        start = context.getState(positions=True, velocities=True)
        amplitudes = tuple(largest * share for share in (1 / 3, 2 / 3, 1.0))
        with tempfile.TemporaryDirectory() as folder:
            shear_flow(system, integrator, start, Path(folder), Driving(ps, amplitudes, 10.0, "CPU"))
            found, flow = viscosity(Run(Path(folder), {}, ()))
        assert found is not None and flow is not None
        value, error = found.value / REDUCED_CP, found.error / REDUCED_CP
        kind = "linear" if found.details["linear_response"] else "cubic term kept"
        print(
            f"| {len(lattice)} atoms, friction {friction}/ps | {value:.2f} ± {error:.2f} | {kind} "
            f"| {found.verdict} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
