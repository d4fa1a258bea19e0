"""Does a System mean the same on every platform: energies and forces of both engines against Reference.

    python benchmarks/platforms.py

A droplet of each library species (an ion with its counter-ion) in a periodic box, and a box of LP30, with
the library's neural term. The CPU platform is held to the limits of mixed precision, with stock pair forces
and with native ones where the kernel is installed; OpenCL, CUDA and HIP are compared in mixed and in double
precision where there is a device, with the native neural term where there is one. Exit code 1 when a limit is
broken, or a process dies that is not known to.

An energy's difference counts relative to the energy, or, where that is below NEAR_ZERO of the sum of the
groups' magnitudes, relative to that sum (marked *): an energy that cancels has no relative error of its own.
The zero of the charges' energy is a platform's own (OpenMM squares charges in single precision for Ewald's
self energy on GPUs, whatever is asked), so "binding" holds the total against that of the same molecules drawn
apart in the same Context, which is what an interaction energy is: relative to itself, and 0.1 % of the sum of
magnitudes at least. A row in double precision where nothing but the charges' energy and the total is beyond
its limit says "another zero".

Forces are those on an atom together with its oscillator. What pulls the two apart has a column of its own,
because in single precision OpenMM subtracts nearly equal numbers there (Ewald's exclusion at 1e-3 nm): the
error it makes in the oscillators' displacements, relative to these.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from multiprocessing import get_context

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from phyff import builder
from phyff.formulation import Formulation
from phyff.formulation.volumes import estimated_molar_volume
from phyff.md import PackedSpecies, pack
from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ForceField
from phyff.openmm.multipole import shortest_cutoff
from phyff.openmm.native import neural_term, pair_forces, with_native_forces, with_native_neural
from phyff.openmm.platforms import device, platform_named
from phyff.species.library import library_directory
from phyff.species.parameters import SpeciesParameters, library_species
from phyff.units import AVOGADRO, COULOMB

NEAR_ZERO = 0.05
"""Single precision on OpenMM's own CPU route loses up to 0.03 kJ/mol of the charges' energy of a droplet,
6e-3 of it where it cancels to 3 % of the sum of magnitudes (DOL)."""
MODELS = (("drude", "mutual"), ("multipole", "mutual"), ("multipole", "extrapolated"))
"""Engine and polarization, which only the `multipole` engine has a choice of."""
MAY_DIE = ("OpenCL", "mutual")
"""Platform and polarization of the `multipole` engine that end the process on PoCL (OpenMM 8.6: work items
leave solveDIISMatrix before its barriers); extrapolated dipoles run there."""
CUTOFF_NM = 0.7
EDGE_NM = 1.5
"""Of a droplet's box, or twice the cut-off that its longest molecule needs."""
MOLECULES, FORMULA_UNITS = 6, 3
"""In a droplet of a molecule, of a salt."""
PACKING = 0.7
"""Density of a droplet over the assumed one of its liquid; packing asks for room."""
ELECTROLYTE, ATOMS = "1.0 M LiPF6 in EC:DMC 1:1 w/w", 500
RELAXATION_STEPS = 50
"""Few, so that forces stay large."""
DISPERSAL = 2.0
"""Factor on the edges of a box and the places of its molecules."""
HAVE_A_ZERO = ("permanent", "total")
"""Energies with Ewald's self energy in them."""
LEAST_BINDING = 1e-3
"""Of the sum of magnitudes: less binding than that has no relative error of its own."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """Largest relative differences."""

    energy: float
    force: float
    """Root mean square."""
    displacement: float
    """Of oscillators, root mean square."""


MIXED = Limits(1e-3, 1e-3, 1e-2)
DOUBLE = Limits(1e-5, 1e-4, 1e-5)
"""Forces less than energies: GPU kernels keep parameters of bonds in single precision, whatever is asked."""


@dataclass(frozen=True)
class Box:
    """Molecules in contact, hardly relaxed in the `drude` engine, without the neural term."""

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
    """Pair forces on the CPU platform, and everywhere the neural term."""

    @property
    def label(self) -> str:
        return " ".join(filter(None, [self.platform, self.precision, "native" if self.native else None]))

    @property
    def limits(self) -> Limits:
        return DOUBLE if self.precision == "double" else MIXED


@dataclass(frozen=True)
class Evaluation:
    """A System at one set of positions."""

    device: str
    energies: dict[str, float]
    """By force group, kJ/mol."""
    apart: float
    """Energy of the same molecules DISPERSAL times as far from one another, kJ/mol."""
    forces: Floats
    """On an atom and its oscillator together, kJ/mol/nm."""
    displacements: Floats
    """Of the oscillators, nm."""
    pulls: Floats
    """Forces on the oscillators over their force constants, nm."""


@dataclass(frozen=True)
class Difference:
    """A platform against Reference, all relative."""

    energies: dict[str, float]
    """By force group, and "total"."""
    near_zero: frozenset[str]
    """Those compared with the sum of all magnitudes."""
    binding: float
    """Of the energy less that of the molecules drawn apart."""
    force_rms: float
    """Root mean square of the difference over that of the forces."""
    force_max: float
    """Largest difference on an atom over the root mean square of the forces."""
    displacement: float | None
    """Root mean square of the pulls' difference over that of the displacements; None without oscillators."""

    def within(self, limits: Limits, but: Collection[str] = ()) -> bool:
        """Whether nothing is beyond its limit, these energies left out."""
        judged = [value for name, value in self.energies.items() if name not in but]
        return (
            all(value <= limits.energy for value in (*judged, self.binding))
            and self.force_rms <= limits.force
            and (self.displacement or 0.0) <= limits.displacement
        )


