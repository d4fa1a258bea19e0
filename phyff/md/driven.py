"""Simulations beside a finished run: short stretches of dynamics, each with one observable, resumable.

A stretch is named after what drives it; NAME.csv holds its series and state-NAME.xml its last good state and
exact step, to which the series is cut when the same command goes on. A longer one continues a shorter one.
"""

import copy
import json
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from rich.console import Console

from phyff.errors import InputError, SimulationError
from phyff.files import write_atomically
from phyff.md.interfaces import ForceFieldLike
from phyff.md.protocol import TRANSPORT_DRUDE_FRICTION, TRANSPORT_FRICTION
from phyff.md.reporters import RowLog, StageProgress
from phyff.md.run_state import RunState, lock
from phyff.md.stopping import stop_request
from phyff.md.temperature import drude_pairs, make_up_for_drained_heat
from phyff.openmm.native import accelerated
from phyff.openmm.platforms import open_context, platform_named

START_STAGE = "settle"
CHECKPOINT_S = 60.0
STEADY_PS = 20.0
"""A driven liquid is given so long to come to its steady state."""


@dataclass(frozen=True)
class Driving:
    """How a liquid is driven: ps at each of several strengths, the first steady_ps of which do not count.

    strengths: of the drive, in its own unit; a single 1 where nothing drives. platform: OpenMM's name, None
    for the fastest; console: where progress goes, None for stderr.
    """

    ps: float
    strengths: tuple[float, ...] = (1.0,)
    steady_ps: float = STEADY_PS
    platform: str | None = None
    console: Console | None = None

    def __post_init__(self) -> None:
        if self.ps <= 2.0 * self.steady_ps:
            raise InputError(
                f"ps: {self.ps:g} is too short; the first {self.steady_ps:g} ps of each stretch are left out."
            )
        if not self.strengths or min(self.strengths) <= 0.0:
            raise InputError("strengths: give at least one, all of them positive.")


@dataclass(frozen=True)
class Stretch:
    """One stretch of dynamics from a start with positions, velocities and, if periodic, a rectangular box.

    force: what drives the system, for one use; column: the observable's name in NAME.csv; observe gives it,
    every sample_ps.
    """

    name: str
    system: openmm.System
    force: openmm.Force | None
    start: openmm.State
    column: str
    observe: Callable[[openmm.Context], float]
    sample_ps: float

    @property
    def series(self) -> str:
        """The file of the series."""
        return series_file(self.name)


def series_file(stretch: str) -> str:
    """Where the stretch of that name keeps its series, in the run directory."""
    return f"{stretch}.csv"


@dataclass(frozen=True)
class Settled:
    """The liquid of a run directory at its mean density, ready to be driven."""

    system: openmm.System
    start: openmm.State
    molecule: NDArray[np.int_]
    """Whose each particle is, from 0."""
    integrator: Callable[[], Any]
    """A fresh one, with the thermostat of the transport stages."""


def settled(forcefield: ForceFieldLike, run_dir: Path) -> Settled:
    """A run's state at the end of its settling stage; raises InputError when it has not come that far."""
    needed = [run_dir / name for name in ("run.json", "composition.json")]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise InputError(f"run: {missing[0]} is missing; let phyff run finish its settling stage first.")
    state = RunState.load(run_dir)
    if START_STAGE not in [row["name"] for row in state.stages]:
        raise InputError(
            f"run: preset '{state.preset}' ends with the density, at constant pressure; take another one."
        )
    if not state.has_finished(START_STAGE):
        raise InputError(f"run: {run_dir} has not settled yet; let phyff run finish that stage first.")
    settings = state.settings
    counts = [(row["name"], int(row["count"])) for row in json.loads(needed[1].read_text())]
    start = openmm.XmlSerializer.deserialize((run_dir / f"state-{START_STAGE}.xml").read_text())
    edge = float(start.getPeriodicBoxVectors(asNumpy=True)._value[0, 0])
    topology = forcefield.topology(counts, edge)
    system = forcefield.create_system(topology, cutoff_nm=settings["cutoff_nm"])
    molecule = np.array([atom.residue.index for atom in topology.atoms()], dtype=int)
    row = next(row for row in state.stages if row["name"] == START_STAGE)
    per_atom = len(drude_pairs(system)) / len(forcefield.atom_indices(topology))

    def integrator() -> Any:
        made = forcefield.integrator(settings["temperature_K"], friction=TRANSPORT_FRICTION)
        made.setDrudeFriction(TRANSPORT_DRUDE_FRICTION)
        make_up_for_drained_heat(made, per_atom, row.get("mean_drude_temperature_K"))
        made.setRandomNumberSeed(settings["seed"])
        return made

    return Settled(system, start, molecule, integrator)


