import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import MDAnalysis
import numpy as np
import openmm
import pytest
from standin import COUNTS, DENSITY, StandIn, tiny

import phyff
from phyff.errors import SimulationError
from phyff.md import RunState, run_state, simulate
from phyff.md.run_system import set_state, snapshot_of
from phyff.md.stages import mean_volume
from phyff.side_by_side import position

SCRIPT = Path(__file__).with_name("standin.py")


def start(run_dir: Path, *prelude: str) -> subprocess.Popen[bytes]:
    """A `simulate` call in its own process; prelude is Python code executed before it."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(phyff.__path__[0]).parent), str(SCRIPT.parent)]),
        "OPENMM_CPU_THREADS": "1",
    }
    code = "import sys, runpy; sys.argv = ['standin.py', sys.argv[1]]\n" + "\n".join(prelude)
    code += f"\nrunpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(run_dir)], env=environment, stderr=subprocess.PIPE
    )


def finish(run_dir: Path) -> None:
    """Go on to the end, in this process."""
    simulate(StandIn(), COUNTS, DENSITY, tiny(), run_dir, platform="CPU")


def kill_in(
    process: subprocess.Popen[bytes], run_dir: Path, stage: str, pause_s: float, resumes: int = 0
) -> None:
    """SIGKILL pause_s after this process, which took the run up for the `resumes`-th time, is in the stage.

    Past the stage counts too: the kill before may have come late.
    """
    names = [s.name for s in tiny().stages]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (run_dir / "run.json").exists():
            state = json.loads((run_dir / "run.json").read_text())
            reached = state["stage"] in names and names.index(state["stage"]) >= names.index(stage)
            if reached and state["resumes"] == resumes:
                break
        time.sleep(0.005)
    time.sleep(pause_s)
    process.kill()
    process.communicate()


def check_outputs(run_dir: Path) -> None:
    """Finished, and every log and the trajectory have all their records at constant spacing."""
    settings = tiny()
    assert json.loads((run_dir / "run.json").read_text())["status"] == "finished"
    for stage in settings.stages:
        rows = np.loadtxt(run_dir / stage.log, delimiter=",", skiprows=1)
        assert len(rows) == round(stage.ps / settings.log_ps)
        np.testing.assert_allclose(rows[:, 0], settings.log_ps * np.arange(1, len(rows) + 1), atol=1e-9)
    universe = MDAnalysis.Universe(str(run_dir / "topology.pdb"), str(run_dir / "nvt.dcd"))
    n_frames = round(settings.stage("transport").ps / settings.frame_ps)
    assert len(universe.trajectory) == n_frames
    state = RunState.load(run_dir)
    files = {"trajectory": "nvt.dcd", "log": "nvt.csv", "dipoles": "nvt-dipole.csv"}
    assert state.nvt["replicas"] == [files | {"frames": n_frames}]
    times = np.loadtxt(run_dir / "nvt.csv", delimiter=",", skiprows=1)[:, 0]
    np.testing.assert_array_equal(
        np.loadtxt(run_dir / "nvt-dipole.csv", delimiter=",", skiprows=1)[:, 0], times
    )
    xyz = np.array([step.positions.copy() for step in universe.trajectory])
    times = [step.time for step in universe.trajectory]
    np.testing.assert_allclose(np.diff(times), settings.frame_ps, rtol=1e-4)
    moved = np.linalg.norm(np.diff(xyz[:, universe.select_atoms("element O").indices], axis=0), axis=2)
    assert 1e-4 < moved.min() and moved.max() < 0.3, "angstrom an oxygen moves between frames, unwrapped"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("finished")
    simulate(StandIn(), COUNTS, DENSITY, tiny(), run_dir, platform="CPU")
    return run_dir


def test_a_run_goes_from_an_empty_directory_to_a_whole_trajectory(finished):
    check_outputs(finished)
    composition = json.loads((finished / "composition.json").read_text())
    assert [(c["name"], c["count"], c["n_atoms"]) for c in composition] == [("WATER", 36, 3), ("NEON", 2, 1)]
    state = RunState.load(finished)
    assert state.software["atoms"] == 110
    assert state.nvt["frame_ps"] == pytest.approx(0.01)
    volume = mean_volume(finished / "npt.csv")
    assert state.nvt["box_nm"] ** 3 == pytest.approx(volume, rel=1e-6)
    universe = MDAnalysis.Universe(str(finished / "topology.pdb"), str(finished / "nvt.dcd"))
    assert universe.dimensions[0] == pytest.approx(10 * state.nvt["box_nm"], rel=1e-5)


def test_the_last_dipole_is_that_of_the_last_state_with_its_oscillators_and_sites(finished):
    state = openmm.XmlSerializer.deserialize((finished / "state-transport.xml").read_text())
    waters = state.getPositions(asNumpy=True)._value[: 36 * 5].reshape(36, 5, 3)
    charges = np.array([1.71636, 0.55733, 0.55733, -1.71636, -1.11466])
    dipole = np.loadtxt(finished / "nvt-dipole.csv", delimiter=",", skiprows=1)[-1, 1:]
    np.testing.assert_allclose(dipole, np.einsum("p,mpd->d", charges, waters), atol=1e-6)
    permanent = charges - np.array([1.71636, 0, 0, -1.71636, 0])
    assert np.abs(dipole - np.einsum("p,mpd->d", permanent, waters)).max() > 1e-3


def test_a_finished_run_is_left_alone(finished):
    before = (finished / "nvt.dcd").stat().st_mtime_ns
    assert simulate(StandIn(), COUNTS, DENSITY, tiny(), finished, platform="CPU").status == "finished"
    assert (finished / "nvt.dcd").stat().st_mtime_ns == before


def test_three_kills_at_random_moments_leave_no_gap_and_no_repeat(tmp_path):
    rng = random.Random(20)
    for resumes, stage in enumerate(("equilibrate", "density", "transport")):
        process = start(tmp_path)
        kill_in(process, tmp_path, stage, rng.uniform(0.02, 0.15), resumes)
        assert process.returncode == -signal.SIGKILL
    finish(tmp_path)
    check_outputs(tmp_path)
    assert RunState.load(tmp_path).resumes == 3


@pytest.mark.parametrize(
    "prelude",
    [
        # dies inside a checkpoint, half of the temporary file written
        """