@dataclass(frozen=True)
class Row:
    """A platform on one box in one model."""

    box: str
    engine: str
    polarization: str
    target: Target
    device: str | None
    """None when the process died, as is `difference` then."""
    difference: Difference | None

    @property
    def excused(self) -> bool:
        """Whether it died as it is known to."""
        known = self.engine == "multipole" and (self.target.platform, self.polarization) == MAY_DIE
        return known and self.difference is None

    @property
    def within(self) -> bool:
        """Whether nothing is beyond its limit."""
        return self.difference is not None and self.difference.within(self.target.limits)

    @property
    def has_another_zero(self) -> bool:
        """Whether, in double precision, nothing is but the charges' energy, whose zero is no binding's."""
        off = self.difference
        fits = off is not None and off.within(self.target.limits, HAVE_A_ZERO)
        return fits and not self.within and self.target.precision == "double"


def main() -> int:
    found = []
    print(_heading(), flush=True)
    for row in rows(library_force_field()):
        found.append(row)
        print(_line(row), flush=True)
    good, excused = sum(row.within for row in found), sum(row.excused for row in found)
    zeros = sum(row.has_another_zero for row in found)
    print(f"\n{good} of {len(found)} rows within the limits, {excused} died as they are known to,")
    print(f"{zeros} within them but for the zero of their charges' energy")
    for name, limits in (("double precision", DOUBLE), ("other rows", MIXED)):
        print(
            f"limits, {name}: energies {limits.energy:g}, forces {limits.force:g} (rms), displacements "
            f"{limits.displacement:g}"
        )
    print(f"OpenMM {openmm.version.version}")
    for platform, where in {row.target.platform: row.device for row in found if row.device}.items():
        print(f"{platform}: {where}")
    for target in _accelerators():
        if (obstacle := _obstacle(target)) is not None:
            print(f"{target.label}: left out ({obstacle})")
    return 0 if good + zeros + excused == len(found) else 1


def rows(forcefield: ForceField) -> Iterator[Row]:
    """Everything there is to compare here; what died as it is known to is not tried on the next box."""
    dead: set[tuple[Target, str, str]] = set()
    with Worker() as worker:
        for box, (engine, polarization) in product(boxes(forcefield), MODELS):
            system, positions = system_of(forcefield, box, engine, polarization)
            expected = evaluate(system, positions, Target("Reference"))
            for target in targets(system):
                if (target, engine, polarization) in dead:
                    continue
                found = worker.evaluate(system, positions, target)
                off = None if found is None else difference(found, expected)
                row = Row(box.name, engine, polarization, target, found and found.device, off)
                if row.excused:
                    dead.add((target, engine, polarization))
                yield row


def library_force_field() -> ForceField:
    """All species of the library with its short range and neural term."""
    species, model = library_species(library_directory()), builder.short_range()
    return ForceField(tuple(species.values()), model, builder.neural_term(model))


