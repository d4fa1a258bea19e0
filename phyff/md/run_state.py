"""What a run directory holds of its run: `run.json`, and whether the same run may go on there."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from phyff.errors import SimulationError
from phyff.files import write_atomically
from phyff.md.interfaces import ForceFieldLike
from phyff.md.protocol import Settings, stage_table


@dataclass(frozen=True)
class About:
    """What a report says of a run beside its physics; plain JSON data.

    Attributes:
        name: the formulation's.
        provenance: versions, level of theory and the like.
        warnings: sentences a reader must see before the numbers.
        composition_report: one row a component, requested beside achieved.
    """

    name: str = "run"
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    composition_report: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class RunState:
    """What run.json holds.

    Attributes:
        status: "running", "interrupted", "failed" or "finished".
        stage: "pack", a stage's name, or "finished".
        step: step of that stage in its last checkpoint.
        failure: the sentence of the last failure, or None.
        resumes: how often the run was taken up again.
        settings: `Settings.physics()`.
        inputs: counts, density_estimate_g_cm3, forcefield_sha256.
        stages: the stage table, with thermostat_K of those begun; wall_s, ms_per_step and mean temperatures
            of the finished ones.
        npt: log and interval_ps of the density stage.
        nvt: of the transport stages: frame_ps, box_nm, density_g_cm3, integrator and replicas
            (trajectory, log, dipoles, frames).
        lowered_barriers: of slowly turning bonds by species, in the stages that have them; see
            phyff.md.barriers.
        committee: threshold_kJ_mol_nm and stages (log, frames) where the neural term was watched; see
            phyff.md.committee.
        software: OpenMM version, platform, what computes the pair forces, numbers of atoms and particles.
        preset, temperature_K, pressure_bar: of the settings, where readers look for them.
        name, provenance, warnings, composition_report: see About; stages add warnings of their own.
    """

    settings: dict[str, Any]
    inputs: dict[str, Any]
    stages: list[dict[str, Any]]
    status: str = "running"
    stage: str = "pack"
    step: int = 0
    failure: str | None = None
    resumes: int = 0
    npt: dict[str, Any] = field(default_factory=dict)
    nvt: dict[str, Any] = field(default_factory=dict)
    lowered_barriers: dict[str, Any] = field(default_factory=dict)
    committee: dict[str, Any] = field(default_factory=dict)
    software: dict[str, Any] = field(default_factory=dict)
    preset: str = ""
    temperature_K: float = 0.0
    pressure_bar: float = 0.0
    name: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    composition_report: list[dict[str, Any]] = field(default_factory=list)
    format: int = 1

    def describe(self, settings: Settings, about: About) -> None:
        """Take over what readers of run.json want to know; warnings of earlier stages stay."""
        self.preset = settings.preset
        self.temperature_K, self.pressure_bar = settings.temperature_K, settings.pressure_bar
        self.name, self.composition_report = about.name, about.composition_report
        self.provenance = {**about.provenance, "simulation": self.software}
        self.warnings = list(dict.fromkeys([*about.warnings, *self.warnings]))

    def has_finished(self, stage: str) -> bool:
        """Whether a stage has come to its end: its checkpoint alone, written on the way too, does not say."""
        order = ["pack", *(row["name"] for row in self.stages), "finished"]
        return stage in order and order.index(self.stage) > order.index(stage)

    def save(self, run_dir: Path) -> None:
        """Write run.json atomically."""
        write_atomically(run_dir / "run.json", json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, run_dir: Path) -> "RunState":
        """Read run.json; SimulationError when it is not one of ours."""
        try:
            return cls(**json.loads((run_dir / "run.json").read_text()))
        except (ValueError, TypeError) as problem:
            raise SimulationError(
                f"{run_dir / 'run.json'} is not a PhyFF run file ({problem}); use a new --out."
            ) from None


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Hold the run directory; the kernel lets go of it when this process ends, however it ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    folder = os.open(run_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SimulationError(
            f"{run_dir} is in use by another phyff process; wait for it or use a new --out."
        ) from None
    finally:
        os.close(folder)
        with suppress(OSError):
            run_dir.rmdir()  # only an empty one goes: bad input leaves nothing behind


def inputs_of(
    forcefield: ForceFieldLike, counts: Sequence[tuple[str, int]], density_g_cm3: float
) -> dict[str, Any]:
    """What makes a run another one, beside its settings: `RunState.inputs`."""
    with tempfile.TemporaryDirectory(prefix="phyff-") as folder:
        path = Path(folder, "forcefield.json")
        forcefield.save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "counts": [[name, int(number)] for name, number in counts],
        "density_estimate_g_cm3": round(float(density_g_cm3), 6),
        "forcefield_sha256": digest,
    }


def reopen(settings: Settings, inputs: dict[str, Any], run_dir: Path, console: Console) -> RunState | None:
    """The state in run_dir, once it is sure to belong to this very run; None when there is none.

    Stages that count may be longer than they were there. Raises SimulationError for another run.
    """
    if not (run_dir / "run.json").exists():
        return None
    state = RunState.load(run_dir)
    lengthened = _lengthened(state, settings, run_dir)
    _compare(state.settings, json.loads(json.dumps(settings.physics())), run_dir)
    _compare(state.inputs, inputs, run_dir)
    if lengthened:
        say(console, f"Longer than the run in {run_dir}: {', '.join(lengthened)}")
    if state.status == "finished":
        say(console, f"The simulation in {run_dir} is already finished")
        return state
    state.resumes += 1
    state.status, state.failure = "running", None
    say(console, f"Resuming the simulation in {run_dir}: stage {state.stage}, step {state.step}")
    return state


def _lengthened(state: RunState, settings: Settings, run_dir: Path) -> list[str]:
    """Take longer stages that count over into the state of a run that had shorter ones, and go back to the
    first of them that is done; says which, e.g. "density 180 -> 1000 ps"."""
    names = [stage.name for stage in settings.stages]
    if names != [stage["name"] for stage in state.settings.get("stages", [])]:
        return []
    reached = ["pack", *names, "finished"].index(state.stage) - 1
    said, back = [], reached
    for number, (old, row, new) in enumerate(
        zip(state.settings["stages"], stage_table(settings), settings.stages, strict=True)
    ):
        if new.name not in settings.can_grow or new.ps == old["ps"]:
            continue
        if new.ps < old["ps"]:
            raise SimulationError(
                f"{run_dir} holds a longer run ({new.name} {old['ps']:g} ps, not {new.ps:g}); "
                "give --longer as there, or a new --out."
            )
        said.append(f"{new.name} {old['ps']:g} -> {new.ps:g} ps")
        old["ps"] = new.ps
        state.stages[number] = row | {"wall_s": state.stages[number].get("wall_s", 0.0)}
        back = min(back, number)
    if back < reached:
        state.stage, state.step, state.status = names[back], 0, "running"
    return said


def _compare(old: dict[str, Any], new: dict[str, Any], run_dir: Path) -> None:
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        key = changed[0]
        detail = (
            ""
            if key in ("stages", "forcefield_sha256", "counts")
            else f" ({old.get(key)} there, {new.get(key)} now)"
        )
        name = {"forcefield_sha256": "force field"}.get(key, key)
        raise SimulationError(
            f"{run_dir} holds a run with a different {name}{detail}; use a new --out for this one."
        )


def say(console: Console, message: str) -> None:
    """Print a line as it is."""
    console.print(message, highlight=False, soft_wrap=True)
