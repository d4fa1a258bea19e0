"""What a stage of a run writes while it moves: thermodynamic rows, and where properties come from it frames,
dipoles and how far the networks of a neural term differ."""

from pathlib import Path

import openmm

from phyff.md.committee import CommitteeLog, committee_files
from phyff.md.protocol import Stage
from phyff.md.reporters import RowLog, ThermoLog, Trajectory
from phyff.md.run_system import RunSystem, Snapshot, edge_of
from phyff.md.temperature import group_temperature, on_step, oscillator_temperature

DIPOLE_COLUMNS = "time_ps,dipole_x_e_nm,dipole_y_e_nm,dipole_z_e_nm"
"""Sum of molecular dipoles about centres of mass, oscillators and off-atom sites included."""


class StageOutputs:
    """The files of one stage, cut to the step it starts from."""

    def __init__(self, run: RunSystem, stage: Stage, start: Snapshot) -> None:
        settings = run.settings
        self._run, self._stage = run, stage
        self._log_every = settings.interval(settings.log_ps, stage)
        self._frame_every = settings.interval(settings.frame_ps, stage)
        rows = start.step // self._log_every
        self._log = ThermoLog(run.run_dir / stage.log, rows)
        self._trajectory, self._dipoles = None, None
        if stage.trajectory is not None:
            path, frames = run.run_dir / stage.trajectory, start.step // self._frame_every
            self._trajectory = Trajectory(path, len(run.atoms), stage.timestep_fs, self._frame_every, frames)
            dipole_file = _record_transport(run, stage, start.edge, self._frame_every)
            if dipole_file is not None:
                self._dipoles = RowLog(run.run_dir / dipole_file, DIPOLE_COLUMNS, rows)
        self._committee = _watch_committee(run, stage, start.step)

    @property
    def every(self) -> list[int]:
        """Steps between what is written, of each kind."""
        frames = [] if self._trajectory is None else [self._frame_every]
        checks = [] if self._committee is None else [self._committee.every]
        return [self._log_every, *frames, *checks]

    def checks_at(self, step: int) -> bool:
        """Whether the committee is asked at a step."""
        return self._committee is not None and step % self._committee.every == 0

    def check(self, found: Snapshot) -> None:
        """Ask the committee, where it is asked at this step."""
        if self._committee is not None and self.checks_at(found.step):
            self._committee.check(found.step, found.positions[self._run.atoms], found.edge)

    def write(self, step: int, context: openmm.Context) -> None:
        """Rows and frame, where they are due."""
        if step % self._log_every == 0:
            self._write_rows(step, context)
        if self._trajectory is not None and step % self._frame_every == 0:
            state = context.getState(positions=True)
            self._trajectory.write(state.getPositions(asNumpy=True)._value[self._run.atoms], edge_of(state))

    def _write_rows(self, step: int, context: openmm.Context) -> None:
        run, time_ps = self._run, step * self._stage.timestep_fs / 1000.0
        state = context.getState(energy=True, positions=True, velocities=True, forces=True)
        volume = edge_of(state) ** 3
        velocities = on_step(state, run.masses, context.getIntegrator().getStepSize()._value)
        self._log.write(
            time_ps,
            run.density(volume),
            volume,
            state.getPotentialEnergy()._value,
            group_temperature(velocities, run.masses, run.atom_of),
            oscillator_temperature(velocities, run.masses, run.pairs),
        )
        if self._dipoles is not None:
            dipole = run.dipole_weights @ state.getPositions(asNumpy=True)._value
            self._dipoles.append(f"{time_ps:.4f}," + ",".join(f"{one:.7g}" for one in dipole))

    def sync(self) -> None:
        """Force all of it to disk."""
        for file in self._files():
            file.sync()

    def close(self) -> None:
        """Close the files."""
        for file in self._files():
            file.close()

    def _files(self) -> list[RowLog | Trajectory | CommitteeLog]:
        everything = (self._log, self._trajectory, self._dipoles, self._committee)
        return [file for file in everything if file is not None]


def _record_transport(run: RunSystem, stage: Stage, edge: float, frame_every: int) -> str | None:
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


def _watch_committee(run: RunSystem, stage: Stage, step: int) -> CommitteeLog | None:
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
