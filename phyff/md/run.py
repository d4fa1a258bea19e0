"""One simulation from an empty box to a transport trajectory, resumable at any moment.

A run directory is a state machine: `run.json` names the stage, `state-<stage>.xml` holds its last good state
and exact step, and every log and trajectory is cut to that step when the run goes on.
"""

import copy
import io
import json
import signal
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app
from rich.console import Console

from phyff.errors import SimulationError
from phyff.files import write_atomically
from phyff.md.barriers import barrier_forces, lowered_barriers
from phyff.md.charges import dipole_weights, particle_charges
from phyff.md.committee import CommitteeLog, committee_files
from phyff.md.guard import Guard
from phyff.md.interfaces import ForceFieldLike, SpeciesLike
from phyff.md.packing import PackedSpecies, pack
from phyff.md.protocol import Settings, Stage, stage_table
from phyff.md.reporters import RowLog, StageProgress, ThermoLog, Trajectory
from phyff.md.run_state import About, RunState, inputs_of, lock, reopen, say
from phyff.md.temperature import (
    atoms_of_particles,
    drude_pairs,
    group_temperature,
    make_up_for_drained_heat,
    on_step,
    oscillator_temperature,
)
from phyff.openmm.native import accelerated, neural_term, notice, pair_forces
from phyff.openmm.platforms import open_context, platform_named
from phyff.species.rotors import rotors
from phyff.units import AMU_NM3_TO_G_CM3, GAS_CONSTANT

DIPOLE_COLUMNS = "time_ps,dipole_x_e_nm,dipole_y_e_nm,dipole_z_e_nm"
"""Sum of molecular dipoles about centres of mass, oscillators and off-atom sites included."""
CHUNK_STEPS = 100
"""Longest stretch without a look at the clock or at a pending interrupt."""
SOFT_POLARIZABILITY = 0.1
"""Factor on polarizabilities in the first minimisation pass, so that contacts relax before dipoles do."""
TEMPERATURE_WARNING_K = 12.0
"""Warn when the mean temperature of a stage is this far off; a quick box alone fluctuates by 3 to 5 K."""


def simulate(
    forcefield: ForceFieldLike,
    counts: Sequence[tuple[str, int]],
    density_g_cm3: float,
    settings: Settings,
    run_dir: Path | str,
    platform: str | None = None,
    console: Console | None = None,
    about: About | None = None,
) -> RunState:
    """Run, or go on with, the simulation in run_dir and return its final state.

    Arguments: counts are (species name, number of molecules) in topology order; density_g_cm3 is the estimate
    that sizes the box; platform is an OpenMM platform name, None for the fastest; about goes into run.json.
    Raises SimulationError when the run fails (the last good state stays on disk), when run_dir belongs to
    other settings, or is in use. After Ctrl-C or SIGTERM it saves, tells how to resume and raises
    KeyboardInterrupt.
    """
    run_dir = Path(run_dir)
    console = console or Console(stderr=True)
    with lock(run_dir):
        inputs = inputs_of(forcefield, counts, density_g_cm3)
        old = reopen(settings, inputs, run_dir, console)
        if old is not None and old.status == "finished":
            return old
        run = _prepare(forcefield, counts, density_g_cm3, settings, run_dir, platform)
        state = run.state = old or _create(run, inputs, console)
        state.software = {
            "openmm": openmm.version.version,
            "platform": run.platform.getName(),
            "pair_forces": pair_forces(run.system, run.platform),
            "neural_term": neural_term(run.system, run.platform),
            "atoms": len(run.atoms),
            "particles": run.system.getNumParticles(),
        }
        state.describe(settings, about or About())
        line = notice(run.system, run.platform)
        if line is not None:
            say(console, line)
        log = settings.stage("density")
        state.npt = {
            "log": log.log,
            "interval_ps": settings.interval(settings.log_ps, log) * log.timestep_fs / 1000,
        }
        state.save(run_dir)
        names = [stage.name for stage in settings.stages]
        begin = 0 if state.stage == "pack" else names.index(state.stage)
        done = sum(stage.steps for stage in settings.stages[:begin])
        total = sum(stage.steps for stage in settings.stages)
        try:
            with StageProgress(console, total, done) as progress:
                if state.stage == "pack":
                    _pack_and_minimise(run, progress)
                    _scan_barriers(run, progress)
                    state.stage, state.step = names[0], 0
                    state.save(run_dir)
                with stop_request() as stop:
                    for stage, following in zip(
                        settings.stages[begin:], [*names[begin + 1 :], "finished"], strict=True
                    ):
                        _run_stage(run, stage, progress, stop)
                        state.stage, state.step = following, 0
                        state.status = "finished" if following == "finished" else "running"
                        state.save(run_dir)
        except SimulationError as problem:
            state.status, state.failure = "failed", str(problem)
            state.save(run_dir)
            raise
        except OSError as problem:
            raise SimulationError(
                f"{run_dir} cannot be written ({problem}); make room, then run the same command to go on."
            ) from None
    say(console, f"Simulation finished; trajectories and logs are in {run_dir}")
    return state


