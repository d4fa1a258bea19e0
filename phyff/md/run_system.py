"""What the stages of a run share: the system, whose its particles are, contexts, and states on disk."""

import copy
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from phyff.errors import SimulationError
from phyff.files import write_atomically
from phyff.md.barriers import barrier_forces
from phyff.md.charges import dipole_weights, particle_charges, particle_masses
from phyff.md.guard import Guard
from phyff.md.interfaces import ForceFieldLike, SpeciesLike
from phyff.md.protocol import Settings, Stage
from phyff.md.run_state import RunState
from phyff.md.temperature import atoms_of_particles, drude_pairs, make_up_for_drained_heat
from phyff.openmm.native import accelerated
from phyff.openmm.platforms import open_context, platform_named
from phyff.units import AMU_NM3_TO_G_CM3


@dataclass
class RunSystem:
    """Everything the stages share.

    Attributes:
        state: what run.json holds.
        species: with their numbers, in the order of the topology.
        edge: of the cube that molecules are packed into, nm.
        atoms: (n_atoms,) indices of the real atoms.
        masses: (n_particles,) amu.
        atom_of: (n_particles,) see atoms_of_particles. pairs: see drude_pairs.
        dipole_weights: (n_particles,) e, see phyff.md.charges.dipole_weights.
        guard: watches for molecules that break.
    """

    forcefield: ForceFieldLike
    settings: Settings
    run_dir: Path
    state: RunState
    platform: openmm.Platform
    species: list[tuple[SpeciesLike, int]]
    topology: app.Topology
    system: openmm.System
    edge: float
    atoms: NDArray[np.int_]
    masses: NDArray[np.float64]
    atom_of: NDArray[np.int_]
    pairs: NDArray[np.int_]
    dipole_weights: NDArray[np.float64]
    guard: Guard

    def density(self, volume: float) -> float:
        """g/cm3 of a box of that many nm3."""
        return float(self.masses.sum()) * AMU_NM3_TO_G_CM3 / volume

    def checkpoint_path(self, stage: str) -> Path:
        """Where the last good state of a stage is."""
        return self.run_dir / f"state-{stage}.xml"


@dataclass(frozen=True)
class Snapshot:
    """A state without its Context: positions and velocities (n_particles, 3), cube edge in nm, step."""

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    edge: float
    step: int


def prepared(
    forcefield: ForceFieldLike,
    counts: Sequence[tuple[str, int]],
    density: float,
    settings: Settings,
    run_dir: Path,
    platform: str | None,
) -> RunSystem:
    """The system of a run in a cube of the estimated density (g/cm3), made looser for packing; counts: of
    molecules by name; platform: OpenMM's name, None for the fastest.

    Raises:
        SimulationError: there are no molecules, or the box is too small for the cut-off.
    """
    known = {species.name: species for species in forcefield.species}
    counts = [(name, int(number)) for name, number in counts if number > 0]
    if not counts:
        raise SimulationError("counts: there are no molecules to simulate; give a positive amount.")
    bare = forcefield.create_system(forcefield.topology(counts, None), cutoff_nm=None)
    mass = float(particle_masses(bare).sum())
    volume = mass * AMU_NM3_TO_G_CM3 / density
    smallest = (2.0 * settings.cutoff_nm) ** 3
    if volume < 1.03 * smallest:
        raise SimulationError(
            f"atoms: the box would be {volume ** (1 / 3):.2f} nm wide, too small for a cut-off of "
            f"{settings.cutoff_nm} nm; ask for at least {1.1 * smallest / volume:.1f} times as many atoms."
        )
    edge = (volume / settings.packing_ratio) ** (1.0 / 3.0)
    topology = forcefield.topology(counts, edge)
    system = forcefield.create_system(topology, cutoff_nm=settings.cutoff_nm)
    species = [(known[name], number) for name, number in counts]
    masses = particle_masses(system)
    guard = _guard(forcefield, settings, topology, system, species, density)
    return RunSystem(
        forcefield=forcefield,
        settings=settings,
        run_dir=run_dir,
        state=RunState({}, {}, []),
        platform=platform_named(platform),
        species=species,
        topology=topology,
        system=system,
        edge=edge,
        atoms=np.asarray(forcefield.atom_indices(topology), dtype=int),
        masses=masses,
        atom_of=atoms_of_particles(system),
        pairs=drude_pairs(system),
        dipole_weights=dipole_weights(masses, particle_charges(system), guard.molecule),
        guard=guard,
    )


