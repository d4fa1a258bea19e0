"""One stage of a run: dynamics from its last state on, what it writes on the way, and what stops it."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray

from phyff.errors import SimulationError
from phyff.md.outputs import StageOutputs
from phyff.md.protocol import Stage
from phyff.md.reporters import StageProgress
from phyff.md.run_system import (
    RunSystem,
    Snapshot,
    edge_of,
    load_checkpoint,
    save_checkpoint,
    seed_of,
    set_state,
    snapshot_of,
    source_of,
    stage_context,
    what_is_wrong,
)
from phyff.units import GAS_CONSTANT

CHUNK_STEPS = 100
"""Longest stretch without a look at the clock or at a pending interrupt."""
TEMPERATURE_WARNING_K = 12.0
"""Warn when the mean temperature of a stage is this far off; a quick box alone fluctuates by 3 to 5 K."""


def run_stage(run: RunSystem, stage: Stage, progress: StageProgress, stop: threading.Event) -> None:
    """From the stage's checkpoint, or its start, to its end; every way out can be resumed."""
    settings = run.settings
    resumed = run.checkpoint_path(stage.name).exists()
    snapshot = load_checkpoint(run, stage.name) if resumed else _begin(run, stage)
    row = next(row for row in run.state.stages if row["name"] == stage.name)
    if snapshot.step == stage.steps and "mean_temperature_K" in row:  # done before an earlier one grew
        progress.begin(stage.name, stage.steps, snapshot.step, stage.timestep_fs)
        return
    context = stage_context(run, stage, snapshot.step)
    row["thermostat_K"] = round(context.getIntegrator().getTemperature()._value, 3)
    set_state(context, snapshot)
    if stage.fresh_velocities and not resumed:
        _draw_velocities(run, stage, context)
    run.guard.forget()
    outputs = StageOutputs(run, stage, snapshot)
    guard_every = settings.interval(settings.guard_ps, stage)
    progress.say(_describe(run, stage, snapshot.step))
    progress.begin(stage.name, stage.steps, snapshot.step, stage.timestep_fs)
    step, began, saved, good = snapshot.step, time.monotonic(), time.monotonic(), snapshot
    spent = row.get("wall_s", 0.0)
    while step < stage.steps:
        ends = [step + CHUNK_STEPS, stage.steps]
        ends += [(step // every + 1) * every for every in (guard_every, *outputs.every)]
        try:
            context.getIntegrator().step(min(ends) - step)
        except openmm.OpenMMException as problem:
            raise _failure(run, stage, context, good, min(ends), str(problem)) from None
        step = min(ends)
        stopping = stop.is_set()
        saving = stopping or step == stage.steps or time.monotonic() - saved > settings.checkpoint_s
        if saving or outputs.checks_at(step) or step % guard_every == 0:
            state = context.getState(positions=True, velocities=True, forces=True, energy=True)
            found = what_is_wrong(run, state) or _watch(run, stage, state)
            if found is not None:
                raise _failure(run, stage, context, good, step, found)
            good = snapshot_of(state)
            outputs.check(good)
        outputs.write(step, context)
        if saving:
            outputs.sync()
            save_checkpoint(run, stage.name, context)
            run.state.step, saved = step, time.monotonic()
            row["wall_s"] = round(spent + saved - began, 1)
            run.state.save(run.run_dir)
        progress.advance(step)
        if stopping:
            _interrupted(run, stage, step, progress)
    outputs.close()
    row["ms_per_step"] = round(progress.ms_per_step, 3)
    _check_temperature(run, stage, row, progress)


def _check_temperature(run: RunSystem, stage: Stage, row: dict[str, Any], progress: StageProgress) -> None:
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


def _begin(run: RunSystem, stage: Stage) -> Snapshot:
    """The state a stage starts from: the end of an earlier stage, scaled to the mean density if so asked."""
    snapshot = load_checkpoint(run, source_of(run, stage))
    positions, edge = snapshot.positions, snapshot.edge
    if stage.at_mean_density:
        edge = mean_volume(run.run_dir / run.settings.stage("density").log) ** (1.0 / 3.0)
        if edge < 2.0 * run.settings.cutoff_nm:
            raise SimulationError(
                f"atoms: at its mean density the box is {edge:.2f} nm wide, too small for a cut-off of "
                f"{run.settings.cutoff_nm} nm; ask for more atoms, with a new --out."
            )
        positions = _scale_centres(positions, run.guard.molecule, run.masses, edge / snapshot.edge)
    return Snapshot(positions, snapshot.velocities, edge, 0)


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


def _draw_velocities(run: RunSystem, stage: Stage, context: openmm.Context) -> None:
    """Maxwell-Boltzmann velocities for atoms; a Drude particle moves with its parent."""
    temperature = run.settings.temperature_K + stage.heat_K
    rng = np.random.default_rng(seed_of(run.settings, stage, 0, 0))
    drude, parent = run.pairs.T
    masses = run.masses.copy()
    masses[parent] += masses[drude]
    width = np.sqrt(GAS_CONSTANT * temperature / np.where(masses > 0, masses, np.inf))
    velocities = rng.standard_normal((len(masses), 3)) * width[:, None]
    velocities[drude] = velocities[parent]
    context.setVelocities(velocities)
    context.applyVelocityConstraints(1e-6)


def _describe(run: RunSystem, stage: Stage, step: int) -> str:
    temperature = run.settings.temperature_K + stage.heat_K
    pressure = f", {run.settings.pressure_bar + stage.squeeze_bar:g} bar" if stage.ensemble == "NPT" else ""
    files = ", ".join(str(run.run_dir / name) for name in (stage.log, stage.trajectory) if name)
    again = f", from step {step}" if step else ""
    what = f"{stage.ps:g} ps {stage.ensemble} at {temperature:g} K{pressure}{again}"
    return f"{stage.name}: {what}; writes {files}"


def _watch(run: RunSystem, stage: Stage, state: openmm.State) -> str | None:
    """What is wrong with a state in view of the checks before it, or None."""
    positions, edge = state.getPositions(asNumpy=True)._value, edge_of(state)
    found = run.guard.drude(positions)
    if found is None and stage.ensemble == "NPT":
        found = run.guard.density(run.density(edge**3), positions, edge)
    return found


def _failure(
    run: RunSystem, stage: Stage, context: openmm.Context, good: Snapshot, step: int, found: str
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


def _trace(run: RunSystem, context: openmm.Context, good: Snapshot, step: int) -> str | None:
    """Replay from the last good state, step by step, until the first molecule breaks; None if none does."""
    hardest = None
    try:
        set_state(context, good)
        for _ in range(good.step, step + CHUNK_STEPS):
            state = context.getState(positions=True, velocities=True, forces=True, energy=True)
            found = what_is_wrong(run, state)
            if found is not None:
                return hardest if hardest and "not-a-number" in found else found
            hardest = run.guard.hardest(state.getForces(asNumpy=True)._value)
            context.getIntegrator().step(1)
    except openmm.OpenMMException:
        return hardest
    return None


def _interrupted(run: RunSystem, stage: Stage, step: int, progress: StageProgress) -> None:
    run.state.status = "interrupted"
    run.state.save(run.run_dir)
    progress.say(
        f"Interrupted in stage {stage.name} at step {step} of {stage.steps}; saved in {run.run_dir}. "
        "Run the same command again to go on."
    )
    raise KeyboardInterrupt