def run_stretches(
    stretches: Sequence[Stretch], make_integrator: Callable[[], Any], run_dir: Path, driving: Driving
) -> None:
    """Run, or go on with, every stretch for driving.ps; stretches that are long enough stay as they are.

    After Ctrl-C or SIGTERM it saves and raises KeyboardInterrupt. Raises SimulationError when a stretch fails
    or another process works in run_dir.
    """
    console = driving.console or Console(stderr=True)
    step_ps = make_integrator().getStepSize()._value
    sizes = [_every(stretch, step_ps) for stretch in stretches]
    steps = [every * round(driving.ps / (every * step_ps)) for every in sizes]
    starts = [_checkpoint(stretch, run_dir) for stretch in stretches]
    done = [0 if start is None else start.getStepCount() for start in starts]
    with lock(run_dir), stop_request() as stop:
        finished = sum(last for first, last in zip(done, steps, strict=True) if first >= last)
        with StageProgress(console, sum(steps), finished) as progress:
            for stretch, start, first, last in zip(stretches, starts, done, steps, strict=True):
                if first >= last:
                    progress.say(f"{stretch.name}: {first * step_ps:g} ps are there already")
                    continue
                again = f", from {first * step_ps:g} ps on" if first else ""
                progress.say(f"{stretch.name}: {driving.ps:g} ps{again}; writes {run_dir / stretch.series}")
                progress.begin(stretch.name, last, first, 1000.0 * step_ps)
                context = _context(stretch, start, first, make_integrator(), driving.platform)
                _run(stretch, context, last, run_dir, progress, stop.is_set)


def _every(stretch: Stretch, step_ps: float) -> int:
    """Steps between two samples."""
    return max(1, round(stretch.sample_ps / step_ps))


def _checkpoint_path(stretch: Stretch, run_dir: Path) -> Path:
    return run_dir / f"state-{stretch.name}.xml"


def _checkpoint(stretch: Stretch, run_dir: Path) -> openmm.State | None:
    path = _checkpoint_path(stretch, run_dir)
    if not path.is_file():
        return None
    try:
        return openmm.XmlSerializer.deserialize(path.read_text())
    except (OSError, ValueError, openmm.OpenMMException) as problem:
        raise SimulationError(f"{path} cannot be read ({problem}); delete it to start again.") from None


def _context(
    stretch: Stretch, resumed: openmm.State | None, step: int, integrator: Any, platform: str | None
) -> openmm.Context:
    """With random numbers of its own for every stretch and every step it is taken up again at."""
    chosen = platform_named(platform)
    seed = zlib.crc32(f"{integrator.getRandomNumberSeed()}/{stretch.name}/{step}".encode())
    integrator.setRandomNumberSeed(seed % (2**31 - 1) + 1)
    system = accelerated(copy.deepcopy(stretch.system), chosen)
    if stretch.force is not None:
        system.addForce(stretch.force)
    context = open_context(system, integrator, chosen)
    state = resumed or stretch.start
    if system.usesPeriodicBoundaryConditions():
        context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    context.setPositions(state.getPositions())
    context.setVelocities(state.getVelocities())
    context.setStepCount(step)
    return context


def _run(
    stretch: Stretch,
    context: openmm.Context,
    last: int,
    run_dir: Path,
    progress: StageProgress,
    stopping: Callable[[], bool],
) -> None:
    integrator = context.getIntegrator()
    step_ps = integrator.getStepSize()._value
    every, step = _every(stretch, step_ps), context.getStepCount()
    log = RowLog(run_dir / stretch.series, f"time_ps,{stretch.column}", step // every)
    saved = time.monotonic()
    while step < last:
        try:
            integrator.step(every)
        except openmm.OpenMMException as problem:
            raise SimulationError(f"{stretch.name} failed ({problem}); use a weaker drive.") from None
        step += every
        value = stretch.observe(context)
        if not math.isfinite(value):
            raise SimulationError(f"{stretch.name} turned not-a-number; use a weaker drive.")
        log.append(f"{step * step_ps:.4f},{value:.8g}")
        stop = stopping()
        if stop or step == last or time.monotonic() - saved > CHECKPOINT_S:
            log.sync()
            state = context.getState(positions=True, velocities=True)
            write_atomically(_checkpoint_path(stretch, run_dir), openmm.XmlSerializer.serialize(state))
            saved = time.monotonic()
        progress.advance(step)
        if stop and step < last:
            progress.say(f"Interrupted in {stretch.name}; run the same command again to go on.")
            raise KeyboardInterrupt
    log.close()