def boxes(forcefield: ForceField) -> Iterator[Box]:
    """Droplets of all species and the electrolyte."""
    yield from droplets(forcefield)
    box = Formulation.parse(ELECTROLYTE).box(ATOMS)
    topology, positions = builder.starting_box(forcefield, box)
    edge = topology.getPeriodicBoxVectors()[0][0].value_in_unit(unit.nanometer)
    counts = [(name, count) for name, _, count in box.counts]
    yield _relaxed(forcefield, "LP30", counts, edge, positions[forcefield.atom_indices(topology)])


def droplets(forcefield: ForceField, together: int = 1) -> Iterator[Box]:
    """One of each molecule, and one of each ion with the first counter-ion of the force field.

    together: at most so many molecules, or salts, share one, each with fewer of its kind.
    """
    units: dict[frozenset[str], Counter[str]] = {}
    for species in forcefield.species:
        counts = _units(forcefield, species, together)
        units.setdefault(frozenset(counts), counts)
    for number_of_species in (1, 2):
        alike = [counts for counts in units.values() if len(counts) == number_of_species]
        number = math.ceil(len(alike) / together)
        for k in range(number):
            yield _droplet(forcefield, list(sum(alike[k::number], Counter[str]()).items()))


def _units(forcefield: ForceField, species: SpeciesParameters, together: int) -> Counter[str]:
    if species.charge == 0:
        return Counter({species.name: MOLECULES // together})
    other = next(s for s in forcefield.species if s.charge * species.charge < 0)
    shared = math.lcm(species.charge, other.charge) * FORMULA_UNITS // together
    return Counter({s.name: shared // abs(s.charge) for s in (species, other)})


def _droplet(forcefield: ForceField, counts: Sequence[tuple[str, int]]) -> Box:
    species = [(forcefield.named(name), count) for name, count in counts]
    volume = sum(count * max(0.0, estimated_molar_volume(s.smiles)) for s, count in species)
    edge = (volume * 1e21 / AVOGADRO / PACKING) ** (1.0 / 3.0)
    entries = [
        PackedSpecies(s.name, s.elements, (np.array(s.conformers[0].xyz_nm),), (1.0,), count)
        for s, count in species
    ]
    title = " ".join(name for name, _ in counts)
    room = max(EDGE_NM, edge, 2.01 * shortest_cutoff(s for s, _ in species))
    return _relaxed(forcefield, title, counts, room, pack(entries, edge, seed=1))


def _relaxed(
    forcefield: ForceField, name: str, counts: Sequence[tuple[str, int]], edge: float, xyz: Floats
) -> Box:
    topology = forcefield.topology(counts, edge)
    system = replace(forcefield, neural=None).create_system(topology, CUTOFF_NM)  # torch takes most of it
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), platform_named("Reference"))
    context.setPositions(forcefield.place(topology, xyz))
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, RELAXATION_STEPS)
    found = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return Box(name, tuple(counts), edge, found, forcefield.atom_indices(topology))


def system_of(
    forcefield: ForceField, box: Box, engine: str, polarization: str = "mutual"
) -> tuple[openmm.System, Floats]:
    """The box in an engine, and the positions of its particles."""
    topology = forcefield.topology(box.counts, box.edge_nm, engine)
    needed = shortest_cutoff(forcefield.named(name) for name, _ in box.counts)
    cutoff = max(CUTOFF_NM, needed) if engine == "multipole" else CUTOFF_NM
    system = forcefield.create_system(topology, cutoff, engine, polarization=polarization)
    return system, box.positions if engine == "drude" else box.positions[box.atoms]


def targets(system: openmm.System) -> list[Target]:
    """What this machine has besides the Reference platform."""
    found = [target for target in _accelerators() if _obstacle(target) is None]
    return cpu_targets(system) + [
        replace(target, native=neural_term(system, platform_named(target.platform)) == "native")
        for target in found
    ]


def cpu_targets(system: openmm.System) -> list[Target]:
    """The CPU platform, without and with native pair forces where they can be had."""
    native = pair_forces(system, platform_named("CPU")) == "native"
    return [Target("CPU"), Target("CPU", native=True)] if native else [Target("CPU")]


def _accelerators() -> list[Target]:
    """What OpenMM lists, with a device or without."""
    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    others = [name for name in names if name not in ("Reference", "CPU")]
    return [Target(name, precision) for name in others for precision in ("mixed", "double")]


@cache
def _obstacle(target: Target) -> str | None:
    """Why nothing runs there, or None."""
    system = openmm.System()
    system.addParticle(1.0)
    try:
        _context(system, target)
    except openmm.OpenMMException as problem:
        return str(problem)
    return None


def _context(system: openmm.System, target: Target) -> openmm.Context:
    properties = {"Precision": target.precision} if target.precision else {}
    return openmm.Context(system, openmm.VerletIntegrator(1e-3), platform_named(target.platform), properties)


def evaluate(system: openmm.System, positions: Floats, target: Target) -> Evaluation:
    """Energies and forces there."""
    natively = with_native_forces if target.platform == "CPU" else with_native_neural
    used = natively(system) if target.native else system
    context = _context(used, target)
    context.setPositions(positions)
    context.computeVirtualSites()
    groups = {force.getForceGroup() for force in used.getForces()}
    energies = {
        name: context.getState(energy=True, groups={group}).getPotentialEnergy()._value
        for name, group in GROUPS.items()
        if group in groups
    }
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    oscillators, parents, constants = _springs(system)
    pulls = forces[oscillators] / constants[:, None]
    np.add.at(forces, parents, forces[oscillators])
    heavy = [k for k in range(system.getNumParticles()) if system.getParticleMass(k)._value > 0]
    _disperse(context, positions)
    return Evaluation(
        device(context),
        energies,
        context.getState(energy=True).getPotentialEnergy()._value,
        forces[np.setdiff1d(heavy, oscillators)],
        positions[oscillators] - positions[parents],
        pulls,
    )


def _disperse(context: openmm.Context, positions: Floats) -> None:
    """Whole molecules DISPERSAL times as far from one another, in a box so much larger."""
    spread = positions.copy()
    for molecule in context.getMolecules():
        own = list(molecule)
        spread[own] += (DISPERSAL - 1.0) * positions[own].mean(axis=0)
    edges = context.getState().getPeriodicBoxVectors(asNumpy=True)
    context.setPeriodicBoxVectors(*(DISPERSAL * edges))
    context.setPositions(spread)
    context.computeVirtualSites()


def _springs(system: openmm.System) -> tuple[NDArray[np.int_], NDArray[np.int_], Floats]:
    """Oscillators, their atoms, and their force constants in kJ/mol/nm^2."""
    rows = [
        force.getParticleParameters(k)
        for force in system.getForces()
        if isinstance(force, openmm.DrudeForce)
        for k in range(force.getNumParticles())
    ]
    constants = [COULOMB * charge._value**2 / alpha._value for *_, charge, alpha, _, _ in rows]
    oscillators, parents = (np.array([row[k] for row in rows], dtype=int) for k in (0, 1))
    return oscillators, parents, np.array(constants)


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
    wrong, typical = found.forces - expected.forces, _rms(expected.forces)
    bound, exactly = (sum(e.energies.values()) - e.apart for e in (found, expected))
    return Difference(
        off,
        frozenset(near_zero),
        abs(bound - exactly) / max(abs(exactly), LEAST_BINDING * magnitude),
        force_rms=_rms(wrong) / typical,
        force_max=float(np.linalg.norm(wrong, axis=1).max()) / typical,
        displacement=_rms(found.pulls - expected.pulls) / _rms(expected.displacements)
        if len(expected.pulls)
        else None,
    )


def _rms(vectors: Floats) -> float:
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=1))))


