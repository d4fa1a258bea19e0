"""What a step costs, term by term, beside the floor of a plain fixed-charge model of the same box.

The rows are timed in turn, round after round in one process, so that a busy machine slows all of them alike.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from rdkit import Chem

from phyff.errors import SimulationError
from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ForceField
from phyff.openmm.multipole import shortest_cutoff
from phyff.openmm.native import accelerated, neural_term, pair_forces
from phyff.openmm.platforms import device, open_context, platform_named
from phyff.openmm.valence import add_valence_forces
from phyff.species.parameters import SpeciesParameters

MESH_GROUP = 20
"""Force group given to the reciprocal-space part of PME while timing."""
EMPTY_GROUP = 31
TIMESTEP_FS = 1.0
ROUNDS = 5
WARM_UP_STEPS = 50
ROUND_SECONDS = 1.0
"""Steps of a row and round fill about this time, between the limits of STEPS."""
STEPS = (5, 1000)
TERM_REPEATS = 5
MINIMISE_ITERATIONS = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Row:
    name: str
    cutoff_nm: float
    context: openmm.Context
    terms: dict[str, int]
    """Name -> force group."""


def speed(
    forcefield: ForceField,
    topology: app.Topology,
    positions: Floats,
    edge_nm: float,
    temperature_K: float,
    cutoff_nm: float = 0.8,
    platform: str | None = None,
) -> dict[str, Any]:
    """Milliseconds a step of each row, whole and by term; the `multipole` row has mutual polarization, and
    there is a `drude+neural` row when the force field has a neural term.

    topology, positions: a packed box and its (n_particles, 3) in nm; its molecules are moved together to a
    cube of edge_nm first, so that the neighbour counts are a liquid's. Returns {"atoms", "particles",
    "platform", "device", "pair_forces", "neural_term", "box_nm", "rows": [{"name", "cutoff_nm",
    "ms_per_step", "ns_per_day", "timestep_fs", "terms"}]}; the `multipole` row has a longer cut-off where
    molecules need it. "pair_forces" is "native" or "stock", "neural_term" "native", "torch" or None, as in a
    run on this machine. "terms" are milliseconds of one evaluation of a term's forces; "rest" is what a step
    takes beside them.
    Raises SimulationError when the platform is missing or the box does not survive the timing.
    """
    chosen = platform_named(platform)
    atoms = forcefield.atom_indices(topology)
    squeezed = _squeeze(topology, atoms, positions[atoms], edge_nm)
    topology.setPeriodicBoxVectors(np.eye(3) * edge_nm * unit.nanometer)
    physics = forcefield.physics_only()
    drude = physics.create_system(topology, cutoff_nm)
    fixed = fixed_charge_system(forcefield, topology, cutoff_nm)
    start = _relaxed(fixed, chosen, squeezed)
    rows = [
        _row(
            "fixed_charge",
            cutoff_nm,
            fixed,
            openmm.LangevinMiddleIntegrator(temperature_K, 5.0, 1e-3 * TIMESTEP_FS),
            chosen,
            start,
            temperature_K,
        ),
        _row(
            "drude",
            cutoff_nm,
            drude,
            forcefield.integrator(temperature_K, TIMESTEP_FS),
            chosen,
            _relaxed(drude, chosen, forcefield.place(topology, start)),
            temperature_K,
        ),
    ]
    hybrid = forcefield.create_system(topology, cutoff_nm) if forcefield.neural is not None else None
    if hybrid is not None:
        rows.append(
            _row(
                "drude+neural",
                cutoff_nm,
                hybrid,
                forcefield.integrator(temperature_K, TIMESTEP_FS),
                chosen,
                _positions(rows[-1].context),
                temperature_K,
            )
        )
    rows.append(_multipole_row(physics, topology, rows[1].context, chosen, temperature_K, cutoff_nm))
    times = _in_turn([_stepper(row.context) for row in rows])
    return {
        "atoms": len(atoms),
        "particles": topology.getNumAtoms(),
        "platform": chosen.getName(),
        "device": device(rows[0].context),
        "pair_forces": pair_forces(drude, chosen),
        "neural_term": neural_term(hybrid, chosen) if hybrid is not None else None,
        "box_nm": edge_nm,
        "rows": [_report(row, milliseconds) for row, milliseconds in zip(rows, times, strict=True)],
    }


def _multipole_row(
    forcefield: ForceField,
    topology: app.Topology,
    drude: openmm.Context,
    platform: openmm.Platform,
    temperature_K: float,
    cutoff_nm: float,
) -> _Row:
    """From where the atoms of the `drude` row stand. Molecules longer than the cut-off get a longer one."""
    counts = [(chain.id, len(list(chain.residues()))) for chain in topology.chains()]
    own_cutoff = max(cutoff_nm, shortest_cutoff(forcefield.named(name) for name, _ in counts))
    bare = forcefield.topology(counts, engine="multipole")
    bare.setPeriodicBoxVectors(topology.getPeriodicBoxVectors())
    found = _positions(drude)
    return _row(
        "multipole",
        own_cutoff,
        forcefield.create_system(bare, own_cutoff, "multipole"),
        openmm.LangevinMiddleIntegrator(temperature_K, 5.0, 1e-3 * TIMESTEP_FS),
        platform,
        found[forcefield.atom_indices(topology)],
        temperature_K,
    )


def fixed_charge_system(forcefield: ForceField, topology: app.Topology, cutoff_nm: float) -> openmm.System:
    """The same molecules with one plain NonbondedForce on atoms only: the floor for any engine.

    Charges are the atomic ones of the multipole model, Lennard-Jones terms the model's C6 with van der Waals
    radii: good enough to time a liquid, and for nothing else.
    """
    system, force = openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(cutoff_nm)
    valence = []
    for residue in topology.residues():
        species = forcefield.named(residue.chain.id)
        first = system.getNumParticles()
        for atom in list(residue.atoms())[: species.n_atoms]:
            system.addParticle(atom.element.mass)
        for parameters in _atom_parameters(species):
            force.addParticle(*parameters)
        close = species.molecule.distance_matrix() <= 3
        for i, j in zip(*np.nonzero(np.triu(close, 1)), strict=True):
            force.addException(first + int(i), first + int(j), 0.0, 1.0, 0.0)
        valence.append((species.valence, list(range(first, first + species.n_atoms))))
    for bonded in add_valence_forces(system, valence):
        bonded.setForceGroup(GROUPS["valence"])
    force.setForceGroup(GROUPS["permanent"])
    system.addForce(force)
    return system


def _atom_parameters(species: SpeciesParameters) -> list[tuple[float, float, float]]:
    """(charge e, sigma nm, epsilon kJ/mol) of each atom."""
    table = Chem.GetPeriodicTable()
    rows = []
    for element, charge, c6 in zip(
        species.elements, species.multipoles.charges, species.dispersion.c6, strict=True
    ):
        sigma = 0.1 * table.GetRvdw(element) * 2.0 ** (5.0 / 6.0)
        rows.append((charge, sigma, max(c6 / (4.0 * sigma**6), 0.05)))
    return rows


def _squeeze(topology: app.Topology, atoms: NDArray[np.int_], xyz: Floats, edge_nm: float) -> Floats:
    """Atoms (n, 3) with the molecules' centres scaled from the topology's box to one of edge_nm."""
    old = topology.getPeriodicBoxVectors()[0][0].value_in_unit(unit.nanometer)
    owner = np.array([atom.residue.index for atom in topology.atoms()])[atoms]
    centres = np.array([np.bincount(owner, xyz[:, k]) for k in range(3)]).T / np.bincount(owner)[:, None]
    moved: Floats = xyz + ((edge_nm / old - 1.0) * centres)[owner]
    return moved


def _relaxed(system: openmm.System, platform: openmm.Platform, positions: Floats) -> Floats:
    integrator = openmm.VerletIntegrator(1e-3)
    context = open_context(accelerated(system, platform), integrator, platform)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, MINIMISE_ITERATIONS)
    return _positions(context)


def _positions(context: openmm.Context) -> Floats:
    """(n_particles, 3) nm."""
    found: Floats = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return found


def _row(
    name: str,
    cutoff_nm: float,
    system: openmm.System,
    integrator: openmm.Integrator,
    platform: openmm.Platform,
    positions: Floats,
    temperature_K: float,
) -> _Row:
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            force.setReciprocalSpaceForceGroup(MESH_GROUP)
    used = {force.getForceGroup() for force in system.getForces()}
    terms = {label: group for label, group in GROUPS.items() if group in used} | {"mesh": MESH_GROUP}
    context = open_context(accelerated(system, platform), integrator, platform)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(temperature_K, 1)
    return _Row(name, cutoff_nm, context, terms)


def _stepper(context: openmm.Context) -> Callable[[int], None]:
    def step(n: int) -> None:
        context.getIntegrator().step(n)
        context.getState(energy=True)

    return step


def _in_turn(steppers: Sequence[Callable[[int], None]]) -> list[float]:
    """Median milliseconds a step of each."""
    counts = []
    for step in steppers:
        counts.append(int(np.clip(1e3 * ROUND_SECONDS / _timed(step, STEPS[0]), *STEPS)))
        _timed(step, min(WARM_UP_STEPS, counts[-1]))
    rounds = [[_timed(step, n) for step, n in zip(steppers, counts, strict=True)] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def _timed(step: Callable[[int], None], n: int) -> float:
    begin = time.perf_counter()
    step(n)
    return 1e3 * (time.perf_counter() - begin) / n


def _report(row: _Row, milliseconds: float) -> dict[str, Any]:
    state = row.context.getState(energy=True)
    if not np.isfinite(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)):
        raise SimulationError(f"The {row.name} row blew up while it was timed; its time means nothing.")
    idle = _evaluation(row.context, EMPTY_GROUP)
    terms = {name: max(0.0, _evaluation(row.context, group) - idle) for name, group in row.terms.items()}
    terms["rest"] = max(0.0, milliseconds - sum(terms.values()))
    return {
        "name": row.name,
        "cutoff_nm": round(row.cutoff_nm, 3),
        "ms_per_step": round(milliseconds, 4),
        "ns_per_day": round(TIMESTEP_FS * 86.4 / milliseconds, 3),
        "timestep_fs": TIMESTEP_FS,
        "terms": {name: round(value, 4) for name, value in terms.items()},
    }


def _evaluation(context: openmm.Context, group: int) -> float:
    """Median milliseconds to compute and read the forces of one group."""
    context.getState(forces=True, groups={group})
    times = []
    for _ in range(TERM_REPEATS):
        begin = time.perf_counter()
        context.getState(forces=True, groups={group})
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)