def _guard(
    forcefield: ForceFieldLike,
    settings: Settings,
    topology: app.Topology,
    system: openmm.System,
    species: list[tuple[SpeciesLike, int]],
    density: float,
) -> Guard:
    residues = list(topology.residues())
    molecule = np.concatenate([[residue.index] * len(list(residue.atoms())) for residue in residues]).astype(
        int
    )
    atoms = np.asarray(forcefield.atom_indices(topology), dtype=int)
    shapes = [np.asarray(s.conformers[0].xyz_nm, dtype=float) for s, number in species for _ in range(number)]
    reference = np.zeros((system.getNumParticles(), 3))
    reference[atoms] = np.concatenate(shapes)
    bonds = np.array([[bond[0].index, bond[1].index] for bond in topology.bonds()], dtype=int).reshape(-1, 2)
    bonds = bonds[np.isin(bonds, atoms).all(axis=1)]
    wall = forcefield.integrator(settings.temperature_K, timestep_fs=1.0).getMaxDrudeDistance()._value
    return Guard(
        molecule=molecule,
        species=[s.name for s, number in species for _ in range(number)],
        atom_names=[atom.name for atom in topology.atoms()],
        atoms=atoms,
        bonds=bonds,
        bond_lengths=np.linalg.norm(reference[bonds[:, 0]] - reference[bonds[:, 1]], axis=1),
        drudes=drude_pairs(system),
        hard_wall=float(wall),
        density_estimate=density,
    )


def stage_context(run: RunSystem, stage: Stage, start_step: int) -> openmm.Context:
    """A Context under the stage's thermostat and barostat."""
    settings = run.settings
    temperature = settings.temperature_K + stage.heat_K
    system = copy.deepcopy(run.system)
    seed = seed_of(settings, stage, start_step, run.state.resumes)
    if stage.ensemble == "NPT":
        barostat = openmm.MonteCarloBarostat(settings.pressure_bar + stage.squeeze_bar, temperature)
        barostat.setRandomNumberSeed(seed)
        system.addForce(barostat)
    if stage.lowered_barriers:
        for force in barrier_forces(run.state.lowered_barriers, run.species, run.atoms):
            system.addForce(force)
    integrator = run.forcefield.integrator(
        temperature, timestep_fs=stage.timestep_fs, friction=stage.friction
    )
    integrator.setDrudeFriction(stage.drude_friction)
    source = next((row for row in run.state.stages if row["name"] == source_of(run, stage)), {})
    make_up_for_drained_heat(
        integrator, len(run.pairs) / len(run.atoms), source.get("mean_drude_temperature_K")
    )
    integrator.setRandomNumberSeed(seed)
    return open_context(accelerated(system, run.platform), integrator, run.platform)


def source_of(run: RunSystem, stage: Stage) -> str:
    """Name of the stage, or "minimise", whose end a stage starts from."""
    names = ["minimise", *(s.name for s in run.settings.stages)]
    return stage.begins_from or names[names.index(stage.name) - 1]


def seed_of(settings: Settings, stage: Stage, step: int, resumes: int) -> int:
    """A random seed that never repeats within a run, and is never 0 (which OpenMM takes as "any")."""
    return zlib.crc32(f"{settings.seed}/{stage.name}/{step}/{resumes}".encode()) % (2**31 - 1) + 1


def set_state(context: openmm.Context, snapshot: Snapshot) -> None:
    """Put a context where the snapshot was taken."""
    edge = snapshot.edge
    context.setPeriodicBoxVectors((edge, 0, 0), (0, edge, 0), (0, 0, edge))
    context.setPositions(snapshot.positions)
    context.setVelocities(snapshot.velocities)
    context.setStepCount(snapshot.step)


def snapshot_of(state: openmm.State) -> Snapshot:
    """Of a state with positions and velocities, in a cube."""
    return Snapshot(
        state.getPositions(asNumpy=True)._value,
        state.getVelocities(asNumpy=True)._value,
        state.getPeriodicBoxVectors(asNumpy=True)._value[0, 0],
        state.getStepCount(),
    )


def edge_of(state: openmm.State) -> float:
    """Of a cubic box, nm."""
    return float(state.getPeriodicBoxVectors(asNumpy=True)._value[0, 0])


def save_checkpoint(run: RunSystem, stage: str, context: openmm.Context) -> None:
    """OpenMM State XML: positions and velocities of all particles in full precision, on any platform."""
    state = context.getState(positions=True, velocities=True)
    write_atomically(run.checkpoint_path(stage), openmm.XmlSerializer.serialize(state))


def load_checkpoint(run: RunSystem, stage: str) -> Snapshot:
    """The last good state of a stage.

    Raises:
        SimulationError: its file cannot be read.
    """
    path = run.checkpoint_path(stage)
    try:
        return snapshot_of(openmm.XmlSerializer.deserialize(path.read_text()))
    except (OSError, ValueError, openmm.OpenMMException) as problem:
        raise SimulationError(f"{path} cannot be read ({problem}); start again with a new --out.") from None


def what_is_wrong(run: RunSystem, state: openmm.State) -> str | None:
    """What is wrong with a state regardless of its history, or None."""
    positions = state.getPositions(asNumpy=True)._value
    velocities = state.getVelocities(asNumpy=True)._value
    found = run.guard.numbers(positions, velocities, state.getPotentialEnergy()._value)
    return found or run.guard.structure(positions, state.getForces(asNumpy=True)._value, edge_of(state))