import os, signal, phyff.md.run_system as r
whole = r.write_atomically
def torn(path, text, count=[0]):
    count[0] += path.name == "state-transport.xml"
    if count[0] == 3:
        path.with_name(path.name + ".tmp").write_text(text[: len(text) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, text)
r.write_atomically = torn""",
        # dies inside a frame, half of it written
        """
import os, signal, phyff.md.reporters as r
class Torn:
    def __init__(self, file): self.file = file
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, data, count=[0]):
        count[0] += 1
        if count[0] == 41:
            self.file.write(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return self.file.write(data)
before = r.Trajectory.__init__
def init(self, *a, **k):
    before(self, *a, **k)
    self._file = Torn(self._file)
r.Trajectory.__init__ = init""",
        # dies between the checkpoint of a finished stage and run.json
        """
import os, signal, phyff.md.run_system as r
whole = r.write_atomically
def last(path, text):
    whole(path, text)
    if path.name == "state-density.xml" and 'stepCount="400"' in text:
        os.kill(os.getpid(), signal.SIGKILL)
r.write_atomically = last""",
    ],
    ids=["checkpoint", "frame", "stage end"],
)
def test_a_kill_in_the_middle_of_a_write_is_survived(finished, tmp_path, prelude):
    process = start(tmp_path, prelude)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    finish(tmp_path)
    check_outputs(tmp_path)


def test_a_terminate_signal_saves_and_says_how_to_resume(tmp_path):
    process = start(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "npt.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "same command again" in " ".join(errors.decode().split())
    state = RunState.load(tmp_path)
    assert state.status == "interrupted"
    saved = openmm.XmlSerializer.deserialize((tmp_path / f"state-{state.stage}.xml").read_text())
    assert saved.getStepCount() == state.step > 0


def test_other_settings_or_molecules_in_the_same_directory_are_refused(finished):
    for settings, counts, name in (
        (tiny(temperature_K=310.0), COUNTS, "temperature_K"),
        (tiny(), [("WATER", 40), ("NEON", 2)], "counts"),
    ):
        with pytest.raises(SimulationError, match=f"different {name}.*new --out"):
            simulate(StandIn(), counts, DENSITY, settings, finished, platform="CPU")
    with pytest.raises(SimulationError, match="different force field"):
        simulate(StandIn(fragile=3), COUNTS, DENSITY, tiny(), finished, platform="CPU")
    assert RunState.load(finished).status == "finished"


def test_a_finished_run_goes_on_where_more_of_it_is_asked_for(finished, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    longer = tiny().longer(3.0)
    assert {s.name: s.ps for s in longer.stages} == {s.name: s.ps for s in tiny().stages} | {"transport": 1.2}
    assert position(longer, run_dir).stage == "transport"
    state = simulate(StandIn(), COUNTS, DENSITY, longer, run_dir, platform="CPU")
    assert state.status == position(longer, run_dir).stage == "finished"
    assert RunState.load(run_dir).stages[-1]["steps"] == 1200
    for name in ("npt.csv", "settle.csv"):
        assert (run_dir / name).read_bytes() == (finished / name).read_bytes()
    before, after = (np.loadtxt(d / "nvt.csv", delimiter=",", skiprows=1) for d in (finished, run_dir))
    np.testing.assert_array_equal(after[: len(before)], before)
    np.testing.assert_allclose(after[:, 0], 0.02 * np.arange(1, 61), atol=1e-9)
    assert len(MDAnalysis.coordinates.DCD.DCDReader(str(run_dir / "nvt.dcd"))) == 120
    assert state.nvt["replicas"][0]["frames"] == 120
    with pytest.raises(SimulationError, match=r"longer run \(transport 1.2 ps, not 0.4\).*--longer"):
        simulate(StandIn(), COUNTS, DENSITY, tiny(), run_dir, platform="CPU")


def test_thermostats_make_up_for_what_oscillators_drained_in_the_stage_before(finished):
    waters, neons = (number for _, number in COUNTS)
    first, *rows = RunState.load(finished).stages
    assert first["thermostat_K"] == first["temperature_K"]
    for before, row in zip([first, *rows], rows, strict=False):
        drained = row["drude_friction_per_ps"] * waters * (before["mean_drude_temperature_K"] - 1.0)
        per_atom = drained / (row["friction_per_ps"] * (3 * waters + neons))
        assert row["thermostat_K"] == pytest.approx(row["temperature_K"] + per_atom, abs=1e-3)


def test_a_directory_in_use_is_refused(finished):
    with run_state.lock(finished), pytest.raises(SimulationError, match="in use"):
        simulate(StandIn(), COUNTS, DENSITY, tiny(), finished, platform="CPU")


def test_a_molecule_that_explodes_is_named_and_the_last_good_state_stays(tmp_path):
    with pytest.raises(
        SimulationError, match=r"stage warmup failed.*WATER \(residue 8, atom (O1|H2)\).*tries again"
    ):
        simulate(StandIn(fragile=7), COUNTS, DENSITY, tiny(), tmp_path, platform="CPU")
    state = RunState.load(tmp_path)
    assert state.status == "failed" and "residue 8" in state.failure
    good = openmm.XmlSerializer.deserialize((tmp_path / "state-minimise.xml").read_text())
    assert np.isfinite(good.getPositions(asNumpy=True)._value).all()


def test_a_box_too_small_for_the_cutoff_asks_for_more_atoms(tmp_path):
    run_dir = tmp_path / "run"
    with pytest.raises(SimulationError, match="times as many atoms"):
        simulate(StandIn(), COUNTS, DENSITY, tiny(cutoff_nm=0.8), run_dir, platform="CPU")
    assert not run_dir.exists(), "bad input leaves nothing half-written"


def test_an_unknown_platform_lists_those_that_exist(tmp_path):
    with pytest.raises(SimulationError, match="Reference"):
        simulate(StandIn(), COUNTS, DENSITY, tiny(), tmp_path, platform="Quantum")


def test_a_checkpoint_continues_atoms_and_drude_particles_exactly(finished, tmp_path):
    """With the thermostat's noise as good as off, a run restored half-way follows the uninterrupted one."""
    forcefield = StandIn()
    snapshot = openmm.XmlSerializer.deserialize((finished / "state-transport.xml").read_text())
    edge = RunState.load(finished).nvt["box_nm"]
    topology = forcefield.topology(COUNTS, edge)

    def context():
        integrator = openmm.DrudeLangevinIntegrator(1e-10, 1e-6, 1e-10, 1e-6, 0.001)
        return openmm.Context(
            forcefield.create_system(topology, 0.45),
            integrator,
            openmm.Platform.getPlatformByName("Reference"),
        )

    whole, first, second = context(), context(), context()
    for start_context in (whole, first):
        set_state(start_context, snapshot_of(snapshot))
        assert start_context.getState().getStepCount() == 400
    whole.getIntegrator().step(40)
    first.getIntegrator().step(20)
    text = openmm.XmlSerializer.serialize(first.getState(positions=True, velocities=True))
    set_state(second, snapshot_of(openmm.XmlSerializer.deserialize(text)))
    second.getIntegrator().step(20)
    for kind in ("positions", "velocities"):
        get = f"get{kind.capitalize()}"
        a, b = (getattr(c.getState(**{kind: True}), get)(asNumpy=True)._value for c in (whole, second))
        np.testing.assert_allclose(a, b, atol=1e-7)
    assert second.getState().getStepCount() == 440


def test_replicas_write_their_own_files_from_the_settled_state(tmp_path):
    settings = tiny()
    transport = settings.stage("transport")
    extra = (
        replace(
            transport,
            name="shuffle-2",
            log="shuffle-2.csv",
            trajectory=None,
            ps=0.1,
            begins_from="settle",
            fresh_velocities=True,
        ),
        replace(transport, name="transport-2", log="nvt-2.csv", trajectory="nvt-2.dcd", ps=0.1),
    )
    short = tuple(replace(s, ps=0.1) for s in settings.stages)
    state = simulate(
        StandIn(), COUNTS, DENSITY, replace(settings, stages=short + extra), tmp_path, platform="CPU"
    )
    assert [r["trajectory"] for r in state.nvt["replicas"]] == ["nvt.dcd", "nvt-2.dcd"]
    sizes = {(tmp_path / name).stat().st_size for name in ("nvt.dcd", "nvt-2.dcd")}
    assert len(sizes) == 1
    shuffled = state.stages[-2]
    longer = replace(settings, stages=short + extra).longer(2.0)
    assert longer.can_grow == ("transport", "transport-2")
    state = simulate(StandIn(), COUNTS, DENSITY, longer, tmp_path, platform="CPU")
    assert state.stages[-2] == shuffled and shuffled["ms_per_step"] > 0.0, "what lies between stays as it was"
    assert [r["frames"] for r in state.nvt["replicas"]] == [20, 20]
    for name in ("nvt.dcd", "nvt-2.dcd"):
        assert len(MDAnalysis.coordinates.DCD.DCDReader(str(tmp_path / name))) == 20


def test_a_run_outside_the_main_thread_works_without_signal_handlers(tmp_path):
    settings = tiny()
    short = replace(settings, stages=tuple(replace(s, ps=0.06) for s in settings.stages))
    results = []
    thread = threading.Thread(
        target=lambda: results.append(simulate(StandIn(), COUNTS, DENSITY, short, tmp_path, platform="CPU"))
    )
    thread.start()
    thread.join()
    assert results[0].status == "finished"
