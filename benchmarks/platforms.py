"""Does a System mean the same everywhere: energies and forces of both engines on every platform of this machine.

    python benchmarks/platforms.py

A droplet of each library species (an ion with its counter-ion) in a periodic box, and a box of LP30. The
Reference platform (double precision) is the truth. The CPU platform is held to the limit of mixed precision,
with stock pair forces and with native ones where the kernel is installed; OpenCL, CUDA and HIP are compared in
mixed and in double precision where there is a device. Exit code 1 when a limit is broken.

An energy's difference counts relative to the energy, or, where that is below NEAR_ZERO of the sum of the
groups' magnitudes, relative to that sum (marked *): an energy that cancels has no relative error of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from phyff import builder
from phyff.formulation import Formulation
from phyff.formulation.volumes import estimated_molar_volume
from phyff.md import PackedSpecies, pack
from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ForceField
from phyff.openmm.native import accelerated, pair_forces, with_native_forces
from phyff.openmm.platforms import platform_named
from phyff.species.library import library_directory
from phyff.species.parameters import SpeciesParameters
from phyff.units import AVOGADRO

MIXED, DOUBLE = 1e-3, 1e-5
"""Largest relative difference of an energy, and of forces (root mean square)."""
NEAR_ZERO = 0.01
MODELS = (("drude", "mutual"), ("multipole", "mutual"), ("multipole", "extrapolated"))
"""Engine and polarization; the `drude` engine knows but one."""
MAY_DIE = ("OpenCL", "mutual")
"""Platform and polarization of the `multipole` engine that end the process on PoCL (OpenMM 8.6: work items
leave solveDIISMatrix before its barriers). Extrapolated dipoles share all other kernels."""
CUTOFF_NM = 0.7
EDGE_NM = 1.5
"""Of a droplet's box."""
MOLECULES, FORMULA_UNITS = 6, 3
"""In a droplet of a molecule, of a salt."""
PACKING = 0.7
"""Density of a droplet over the assumed one of its liquid; packing asks for room."""
ELECTROLYTE, ATOMS = "1.0 M LiPF6 in EC:DMC 1:1 w/w", 500
RELAXATION_STEPS = 50
"""Few, so that forces stay large."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """Molecules in contact, hardly relaxed in the `drude` engine."""

    name: str
    counts: tuple[tuple[str, int], ...]
    edge_nm: float
    positions: Floats
    """Of every particle of the `drude` engine."""
    atoms: NDArray[np.int_]
    """Which of them are atoms."""


@dataclass(frozen=True)
class Target:
    """What is held against the Reference platform."""

    platform: str
    precision: str | None = None
    native: bool = False

    @property
    def label(self) -> str:
        return " ".join(filter(None, [self.platform, self.precision, "native" if self.native else None]))

    @property
    def limit(self) -> float:
        return DOUBLE if self.precision == "double" else MIXED


@dataclass(frozen=True)
class Evaluation:
    """A System at one set of positions."""

    energies: dict[str, float]
    """By force group, kJ/mol."""
    forces: Floats
    """On particles that have a mass, kJ/mol/nm."""


@dataclass(frozen=True)
class Difference:
    """A platform against Reference, all relative."""

    energies: dict[str, float]
    """By force group, and "total"."""
    near_zero: frozenset[str]
    """Those compared with the sum of all magnitudes."""
    force_rms: float
    """Root mean square of the difference over that of the forces."""
    force_max: float
    """Largest difference on a particle over the root mean square of the forces."""

    def within(self, limit: float) -> bool:
        return all(value <= limit for value in (*self.energies.values(), self.force_rms))


def main() -> int:
    forcefield = library_force_field()
    rows = good = 0
    print(_heading(), flush=True)
    with Worker() as worker:
        for box in boxes(forcefield):
            for engine, polarization in MODELS:
                system, positions = system_of(forcefield, box, engine, polarization)
                expected = evaluate(system, positions, Target("Reference"))
                for target in targets(system):
                    if target.precision is None:
                        found: Evaluation | None = evaluate(system, positions, target)
                    else:
                        found = worker.evaluate(system, positions, target)
                    known = engine == "multipole" and (target.platform, polarization) == MAY_DIE
                    text, fine = _judge(found, expected, target, known)
                    model = engine if engine == "drude" else f"{engine}, {polarization}"
                    print(f"{box.name:14s}{model:25s}{target.label:16s}{text}", flush=True)
                    rows, good = rows + 1, good + fine
    print(f"{good} of {rows} rows within the limits ({DOUBLE:g} in double precision, {MIXED:g} otherwise)")
    return 0 if good == rows else 1


def library_force_field() -> ForceField:
    """All species of the library with its short range."""
    paths = sorted(p for p in library_directory().glob("*.json") if p.name != builder.SHORT_RANGE_FILE)
    return ForceField(tuple(SpeciesParameters.load(path) for path in paths), builder.short_range())


def boxes(forcefield: ForceField) -> Iterator[Box]:
    """A droplet of each species and the electrolyte."""
    for species in forcefield.species:
        yield droplet(forcefield, species)
    box = Formulation.parse(ELECTROLYTE).box(ATOMS)
    topology, positions = builder.starting_box(forcefield, box)
    edge = topology.getPeriodicBoxVectors()[0][0].value_in_unit(unit.nanometer)
    counts = [(name, count) for name, _, count in box.counts]
    yield _relaxed(forcefield, "LP30", counts, edge, positions[forcefield.atom_indices(topology)])


def droplet(forcefield: ForceField, species: SpeciesParameters) -> Box:
    """Molecules of a species, or formula units of an ion and the first counter-ion of the force field."""
    if species.charge == 0:
        counts = [(species.name, MOLECULES)]
    else:
        other = next(s for s in forcefield.species if s.charge * species.charge < 0)
        shared = math.lcm(species.charge, other.charge) * FORMULA_UNITS
        counts = [(s.name, shared // abs(s.charge)) for s in (species, other)]
    entries = [
        PackedSpecies(name, s.elements, (np.array(s.conformers[0].xyz_nm),), (1.0,), count)
        for name, count in counts
        for s in [forcefield.named(name)]
    ]
    volume = sum(
        count * max(0.0, estimated_molar_volume(forcefield.named(name).smiles)) for name, count in counts
    )
    edge = (volume * 1e21 / AVOGADRO / PACKING) ** (1.0 / 3.0)
    title = " ".join(name for name, _ in counts)
    return _relaxed(forcefield, title, counts, max(EDGE_NM, edge), pack(entries, edge, seed=1))


def _relaxed(
    forcefield: ForceField, name: str, counts: Sequence[tuple[str, int]], edge: float, xyz: Floats
) -> Box:
    topology = forcefield.topology(counts, edge)
    platform = platform_named("CPU")
    system = accelerated(forcefield.create_system(topology, CUTOFF_NM), platform)
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), platform)
    context.setPositions(forcefield.place(topology, xyz))
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, RELAXATION_STEPS)
    found = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return Box(name, tuple(counts), edge, found, forcefield.atom_indices(topology))


def system_of(
    forcefield: ForceField, box: Box, engine: str, polarization: str = "mutual"
) -> tuple[openmm.System, Floats]:
    """The box in an engine, and the positions of its particles."""
    topology = forcefield.topology(box.counts, box.edge_nm, engine)
    system = forcefield.create_system(topology, CUTOFF_NM, engine, polarization=polarization)
    return system, box.positions if engine == "drude" else box.positions[box.atoms]


def targets(system: openmm.System) -> list[Target]:
    """What this machine has besides the Reference platform."""
    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    found = [Target("CPU")]
    if pair_forces(system, platform_named("CPU")) == "native":
        found.append(Target("CPU", native=True))
    accelerators = [name for name in names if name not in ("Reference", "CPU")]
    return found + [Target(name, precision) for name in accelerators for precision in ("mixed", "double")]


def evaluate(system: openmm.System, positions: Floats, target: Target) -> Evaluation:
    """Energies and forces there."""
    used = with_native_forces(system) if target.native else system
    properties = {"Precision": target.precision} if target.precision else {}
    context = openmm.Context(
        used, openmm.VerletIntegrator(1e-3), platform_named(target.platform), properties
    )
    context.setPositions(positions)
    context.computeVirtualSites()
    groups = {force.getForceGroup() for force in used.getForces()}
    energies = {
        name: context.getState(energy=True, groups={group}).getPotentialEnergy()._value
        for name, group in GROUPS.items()
        if group in groups
    }
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    heavy = np.array([system.getParticleMass(k)._value > 0 for k in range(system.getNumParticles())])
    return Evaluation(energies, forces[heavy])


class Worker:
    """Evaluates in another process, whose death is reported and survived."""

    def __enter__(self) -> Worker:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def evaluate(self, system: openmm.System, positions: Floats, target: Target) -> Evaluation | None:
        """As the function; None when the process died."""
        try:
            return self._pool.submit(evaluate, system, positions, target).result()
        except BrokenProcessPool:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"))
            return None


def difference(found: Evaluation, expected: Evaluation) -> Difference:
    """Energies by group and in total, and forces."""
    magnitude = sum(map(abs, expected.energies.values()))
    off, near_zero = {}, set()
    for name in (*expected.energies, "total"):
        value, exact = (
            sum(e.energies.values()) if name == "total" else e.energies[name] for e in (found, expected)
        )
        if abs(exact) < NEAR_ZERO * magnitude:
            near_zero.add(name)
        off[name] = abs(value - exact) / (magnitude if name in near_zero else abs(exact))
    typical = np.sqrt(np.mean(np.sum(expected.forces**2, axis=1)))
    errors = np.linalg.norm(found.forces - expected.forces, axis=1)
    return Difference(
        off, frozenset(near_zero), float(np.sqrt(np.mean(errors**2)) / typical), float(errors.max() / typical)
    )


COLUMNS = (*GROUPS, "total")


def _heading() -> str:
    names = "".join(f"{name:>13s}" for name in COLUMNS)
    return f"{'box':14s}{'engine':25s}{'platform':16s}{names}{'force rms':>11s}{'max':>9s}"


def _judge(
    found: Evaluation | None, expected: Evaluation, target: Target, known_to_die: bool
) -> tuple[str, bool]:
    """The rest of a row, and whether it is within the limit."""
    if found is None:
        return "the process died" + (", as known of PoCL" if known_to_die else ""), known_to_die
    off = difference(found, expected)
    numbers = "".join(
        f"{off.energies[name]:12.1e}{'*' if name in off.near_zero else ' '}"
        if name in off.energies
        else f"{'-':>12s} "
        for name in COLUMNS
    )
    fine = off.within(target.limit)
    return f"{numbers}{off.force_rms:11.1e}{off.force_max:9.1e}{'' if fine else '  LIMIT BROKEN'}", fine


if __name__ == "__main__":
    sys.exit(main())
