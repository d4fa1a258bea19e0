"""Simulations side by side: finished, failed, killed and resumed, and how far they are."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from standin import COUNTS, DENSITY, StandIn, tiny

import phyff
from phyff import md, side_by_side
from phyff.errors import SimulationError
from phyff.md import RunState, stage_table
from phyff.side_by_side import Simulation, position, simulate_side_by_side

SCRIPT = """
import sys
from pathlib import Path
from standin import tiny
from tests.test_side_by_side import long, simulations
from phyff.side_by_side import simulate_side_by_side
if __name__ == "__main__":
    list(simulate_side_by_side(simulations(Path(sys.argv[1]), long()), 2))
"""


class KilledOnce(StandIn):
    """Kills the process that makes its system, the first time."""

    def __init__(self, trace: Path) -> None:
        super().__init__()
        self.trace = trace

    def create_system(self, topology, cutoff_nm=0.8):
        if cutoff_nm is not None and not self.trace.exists():
            self.trace.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().create_system(topology, cutoff_nm)


def short() -> md.Settings:
    settings = tiny()
    return replace(settings, stages=tuple(replace(stage, ps=stage.ps / 4) for stage in settings.stages))


def long() -> md.Settings:
    """Most of it is the mixing stage."""
    settings = short()
    ps = {stage.name: 0.8 if stage.name == "mix" else stage.ps for stage in settings.stages}
    return replace(settings, stages=tuple(replace(stage, ps=ps[stage.name]) for stage in settings.stages))


def simulation(folder: Path, settings: md.Settings, forcefield: StandIn | None = None) -> Simulation:
    counts = tuple(COUNTS)
    return Simulation(forcefield or StandIn(), counts, DENSITY, settings, folder, "CPU", md.About())


def simulations(folder: Path, settings: md.Settings) -> list[Simulation]:
    return [simulation(folder / str(seed), replace(settings, seed=seed)) for seed in (1, 2)]


def test_they_run_and_the_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "SHOW_S", 0.0)
    some = simulations(tmp_path, short())
    bad = simulation(tmp_path / "bad", short(), StandIn(fragile=7))
    out, done = io.StringIO(), []
    with pytest.raises(SimulationError, match=r"^bad: stage warmup failed.*; 2 of 3 are finished"):
        for number in simulate_side_by_side([some[0], bad, some[1]], 3, Console(file=out, width=200)):
            done.append(number)
    assert sorted(done) == [0, 2]
    text = out.getvalue()
    assert "2: finished" in text and "of 3 finished" in text
    assert "Starting the quick simulation" in (tmp_path / "1" / side_by_side.PROGRESS_FILE).read_text()
    first, second = ((tmp_path / name / "topology.pdb").read_text() for name in "12")
    assert first != second, "other seeds pack other boxes"
    before = (tmp_path / "1" / "nvt.dcd").stat().st_mtime_ns
    assert list(simulate_side_by_side(some, 1, Console(file=out))) == [0, 1]
    assert (tmp_path / "1" / "nvt.dcd").stat().st_mtime_ns == before


def test_a_killed_worker_is_told_and_the_same_call_goes_on(tmp_path):
    both = [
        simulation(tmp_path / "one", short(), KilledOnce(tmp_path / "trace")),
        simulation(tmp_path / "two", short()),
    ]
    with pytest.raises(SimulationError, match="one: the process that ran it.*run the same command"):
        list(simulate_side_by_side(both, 2, Console(file=io.StringIO())))
    assert sorted(simulate_side_by_side(both, 2, Console(file=io.StringIO()))) == [0, 1]


def _wait_for(logs: list[Path], process: subprocess.Popen | None = None) -> None:
    """Until one of the logs exists; a process that writes them may not end before."""
    deadline = time.monotonic() + 120
    while not any(log.exists() for log in logs):
        assert time.monotonic() < deadline and (process is None or process.poll() is None)
        time.sleep(0.01)


def test_killing_the_command_saves_the_simulations_and_it_can_go_on(tmp_path):
    paths = [Path(phyff.__path__[0]).parent, Path(__file__).parent / "md"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, script, tmp_path], env=environment)
    _wait_for([tmp_path / seed / "mix.csv" for seed in "12"], process)
    process.kill()
    process.wait()
    both = simulations(tmp_path, long())
    assert sorted(simulate_side_by_side(both, 2, Console(file=io.StringIO()))) == [0, 1]
    states = [RunState.load(one.run_dir) for one in both]
    logs = [(one.run_dir / side_by_side.PROGRESS_FILE).read_text() for one in both]
    interrupted = [state for state, log in zip(states, logs, strict=True) if "Interrupted in stage" in log]
    assert interrupted and all(state.resumes == 1 for state in interrupted)
    for one, state in zip(both, states, strict=True):
        assert state.status == "finished"
        for stage in one.settings.stages:
            times = np.loadtxt(one.run_dir / stage.log, delimiter=",", skiprows=1, ndmin=2)[:, 0]
            np.testing.assert_allclose(times, 0.02 * np.arange(1, round(stage.ps / 0.02) + 1), atol=1e-9)


def test_giving_up_half_way_saves_what_runs(tmp_path):
    """Whoever takes the results fails: the workers save, and end."""
    stages = tuple(replace(stage, ps=50.0 if stage.name == "mix" else stage.ps) for stage in short().stages)
    quick = simulation(tmp_path / "quick", short())
    slow = simulation(tmp_path / "slow", replace(short(), stages=stages, checkpoint_s=1e6))
    with closing(simulate_side_by_side([quick, slow], 2, Console(file=io.StringIO()))) as finished:
        assert next(finished) == 0
        _wait_for([slow.run_dir / "mix.csv"])  # its worker may have started later
    state = RunState.load(slow.run_dir)
    assert state.status == "interrupted" and state.step > 0


def test_the_position_is_read_from_the_log_of_the_stage(tmp_path):
    settings = tiny()
    nowhere = position(settings, tmp_path)
    assert (nowhere.stage, nowhere.steps, nowhere.ps) == ("pack", 0, 0.0)
    assert nowhere.total == sum(stage.steps for stage in settings.stages)
    (tmp_path / "run.json").write_text(json.dumps({"stage": "mix", "stages": stage_table(settings)}))
    (tmp_path / "mix.csv").write_text("time_ps,density\n0.0200,1.0\n0.0400,1.0\n0.06")
    found = position(settings, tmp_path)
    warmup, mix = settings.stage("warmup"), settings.stage("mix")
    assert found.stage == "mix" and found.share == pytest.approx(0.04 / mix.ps)
    assert found.steps == warmup.steps + 40 and found.ps == pytest.approx(warmup.ps + 0.04)
    (tmp_path / "run.json").write_text(json.dumps({"stage": "finished", "stages": stage_table(settings)}))
    assert position(settings, tmp_path).steps == nowhere.total


def test_the_position_counts_the_flows_that_follow(tmp_path):
    settings = short()
    one = replace(simulation(tmp_path, settings), flow_ps=4.0)
    alone = sum(stage.steps for stage in settings.stages)
    per_ps = settings.stages[-1].steps / settings.stages[-1].ps
    assert one.position().total == pytest.approx(alone + 12.0 * per_ps, abs=1)
    (tmp_path / "run.json").write_text(json.dumps({"stage": "finished", "stages": stage_table(settings)}))
    for name, last in (("viscosity-0.02.csv", "4.00"), ("viscosity-0.04.csv", "2.00")):
        (tmp_path / name).write_text(f"time_ps,velocity_nm_ps\n{last},0.1\n")
    found = one.position()
    assert (found.stage, found.share) == ("flow", 0.5)
    assert found.steps == pytest.approx(alone + 6.0 * per_ps, abs=1)
    assert not one.is_finished()