def _create(run: "_Run", inputs: dict[str, Any], console: Console) -> RunState:
    """Write forcefield.json, composition.json and, last, run.json."""
    run.forcefield.save(run.run_dir / "forcefield.json")
    composition = [
        {
            "name": species.name,
            "smiles": species.smiles,
            "count": number,
            "charge": int(species.charge),
            "n_atoms": len(species.elements),
            "mapped_smiles": species.mapped_smiles,
        }
        for species, number in run.species
    ]
    write_atomically(run.run_dir / "composition.json", json.dumps(composition, indent=1) + "\n")
    physics = json.loads(json.dumps(run.settings.physics()))
    say(console, f"Starting the {run.settings.preset} simulation in {run.run_dir}")
    return RunState(physics, inputs, stage_table(run.settings))


# --- the system --------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """Everything the stages share."""

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
        return self.run_dir / f"state-{stage}.xml"


@dataclass(frozen=True)
class _Snapshot:
    """A state without its Context: positions and velocities (n_particles, 3), cube edge in nm, step."""

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    edge: float
    step: int


def _prepare(
    forcefield: ForceFieldLike,
    counts: Sequence[tuple[str, int]],
    density: float,
    settings: Settings,
    run_dir: Path,
    platform: str | None,
) -> _Run:
    known = {species.name: species for species in forcefield.species}
    counts = [(name, int(number)) for name, number in counts if number > 0]
    if not counts:
        raise SimulationError("counts: there are no molecules to simulate; give a positive amount.")
    bare = forcefield.create_system(forcefield.topology(counts, None), cutoff_nm=None)
    mass = sum(_masses(bare))
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
    masses = np.array(_masses(system))
    guard = _guard(forcefield, settings, topology, system, species, density)
    return _Run(
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


def _masses(system: openmm.System) -> list[float]:
    return [system.getParticleMass(i)._value for i in range(system.getNumParticles())]


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


# --- contexts and checkpoints ------------------------------------------------------------------------------


def _context(run: _Run, stage: Stage, start_step: int) -> openmm.Context:
    """A Context under the stage's thermostat and barostat."""
    settings = run.settings
    temperature = settings.temperature_K + stage.heat_K
    system = copy.deepcopy(run.system)
    seed = _seed(settings, stage, start_step, run.state.resumes)
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
    source = next((row for row in run.state.stages if row["name"] == _source(run, stage)), {})
    make_up_for_drained_heat(
        integrator, len(run.pairs) / len(run.atoms), source.get("mean_drude_temperature_K")
    )
    integrator.setRandomNumberSeed(seed)
    return open_context(accelerated(system, run.platform), integrator, run.platform)


def _seed(settings: Settings, stage: Stage, step: int, resumes: int) -> int:
    """A random seed that never repeats within a run, and is never 0 (which OpenMM takes as "any")."""
    return zlib.crc32(f"{settings.seed}/{stage.name}/{step}/{resumes}".encode()) % (2**31 - 1) + 1


def _set(context: openmm.Context, snapshot: _Snapshot) -> None:
    edge = snapshot.edge
    context.setPeriodicBoxVectors((edge, 0, 0), (0, edge, 0), (0, 0, edge))
    context.setPositions(snapshot.positions)
    context.setVelocities(snapshot.velocities)
    context.setStepCount(snapshot.step)


def _snapshot(state: openmm.State) -> _Snapshot:
    return _Snapshot(
        state.getPositions(asNumpy=True)._value,
        state.getVelocities(asNumpy=True)._value,
        state.getPeriodicBoxVectors(asNumpy=True)._value[0, 0],
        state.getStepCount(),
    )


def _save_checkpoint(run: _Run, stage: str, context: openmm.Context) -> None:
    """OpenMM State XML: positions and velocities of all particles in full precision, on any platform."""
    state = context.getState(positions=True, velocities=True)
    write_atomically(run.checkpoint_path(stage), openmm.XmlSerializer.serialize(state))


def _load_checkpoint(run: _Run, stage: str) -> _Snapshot:
    path = run.checkpoint_path(stage)
    try:
        return _snapshot(openmm.XmlSerializer.deserialize(path.read_text()))
    except (OSError, ValueError, openmm.OpenMMException) as problem:
        raise SimulationError(f"{path} cannot be read ({problem}); start again with a new --out.") from None


# --- stages ------------------------------------------------------------------------------------------------


def _pack_and_minimise(run: _Run, progress: StageProgress) -> None:
    settings = run.settings
    molecules = sum(number for _, number in run.species)
    progress.say(f"Packing {molecules} molecules ({len(run.atoms)} atoms) into a box of {run.edge:.2f} nm")
    packed = pack(
        [
            PackedSpecies(
                species.name,
                tuple(species.elements),
                tuple(np.asarray(conformer.xyz_nm, dtype=float) for conformer in species.conformers),
                tuple(float(conformer.weight) for conformer in species.conformers),
                number,
            )
            for species, number in run.species
        ],
        run.edge,
        settings.seed,
    )
    positions = run.forcefield.place(run.topology, packed)
    _write_topology(run, packed)
    soft = copy.deepcopy(run.system)
    for force in soft.getForces():
        if isinstance(force, openmm.DrudeForce):
            for i in range(force.getNumParticles()):
                parameters = force.getParticleParameters(i)
                parameters[6] = parameters[6] * SOFT_POLARIZABILITY
                force.setParticleParameters(i, *parameters)
    for system, what in ((soft, "stiff dipoles"), (run.system, "all degrees of freedom")):
        progress.say(f"Minimising the energy: {what}, at most {settings.minimise_iterations} iterations")
        integrator = run.forcefield.integrator(settings.temperature_K, timestep_fs=0.1)
        context = open_context(accelerated(system, run.platform), integrator, run.platform)
        _set(context, _Snapshot(positions, np.zeros_like(positions), run.edge, 0))
        try:
            openmm.LocalEnergyMinimizer.minimize(context, 10.0, settings.minimise_iterations)
        except openmm.OpenMMException as problem:
            raise SimulationError(f"the energy minimisation failed ({problem}); try another seed.") from None
        state = context.getState(positions=True, velocities=True, forces=True, energy=True)
        found = _inspect(run, state)
        if found is not None:
            raise SimulationError(f"after minimisation {found}; try another seed, or check the force field.")
        positions = state.getPositions(asNumpy=True)._value
    _save_checkpoint(run, "minimise", context)


def _scan_barriers(run: _Run, progress: StageProgress) -> None:
    """Find the barriers that stages before those that count lower; run.json keeps them."""
    if not any(stage.lowered_barriers for stage in run.settings.stages):
        return
    names = [species.name for species, _ in run.species if rotors(species.mapped_smiles)]
    if names:
        progress.say(f"Scanning bonds that turn, of {', '.join(names)}")
        try:
            run.state.lowered_barriers = lowered_barriers(run.forcefield, names)
        except openmm.OpenMMException as problem:
            raise SimulationError(
                f"a scan of the bonds of {', '.join(names)} failed ({problem}); check the force field."
            ) from None


def _write_topology(run: _Run, packed: NDArray[np.float64]) -> None:
    """topology.pdb: the real atoms only, at their packed positions."""
    real = app.Topology()
    real.setPeriodicBoxVectors(np.eye(3) * run.edge)
    chain = real.addChain()
    new = {}
    for residue in run.topology.residues():
        copied = real.addResidue(residue.name, chain, residue.id)
        for atom in residue.atoms():
            if atom.element is not None:
                new[atom.index] = real.addAtom(atom.name, atom.element, copied)
    for bond in run.topology.bonds():
        if bond[0].index in new and bond[1].index in new:
            real.addBond(new[bond[0].index], new[bond[1].index])
    written = io.StringIO()
    app.PDBFile.writeFile(real, packed * openmm.unit.nanometer, written)
    write_atomically(run.run_dir / "topology.pdb", written.getvalue())


def _run_stage(run: _Run, stage: Stage, progress: StageProgress, stop: threading.Event) -> None:
    """From the stage's checkpoint, or its start, to its end; every way out can be resumed."""
    settings = run.settings
    resumed = run.checkpoint_path(stage.name).exists()
    snapshot = _load_checkpoint(run, stage.name) if resumed else _begin(run, stage)
    row = next(row for row in run.state.stages if row["name"] == stage.name)
    if snapshot.step == stage.steps and "mean_temperature_K" in row:  # done before an earlier one grew
        progress.begin(stage.name, stage.steps, snapshot.step, stage.timestep_fs)
        return
    context = _context(run, stage, snapshot.step)
    row["thermostat_K"] = round(context.getIntegrator().getTemperature()._value, 3)
    _set(context, snapshot)
    if stage.fresh_velocities and not resumed:
        _draw_velocities(run, stage, context)
    run.guard.forget()
    log_every = settings.interval(settings.log_ps, stage)
    frame_every = settings.interval(settings.frame_ps, stage)
    guard_every = settings.interval(settings.guard_ps, stage)
    log = ThermoLog(run.run_dir / stage.log, snapshot.step // log_every)
    outputs: list[RowLog | Trajectory | CommitteeLog] = [log]
    trajectory = dipoles = None
    if stage.trajectory is not None:
        frames = snapshot.step // frame_every
        trajectory = Trajectory(
            run.run_dir / stage.trajectory, len(run.atoms), stage.timestep_fs, frame_every, frames
        )
        outputs.append(trajectory)
        dipole_file = _record_transport(run, stage, snapshot.edge, frame_every)
        if dipole_file is not None:
            dipoles = RowLog(run.run_dir / dipole_file, DIPOLE_COLUMNS, snapshot.step // log_every)
            outputs.append(dipoles)
    committee = _watch_committee(run, stage, snapshot.step)
    if committee is not None:
        outputs.append(committee)
    progress.say(_describe(run, stage, snapshot.step))
    progress.begin(stage.name, stage.steps, snapshot.step, stage.timestep_fs)
    step, began, saved, good = snapshot.step, time.monotonic(), time.monotonic(), snapshot
    integrator = context.getIntegrator()
    spent = row.get("wall_s", 0.0)
    while step < stage.steps:
        every = [log_every, guard_every] + ([frame_every] if trajectory else [])
        every += [committee.every] if committee else []
        ends = [step + CHUNK_STEPS, stage.steps] + [(step // k + 1) * k for k in every]
        try:
            integrator.step(min(ends) - step)
        except openmm.OpenMMException as problem:
            raise _failure(run, stage, context, good, min(ends), str(problem)) from None
        step = min(ends)
        stopping = stop.is_set()
        saving = stopping or step == stage.steps or time.monotonic() - saved > settings.checkpoint_s
        checking = committee is not None and step % committee.every == 0
        if saving or checking or step % guard_every == 0:
            state = context.getState(positions=True, velocities=True, forces=True, energy=True)
            found = _inspect(run, state) or _watch(run, stage, state)
            if found is not None:
                raise _failure(run, stage, context, good, step, found)
            good = _snapshot(state)
            if committee is not None and checking:
                committee.check(step, good.positions[run.atoms], good.edge)
        if step % log_every == 0:
            _log_row(run, stage, log, context, step)
            if dipoles is not None:
                positions = context.getState(positions=True).getPositions(asNumpy=True)._value
                total = ",".join(f"{one:.7g}" for one in run.dipole_weights @ positions)
                dipoles.append(f"{step * stage.timestep_fs / 1000.0:.4f},{total}")
        if trajectory is not None and step % frame_every == 0:
            state = context.getState(positions=True)
            trajectory.write(state.getPositions(asNumpy=True)._value[run.atoms], _snapshot_edge(state))
        if saving:
            for output in outputs:
                output.sync()
            _save_checkpoint(run, stage.name, context)
            run.state.step, saved = step, time.monotonic()
            row["wall_s"] = round(spent + saved - began, 1)
            run.state.save(run.run_dir)
        progress.advance(step)
        if stopping:
            _interrupted(run, stage, step, progress)
    for output in outputs:
        output.close()
    row["ms_per_step"] = round(progress.ms_per_step, 3)
    _check_temperature(run, stage, row, progress)


def _check_temperature(run: _Run, stage: Stage, row: dict[str, Any], progress: StageProgress) -> None:
    """Record the stage's mean temperatures in its row of run.json, and warn when it is far off."""
    logged = np.loadtxt(run.run_dir / stage.log, delimiter=",", skiprows=1, ndmin=2)
    atoms, drudes = logged[len(logged) // 3 :, 4:6].mean(axis=0)
    row["mean_temperature_K"], row["mean_drude_temperature_K"] = (
        round(float(atoms), 2),
        round(float(drudes), 2),
    )
    target = run.settings.temperature_K + stage.heat_K
    if stage.ps >= 5.0 and abs(atoms - target) > TEMPERATURE_WARNING_K:
        warning = f"Stage {stage.name} ran at {atoms:.0f} K instead of {target:.0f} K."
        run.state.warnings.append(warning)
        progress.say(f"Warning: {warning}")


def _begin(run: _Run, stage: Stage) -> _Snapshot:
    """The state a stage starts from: the end of an earlier stage, scaled to the mean density if so asked."""
    snapshot = _load_checkpoint(run, _source(run, stage))
    positions, edge = snapshot.positions, snapshot.edge
    if stage.at_mean_density:
        edge = mean_volume(run.run_dir / run.settings.stage("density").log) ** (1.0 / 3.0)
        if edge < 2.0 * run.settings.cutoff_nm:
            raise SimulationError(
                f"atoms: at its mean density the box is {edge:.2f} nm wide, too small for a cut-off of "
                f"{run.settings.cutoff_nm} nm; ask for more atoms, with a new --out."
            )
        positions = _scale_centres(positions, run.guard.molecule, run.masses, edge / snapshot.edge)
    return _Snapshot(positions, snapshot.velocities, edge, 0)


def _source(run: _Run, stage: Stage) -> str:
    """Name of the stage, or "minimise", whose end a stage starts from."""
    names = ["minimise", *(s.name for s in run.settings.stages)]
    return stage.begins_from or names[names.index(stage.name) - 1]


def mean_volume(path: Path) -> float:
    """Mean volume in nm3 over the last two thirds of a density log."""
    volumes = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)[:, 2]
    return float(volumes[len(volumes) // 3 :].mean())


def _scale_centres(
    positions: NDArray[np.float64], molecule: NDArray[np.int_], masses: NDArray[np.float64], factor: float
) -> NDArray[np.float64]:
    """Scale the centres of mass of rigid molecules; Drude particles and sites go with their molecule."""
    weight = np.bincount(molecule, masses)
    centres = np.stack([np.bincount(molecule, masses * positions[:, k]) / weight for k in range(3)], axis=1)
    return positions + (factor - 1.0) * centres[molecule]


def _draw_velocities(run: _Run, stage: Stage, context: openmm.Context) -> None:
    """Maxwell-Boltzmann velocities for atoms; a Drude particle moves with its parent."""
    temperature = run.settings.temperature_K + stage.heat_K
    rng = np.random.default_rng(_seed(run.settings, stage, 0, 0))
    drude, parent = run.pairs.T
    masses = run.masses.copy()
    masses[parent] += masses[drude]
    width = np.sqrt(GAS_CONSTANT * temperature / np.where(masses > 0, masses, np.inf))
    velocities = rng.standard_normal((len(masses), 3)) * width[:, None]
    velocities[drude] = velocities[parent]
    context.setVelocities(velocities)
    context.applyVelocityConstraints(1e-6)


def _describe(run: _Run, stage: Stage, step: int) -> str:
    temperature = run.settings.temperature_K + stage.heat_K
    pressure = f", {run.settings.pressure_bar + stage.squeeze_bar:g} bar" if stage.ensemble == "NPT" else ""
    files = ", ".join(str(run.run_dir / name) for name in (stage.log, stage.trajectory) if name)
    again = f", from step {step}" if step else ""
    what = f"{stage.ps:g} ps {stage.ensemble} at {temperature:g} K{pressure}{again}"
    return f"{stage.name}: {what}; writes {files}"


def _record_transport(run: _Run, stage: Stage, edge: float, frame_every: int) -> str | None:
    """Fill run.json["nvt"] for the property code; the file of dipoles, None in a stage begun without one."""
    nvt = run.state.nvt
    replicas = nvt.setdefault("replicas", [])
    if stage.trajectory not in [replica["trajectory"] for replica in replicas]:
        replicas.append(
            {
                "trajectory": stage.trajectory,
                "log": stage.log,
                "dipoles": f"{Path(stage.log).stem}-dipole.csv",
            }
        )
    (own,) = (replica for replica in replicas if replica["trajectory"] == stage.trajectory)
    own["frames"] = stage.steps // frame_every
    nvt |= {
        "frame_ps": frame_every * stage.timestep_fs / 1000.0,
        "box_nm": edge,
        "density_g_cm3": run.density(edge**3),
        "integrator": {
            "name": "DrudeLangevinIntegrator",
            "friction_per_ps": stage.friction,
            "drude_friction_per_ps": stage.drude_friction,
            "timestep_fs": stage.timestep_fs,
        },
    }
    run.state.save(run.run_dir)
    return own.get("dipoles")


def _watch_committee(run: _Run, stage: Stage, step: int) -> CommitteeLog | None:
    """The committee's log of a stage that counts, noted in run.json; None where there is nothing to watch."""
    check = run.settings.committee
    if check is None or not stage.counts:
        return None
    rows, frames = committee_files(stage)
    run.state.committee.setdefault("threshold_kJ_mol_nm", check.threshold)
    stages = run.state.committee.setdefault("stages", [])
    if rows not in [one["log"] for one in stages]:
        stages.append({"stage": stage.name, "log": rows, "frames": frames})
    spread = run.forcefield.committee(run.topology)
    log = CommitteeLog(run.run_dir, stage, run.settings, check, step, run.guard.molecule[run.atoms], spread)
    run.state.save(run.run_dir)
    return log


def _log_row(run: _Run, stage: Stage, log: ThermoLog, context: openmm.Context, step: int) -> None:
    state = context.getState(energy=True, velocities=True, forces=True)
    volume = _snapshot_edge(state) ** 3
    velocities = on_step(state, run.masses, context.getIntegrator().getStepSize()._value)
    log.write(
        step * stage.timestep_fs / 1000.0,
        run.density(volume),
        volume,
        state.getPotentialEnergy()._value,
        group_temperature(velocities, run.masses, run.atom_of),
        oscillator_temperature(velocities, run.masses, run.pairs),
    )


def _snapshot_edge(state: openmm.State) -> float:
    return float(state.getPeriodicBoxVectors(asNumpy=True)._value[0, 0])


# --- things that go wrong ----------------------------------------------------------------------------------


def _inspect(run: _Run, state: openmm.State) -> str | None:
    """What is wrong with a state regardless of its history, or None."""
    positions = state.getPositions(asNumpy=True)._value
    velocities = state.getVelocities(asNumpy=True)._value
    found = run.guard.numbers(positions, velocities, state.getPotentialEnergy()._value)
    return found or run.guard.structure(
        positions, state.getForces(asNumpy=True)._value, _snapshot_edge(state)
    )


def _watch(run: _Run, stage: Stage, state: openmm.State) -> str | None:
    """What is wrong with a state in view of the checks before it, or None."""
    positions, edge = state.getPositions(asNumpy=True)._value, _snapshot_edge(state)
    found = run.guard.drude(positions)
    if found is None and stage.ensemble == "NPT":
        found = run.guard.density(run.density(edge**3), positions, edge)
    return found


def _failure(
    run: _Run, stage: Stage, context: openmm.Context, good: _Snapshot, step: int, found: str
) -> SimulationError:
    """The error for a violation at `step`; one that names no molecule is traced back to where it began."""
    if "periodic box size has decreased" in found:
        found = (
            f"the box shrank below twice the cut-off of {run.settings.cutoff_nm} nm, so ask for more atoms"
        )
    elif not run.guard.names_a_molecule(found):
        found = _trace(run, context, good, step) or f"{found} (a replay from step {good.step} ran through)"
    path = run.checkpoint_path(stage.name)
    where = f"the last good state is {path}" if path.exists() else "the state before this stage is intact"
    return SimulationError(
        f"stage {stage.name} failed at {step * stage.timestep_fs / 1000.0:.3f} ps: {found}; {where}, "
        "and the same command tries again from there with other random numbers."
    )


def _trace(run: _Run, context: openmm.Context, good: _Snapshot, step: int) -> str | None:
    """Replay from the last good state, step by step, until the first molecule breaks; None if none does."""
    hardest = None
    try:
        _set(context, good)
        for _ in range(good.step, step + CHUNK_STEPS):
            state = context.getState(positions=True, velocities=True, forces=True, energy=True)
            found = _inspect(run, state)
            if found is not None:
                return hardest if hardest and "not-a-number" in found else found
            hardest = run.guard.hardest(state.getForces(asNumpy=True)._value)
            context.getIntegrator().step(1)
    except openmm.OpenMMException:
        return hardest
    return None


@contextmanager
def stop_request() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, so that no file is left half-written; a second Ctrl-C stops."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(run: _Run, stage: Stage, step: int, progress: StageProgress) -> None:
    run.state.status = "interrupted"
    run.state.save(run.run_dir)
    progress.say(
        f"Interrupted in stage {stage.name} at step {step} of {stage.steps}; saved in {run.run_dir}. "
        "Run the same command again to go on."
    )
    raise KeyboardInterrupt