COLUMNS = (*GROUPS, "total")


def _heading() -> str:
    names = "".join(f"{name:>13s}" for name in COLUMNS)
    further = f"{'binding':>10s}{'force rms':>10s}{'max':>9s}{'displaced':>11s}"
    return f"{'box':14s}{'engine':25s}{'platform':16s}{names}{further}"


def _line(row: Row) -> str:
    model = row.engine if row.engine == "drude" else f"{row.engine}, {row.polarization}"
    start, off = f"{row.box:14s}{model:25s}{row.target.label:16s}", row.difference
    if off is None:
        return start + "the process died" + (", as known; not tried again" if row.excused else "")
    numbers = "".join(
        f"{off.energies[name]:12.1e}{'*' if name in off.near_zero else ' '}"
        if name in off.energies
        else f"{'-':>12s} "
        for name in COLUMNS
    )
    displacement = f"{'-':>11s}" if off.displacement is None else f"{off.displacement:11.1e}"
    verdict = "" if row.within else "  another zero" if row.has_another_zero else "  LIMIT BROKEN"
    forces = f"{off.force_rms:10.1e}{off.force_max:9.1e}"
    return f"{start}{numbers}{off.binding:10.1e}{forces}{displacement}{verdict}"


if __name__ == "__main__":
    sys.exit(main())
