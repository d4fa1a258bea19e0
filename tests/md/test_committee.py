"""The spread of a committee is logged and its frames are saved, without gap or repeat however a run stops."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from standin import COUNTS, DENSITY, StandIn, tiny

from phyff.errors import SimulationError
from phyff.md import CommitteeCheck, RunState, simulate
from phyff.md.committee import CommitteeLog
from phyff.properties.trajectory import open_dcd

CHECK = CommitteeCheck(threshold=60.0, interval_ps=0.02, frames=5)
MOLECULES = np.repeat(np.arange(38), [3] * 36 + [1] * 2)
STAGES = {
    "density": ("npt-spread.csv", "npt-uncertain.dcd"),
    "transport": ("nvt-spread.csv", "nvt-uncertain.dcd"),
}


def spread(xyz: np.ndarray, box: np.ndarray) -> tuple[float, np.ndarray]:
    """Some smooth function of positions; above the threshold in about half of the frames."""
    strength = 50.0 * (1.0 + np.sin(600.0 * xyz[1, 0]))
    return float(box[0, 0]), strength * np.abs(np.sin(4.0 * xyz.sum(1)))


class Killed(Exception):
    """Stands for SIGKILL: nothing is saved on the way out."""


class Watched(StandIn):
    """With a committee that does `stop` at its n-th check."""

    def __init__(self, n: int = 0, stop=None) -> None:
        super().__init__()
        self.left, self.stop = n, stop

    def committee(self, topology):
        def checked(xyz: np.ndarray, box: np.ndarray) -> tuple[float, np.ndarray]:
            self.left -= 1
            if self.left == 0:
                self.stop()
            return spread(xyz, box)

        return checked


def kill() -> None:
    raise Killed


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def rows_of(path: Path) -> tuple[np.ndarray, list[str]]:
    header, *lines = path.read_text().splitlines()
    assert header == "time_ps,energy_spread_kJ_mol,force_spread_kJ_mol_nm,uncertain"
    rows = [line.split(",") for line in lines]
    return np.array([[float(x) for x in row[:3]] for row in rows]), [row[3] for row in rows]


def check_files(run_dir: Path) -> None:
    """Constant spacing; a frame for every row that names molecules, and it is the frame of that row."""
    saved_frames = 0
    for rows, frames in STAGES.values():
        numbers, told = rows_of(run_dir / rows)
        np.testing.assert_allclose(numbers[:, 0], 0.02 * np.arange(1, 21), atol=1e-9)
        saved = [k for k, one in enumerate(told) if one]
        above = numbers[:, 2] > CHECK.threshold
        assert 0 < above.sum() < 20
        first_of_parts = {part: k for k, part in reversed([(k, k // 4) for k in range(20) if above[k]])}
        assert saved == sorted(first_of_parts.values())
        with open_dcd(run_dir / frames) as reader:
            assert reader.n_frames == len(saved)
            for k, frame in zip(saved, reader, strict=True):
                edge = 0.1 * float(frame.dimensions[0])
                _, forces = spread(0.1 * frame.positions.astype(float), np.eye(3) * edge)
                worst = [forces[MOLECULES == m].max() for m in range(38)]
                assert numbers[k, 1] == pytest.approx(edge / 38, rel=1e-4)
                assert numbers[k, 2] == pytest.approx(max(worst), abs=0.02)
                pairs = [one.split(":") for one in told[k].split()]
                # The frame is rounded, which moves a molecule at the threshold to either side of it.
                clear = {m for m in range(38) if abs(worst[m] - CHECK.threshold) > 0.05}
                named = {int(m) - 1 for m, _ in pairs}
                assert named & clear == {m for m in clear if worst[m] > CHECK.threshold}
                spreads = [float(value) for _, value in pairs]
                assert spreads == sorted(spreads, reverse=True)
                assert spreads[0] == pytest.approx(numbers[k, 2], abs=0.06)
        saved_frames += len(saved)
    assert saved_frames > 2


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("watched")
    simulate(Watched(), COUNTS, DENSITY, tiny(committee=CHECK), run_dir, platform="CPU")
    return run_dir


def test_the_stages_that_count_are_watched_and_no_other(watched: Path) -> None:
    check_files(watched)
    assert sorted(path.name for path in watched.glob("*-spread.csv")) == ["npt-spread.csv", "nvt-spread.csv"]
    assert RunState.load(watched).committee == {
        "threshold_kJ_mol_nm": 60.0,
        "stages": [{"stage": s, "log": rows, "frames": frames} for s, (rows, frames) in STAGES.items()],
    }


@pytest.mark.parametrize("moments", [(7, 12), (15, 14)], ids=["in one stage", "in both"])
@pytest.mark.parametrize("stop", [kill, terminate])
def test_a_stopped_run_goes_on_without_gap_or_repeat(tmp_path: Path, stop, moments: tuple[int, ...]) -> None:
    for n in moments:
        with pytest.raises((Killed, KeyboardInterrupt)):
            simulate(Watched(n, stop), COUNTS, DENSITY, tiny(committee=CHECK), tmp_path, platform="CPU")
    simulate(Watched(), COUNTS, DENSITY, tiny(committee=CHECK), tmp_path, platform="CPU")
    check_files(tmp_path)


def test_another_threshold_in_the_same_directory_is_refused(watched: Path) -> None:
    settings = tiny(committee=replace(CHECK, threshold=40.0))
    with pytest.raises(SimulationError, match="different committee"):
        simulate(Watched(), COUNTS, DENSITY, settings, watched, platform="CPU")


def test_saved_frames_are_spread_over_the_stage(tmp_path: Path) -> None:
    settings = tiny(committee=CHECK)
    stage, molecule = settings.stage("density"), np.array([0, 0, 1])
    values = iter([100.0] * 7 + [10.0] * 4 + [95.0] + [10.0] * 8)
    log = CommitteeLog(
        tmp_path,
        stage,
        settings,
        CHECK,
        0,
        molecule,
        lambda xyz, box: (3.0, np.array([1.0, 2.0, next(values)])),
    )
    for number in range(1, 21):
        log.check(20 * number, np.zeros((3, 3)), 1.0)
    log.close()
    numbers, told = rows_of(tmp_path / "npt-spread.csv")
    assert [k for k, one in enumerate(told) if one] == [0, 4, 11]
    assert told[11] == "2:95.0"
    assert set(numbers[:, 1]) == {1.5}
