"""How cost and memory of a step of the `drude` engine grow with the number of atoms, all sizes in one run.

    python benchmarks/scaling.py [--max-atoms N] [--platform NAME]

A relaxed box of about 500 atoms of 1 M LiPF6 in EC:DMC is repeated up to about 16 000. Each size has a
process of its own, whose peak memory is the size's (Linux), and native pair forces where `phyff run` has
them. The exponent is that of wall time, or, on the CPU and Reference platforms, of CPU time, which other
load hardly changes (with OPENMM_CPU_THREADS=1 it is what a step takes on an idle machine).
"""

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit
from scipy.stats import linregress

from phyff import builder
from phyff.errors import SimulationError
from phyff.formulation import Formulation
from phyff.md.protocol import PRESETS
from phyff.md.temperature import drude_pairs
from phyff.openmm.forcefield import ForceField
from phyff.openmm.native import accelerated, pair_forces
from phyff.openmm.platforms import device, platform_named, precision
from phyff.species.library import library_directory
from phyff.species.parameters import SpeciesParameters

ELECTROLYTE, ATOMS = "1.0 M LiPF6 in EC:DMC 1:1 w/w", 500
TEMPERATURE_K, CUTOFF_NM = 298.15, PRESETS["standard"].cutoff_nm
REPEATS = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (4, 2, 2), (4, 4, 2))
"""Of the relaxed box along x, y and z."""
RELAXATION_STEPS = 100
WARM_UP_STEPS, ROUNDS, STEPS = 10, 3, 10
TIMED_BY_CPU = ("CPU", "Reference")
FEWEST_SIZES = 3
"""That an exponent and its error can come from."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """Relaxed molecules with all particles of the `drude` engine."""

    counts: tuple[tuple[str, int], ...]
    n_atoms: int
    edge_nm: float
    positions: Floats


@dataclass(frozen=True)
class Size:
    """What one size costs."""

    atoms: int
    particles: int
    cpu_ms: float
    """Of all threads, a step."""
    wall_ms: float
    peak_mb: float
    """Most resident memory the process had."""
    idle_mb: float
    """What of it was there before the System: Python and its modules."""
    ran_on: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-atoms", type=int, default=18000, help="leave out larger sizes")
    parser.add_argument("--platform", help="OpenMM platform, by default the fastest")
    options = parser.parse_args()
    platform = platform_named(options.platform).getName()
    rows: list[Size] = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        box = processes.submit(relaxed_box).result()
        print("  atoms  particles   CPU ms  wall ms  us/atom  peak MB  of it idle", flush=True)
        for repeats in REPEATS:
            if box.n_atoms * math.prod(repeats) > options.max_atoms:
                break
            row = processes.submit(measure, box, repeats, platform).result()
            rows.append(row)
            print(
                f"{row.atoms:7d}{row.particles:11d}{row.cpu_ms:9.2f}{row.wall_ms:9.2f}"
                f"{1e3 * _cost(row, platform) / row.atoms:9.2f}{row.peak_mb:9.0f}{row.idle_mb:12.0f}",
                flush=True,
            )
    if len(rows) >= FEWEST_SIZES:
        clock = "CPU time" if platform in TIMED_BY_CPU else "wall time"
        value, error = exponent([row.atoms for row in rows], [_cost(row, platform) for row in rows])
        print(f"{clock} grows as atoms to the power of {value:.3f} ± {error:.3f}")
    if rows:
        print(f"{rows[0].ran_on}, OpenMM {openmm.version.version}")


def exponent(atoms: list[int], cost: list[float]) -> tuple[float, float]:
    """Of a power law through the points, by least squares of logarithms, and its standard error."""
    fit = linregress(np.log(atoms), np.log(cost))
    return float(fit.slope), float(fit.stderr)


def relaxed_box() -> Box:
    """The box that is repeated, packed and minimised on the CPU platform."""
    box = Formulation.parse(ELECTROLYTE).box(ATOMS)
    forcefield = _force_field([name for name, _, _ in box.counts])
    topology, packed = builder.starting_box(forcefield, box)
    platform = platform_named("CPU")
    system = accelerated(forcefield.create_system(topology, CUTOFF_NM), platform)
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), platform)
    context.setPositions(packed)
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, RELAXATION_STEPS)
    found = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    edge = topology.getPeriodicBoxVectors()[0][0].value_in_unit(unit.nanometer)
    return Box(tuple((name, count) for name, _, count in box.counts), box.n_atoms, edge, found)


def measure(box: Box, repeats: tuple[int, int, int], platform_name: str) -> Size:
    """Milliseconds a step and peak memory of the repeated box; in a process of its own.

    Raises:
        SimulationError: the box did not survive the timing.
    """
    idle = _peak_mb()
    platform, forcefield = platform_named(platform_name), _force_field([name for name, _ in box.counts])
    copies = math.prod(repeats)
    topology = forcefield.topology([(name, count * copies) for name, count in box.counts])
    topology.setPeriodicBoxVectors(np.diag(repeats) * box.edge_nm * unit.nanometer)
    system = forcefield.create_system(topology, CUTOFF_NM)
    context = openmm.Context(
        accelerated(system, platform), forcefield.integrator(TEMPERATURE_K), platform, precision(platform)
    )
    context.setPositions(repeated(forcefield, box, repeats))
    context.setVelocities(_velocities(system, context))
    cpu, wall = _milliseconds(context)
    return Size(
        box.n_atoms * copies,
        system.getNumParticles(),
        cpu,
        wall,
        _peak_mb(),
        idle,
        f"{platform_name}, {pair_forces(system, platform)} pair forces, {device(context)}",
    )


def repeated(forcefield: ForceField, box: Box, repeats: tuple[int, int, int]) -> Floats:
    """Positions of the copies in the order of the topology: species by species, copy by copy."""
    shifts = box.edge_nm * np.array(list(np.ndindex(*repeats)), dtype=float)
    blocks, start = [], 0
    for name, count in box.counts:
        size = forcefield.topology([(name, count)]).getNumAtoms()
        block = box.positions[start : start + size]
        blocks.append((block + shifts[:, None]).reshape(-1, 3))
        start += size
    return np.concatenate(blocks)


def _force_field(names: list[str]) -> ForceField:
    library = library_directory()
    species = tuple(SpeciesParameters.load(library / f"{name}.json") for name in names)
    return ForceField(species, builder.short_range())


def _cost(row: Size, platform: str) -> float:
    return row.cpu_ms if platform in TIMED_BY_CPU else row.wall_ms


def _velocities(system: openmm.System, context: openmm.Context) -> Floats:
    """Thermal, oscillators moving with their atoms."""
    context.setVelocitiesToTemperature(TEMPERATURE_K, 1)
    found = context.getState(velocities=True).getVelocities(asNumpy=True)._value
    pairs = drude_pairs(system)
    found[pairs[:, 0]] = found[pairs[:, 1]]
    return found


def _milliseconds(context: openmm.Context) -> tuple[float, float]:
    """CPU and wall time a step, medians over rounds."""
    _step(context, WARM_UP_STEPS)
    rounds = []
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        energy = _step(context, STEPS)
        rounds.append((time.process_time() - cpu, time.perf_counter() - wall))
    if not math.isfinite(energy):
        raise SimulationError("The box blew up while it was timed; its time means nothing.")
    cpu_ms, wall_ms = 1e3 * np.median(rounds, axis=0) / STEPS
    return float(cpu_ms), float(wall_ms)


def _step(context: openmm.Context, steps: int) -> float:
    """Energy afterwards, kJ/mol: nothing is left to be computed."""
    context.getIntegrator().step(steps)
    return float(context.getState(energy=True).getPotentialEnergy()._value)


def _peak_mb() -> float:
    """Of this process alone; getrusage would count its parent's."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return float(line.split()[1]) / 1024.0


if __name__ == "__main__":
    main()
