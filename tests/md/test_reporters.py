import MDAnalysis
import numpy as np
import pytest

from phyff.errors import SimulationError
from phyff.files import write_atomically
from phyff.md.reporters import ThermoLog, Trajectory


def frames(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 5, 3))


def test_mdanalysis_reads_the_trajectory_with_times_and_box(tmp_path):
    path, xyz = tmp_path / "nvt.dcd", frames(4)
    trajectory = Trajectory(path, 5, timestep_fs=1.0, interval_steps=50, frames=0)
    for frame in xyz:
        trajectory.write(frame, 1.5)
    trajectory.close()
    universe = MDAnalysis.Universe.empty(5, trajectory=True)
    universe.load_new(str(path))
    assert len(universe.trajectory) == 4
    for k, step in enumerate(universe.trajectory):
        np.testing.assert_allclose(step.positions, 10 * xyz[k], atol=1e-5)
        np.testing.assert_allclose(step.dimensions, [15, 15, 15, 90, 90, 90])
        assert step.time == pytest.approx(0.05 * (k + 1), rel=1e-5)


def test_a_trajectory_with_a_torn_frame_and_too_many_frames_is_cut_to_the_checkpoint(tmp_path):
    path, xyz = tmp_path / "nvt.dcd", frames(6)
    trajectory = Trajectory(path, 5, 1.0, 50, 0)
    for frame in xyz[:5]:
        trajectory.write(frame, 1.5)
    trajectory.close()
    with path.open("ab") as file:
        file.write(b"torn")
    trajectory = Trajectory(path, 5, 1.0, 50, 3)
    trajectory.write(xyz[5], 1.5)
    trajectory.close()
    universe = MDAnalysis.Universe.empty(5, trajectory=True)
    universe.load_new(str(path))
    got = [step.positions.copy() for step in universe.trajectory]
    np.testing.assert_allclose(got, 10 * xyz[[0, 1, 2, 5]], atol=1e-5)


def test_a_log_with_a_torn_line_is_cut_to_the_checkpoint(tmp_path):
    path = tmp_path / "npt.csv"
    log = ThermoLog(path, 0)
    for k in range(4):
        log.write(0.1 * (k + 1), 1.0, 8.0, -5.0, 300.0, 1.0)
    log.close()
    with path.open("ab") as file:
        file.write(b"0.5000,1.0")
    log = ThermoLog(path, 2)
    log.write(0.3, 2.0, 4.0, -5.0, 300.0, 1.0)
    log.close()
    assert np.loadtxt(path, delimiter=",", skiprows=1)[:, 0].tolist() == [0.1, 0.2, 0.3]


def test_files_shorter_than_the_checkpoint_says_are_an_error(tmp_path):
    (tmp_path / "npt.csv").write_text("time_ps\n0.1000,1")
    with pytest.raises(SimulationError, match="fewer rows"):
        ThermoLog(tmp_path / "npt.csv", 1)
    with pytest.raises(SimulationError, match="fewer frames"):
        Trajectory(tmp_path / "nvt.dcd", 5, 1.0, 50, 2)


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_behind(tmp_path):
    write_atomically(tmp_path / "run.json", "old")
    write_atomically(tmp_path / "run.json", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_text() == "new"
