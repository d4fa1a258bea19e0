"""Kill -9 a real `phyff run` at three random moments, resume it by the same command, and check what it wrote.

    python benchmarks/kill_and_resume.py OUT [SECONDS]

SECONDS: kills fall at random within this time of each start (default 150). Prints what it checked; exit code
1 when a series has a gap or a repeat. Takes as long as a quick run, and what the kills lost.
"""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from MDAnalysis.lib.formats.libdcd import DCDFile

KILLS = 3
COMMAND = ["phyff", "run", "recipes/lp30.yaml", "--preset", "quick", "--out"]


def main() -> int:
    out = Path(sys.argv[1])
    longest = float(sys.argv[2]) if len(sys.argv) > 2 else 150.0
    command = [str(Path(sys.executable).parent / COMMAND[0]), *COMMAND[1:], str(out)]
    for number in range(KILLS):
        process = subprocess.Popen(command)
        time.sleep(random.uniform(20.0, longest))
        if process.poll() is not None:
            print(f"kill {number + 1}: the run had already ended; give a shorter time", file=sys.stderr)
            return 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = json.loads((out / "run.json").read_text()) if (out / "run.json").is_file() else {}
        print(
            f"kill {number + 1}: stage {state.get('stage', 'set-up')}, checkpoint at step {state.get('step')}"
        )
    subprocess.run(command, check=True)
    return 0 if _whole(out) else 1


def _whole(out: Path) -> bool:
    state = json.loads((out / "run.json").read_text())
    whole = state["status"] == "finished" and (out / "results.json").is_file()
    for stage in state["stages"]:
        times = np.genfromtxt(out / stage["log"], delimiter=",", names=True)["time_ps"]
        steps = np.diff(times)
        good = np.allclose(steps, steps[0]) and np.isclose(times[-1], stage["ps"])
        print(f"{stage['log']}: {len(times)} rows to {times[-1]:g} of {stage['ps']:g} ps, {_word(good)}")
        whole &= good
    for replica in state["nvt"]["replicas"]:
        with DCDFile(str(out / replica["trajectory"])) as frames:
            positions = frames.readframes().xyz
        moved = np.abs(np.diff(positions, axis=0)).max(axis=(1, 2))
        good = len(positions) == replica["frames"] and bool(moved.min() > 0)
        good &= bool(moved.max() < 3 * np.median(moved))
        print(
            f"{replica['trajectory']}: {len(positions)} frames, largest move between neighbours "
            f"{moved.min():.2f} to {moved.max():.2f} A, {_word(good)}"
        )
        whole &= good
    return whole


def _word(good: bool) -> str:
    return "no gap or repeat" if good else "BROKEN"


if __name__ == "__main__":
    sys.exit(main())
