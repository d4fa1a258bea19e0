"""What the native kernel gains and how exact it is: stock and native forces on one box, in one process.

    OMP_NUM_THREADS=1 python benchmarks/native_kernel.py [ATOMS [VARIANT]]

1 M LiPF6 in EC:DMC, default 2000 atoms, CPU platform, one thread. With a VARIANT there is a neural term too,
untrained and of usual size. Times are CPU time of the process, so that other load counts little; the two are
timed in turn. Energies are compared with stock forces on the Reference platform.
"""

import sys
import time

import numpy as np
import openmm
from openmm import unit

from phyff import builder
from phyff.formulation import Formulation
from phyff.model.neural import Architecture, NeuralTerm, initial_weights
from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ForceField
from phyff.openmm.native import with_native_forces
from phyff.species.parameters import SpeciesParameters

ELECTROLYTE = "1.0 M LiPF6 in EC:DMC 1:1 w/w"
ROUNDS, STEPS = 5, 20


def main() -> None:
    box = Formulation.parse(ELECTROLYTE).box(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    names = [name for name, _, _ in box.counts]
    library = builder.library.library_directory()
    forcefield = ForceField(
        tuple(SpeciesParameters.load(library / f"{name}.json") for name in names),
        builder.short_range(),
        _untrained(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
    terms = ["short range", "damping"] + ["neural"] * (forcefield.neural is not None)
    topology, positions = builder.starting_box(forcefield, box)
    system = forcefield.create_system(topology, 0.8)
    found = _relaxed(system, positions)
    contexts = {
        "stock": _context(forcefield, system, found, "CPU"),
        "native": _context(forcefield, with_native_forces(system), found, "CPU"),
    }
    print(f"{box.n_atoms} atoms, {system.getNumParticles()} particles, OpenMM {openmm.version.version}")
    reference = _context(forcefield, system, found, "Reference")
    for term in terms:
        exact = _energy(reference, term)
        off = {name: abs(_energy(context, term) / exact - 1) for name, context in contexts.items()}
        print(f"{term}: relative error of the energy " + ", ".join(f"{n} {v:.0e}" for n, v in off.items()))
    for term in (*terms, "whole step"):
        spent: dict[str, list[float]] = {name: [] for name in contexts}
        for _ in range(ROUNDS):
            for name, context in contexts.items():
                spent[name].append(_milliseconds(context, term))
        medians = {name: float(np.median(values)) for name, values in spent.items()}
        row = ", ".join(f"{name} {value:.1f} ms" for name, value in medians.items())
        print(f"{term}: {row}, ratio {medians['stock'] / medians['native']:.1f}")


def _untrained(variant: str) -> NeuralTerm:
    architecture = Architecture(variant=variant)
    return NeuralTerm(architecture, initial_weights(architecture, seed=1), {})


def _relaxed(system: openmm.System, positions: np.ndarray) -> np.ndarray:
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(with_native_forces(system), openmm.VerletIntegrator(1e-3), platform)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, 100)
    return context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def _context(
    forcefield: ForceField, system: openmm.System, positions: np.ndarray, platform: str
) -> openmm.Context:
    chosen = openmm.Platform.getPlatformByName(platform)
    threads = {"Threads": "1"} if platform == "CPU" else {}
    context = openmm.Context(system, forcefield.integrator(298.15), chosen, threads)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(298.15, 1)
    return context


def _energy(context: openmm.Context, term: str) -> float:
    state = context.getState(energy=True, groups={GROUPS[term]})
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def _milliseconds(context: openmm.Context, term: str) -> float:
    start = time.process_time()
    if term == "whole step":
        context.getIntegrator().step(STEPS)
        context.getState(energy=True)
    else:
        for _ in range(STEPS):
            context.getState(forces=True, groups={GROUPS[term]})
    return 1e3 * (time.process_time() - start) / STEPS


if __name__ == "__main__":
    main()
