"""One simulation from an empty box to a transport trajectory, resumable at any moment.

A run directory is a state machine: `run.json` names the stage, `state-<stage>.xml` holds its last good state
and exact step, and every log and trajectory is cut to that step when the run goes on.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openmm
from rich.console import Console

from phyff.errors import SimulationError
from phyff.files import write_atomically
from phyff.md.interfaces import ForceFieldLike
from phyff.md.protocol import Settings, stage_table
from phyff.md.reporters import StageProgress
from phyff.md.run_state import About, RunState, inputs_of, lock, reopen, say
from phyff.md.run_system import RunSystem, prepared
from phyff.md.stages import run_stage
from phyff.md.start import pack_and_minimise, scan_barriers
from phyff.md.stopping import stop_request
from phyff.openmm.native import neural_term, notice, pair_forces


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
        run = prepared(forcefield, counts, density_g_cm3, settings, run_dir, platform)
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
                    pack_and_minimise(run, progress)
                    scan_barriers(run, progress)
                    state.stage, state.step = names[0], 0
                    state.save(run_dir)
                with stop_request() as stop:
                    for stage, following in zip(
                        settings.stages[begin:], [*names[begin + 1 :], "finished"], strict=True
                    ):
                        run_stage(run, stage, progress, stop)
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


def _create(run: RunSystem, inputs: dict[str, Any], console: Console) -> RunState:
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
