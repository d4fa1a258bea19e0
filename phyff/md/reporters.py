"""Files that a run writes, all of them safe against a kill at any moment, and the progress display.

A log or trajectory is an append-only file of fixed-size or line records. A checkpoint names a step, the
step fixes how many records belong to it, and a restart cuts the file back to exactly that many.
"""

import os
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from phyff.errors import SimulationError

LOG_COLUMNS = "time_ps,density_g_cm3,volume_nm3,potential_kJ_mol,temperature_K,drude_temperature_K"
AKMA_PS = 0.04888821
"""One AKMA time unit in ps, the DCD format's unit of time."""


class RowLog:
    """CSV that grows row by row, opened with exactly `rows` rows kept.

    Raises SimulationError when the file holds fewer rows than the checkpoint says were written.
    """

    def __init__(self, path: Path, columns: str, rows: int) -> None:
        if rows == 0:
            path.write_text(columns + "\n")
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if len(lines) < rows + 1 or not lines[rows].endswith(b"\n"):
            raise SimulationError(
                f"{path} holds fewer rows than its checkpoint says ({rows}); "
                "restore it or start again with a new --out."
            )
        self._file: BinaryIO = path.open("r+b", buffering=0)
        self._file.truncate(sum(map(len, lines[: rows + 1])))
        self._file.seek(0, os.SEEK_END)

    def append(self, row: str) -> None:
        """Append one row."""
        self._file.write(row.encode() + b"\n")

    def sync(self) -> None:
        """Force the rows to disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ThermoLog(RowLog):
    """RowLog of thermodynamic rows (LOG_COLUMNS)."""

    def __init__(self, path: Path, rows: int) -> None:
        super().__init__(path, LOG_COLUMNS, rows)

    def write(
        self,
        time_ps: float,
        density: float,
        volume: float,
        potential: float,
        temperature: float,
        drude_temperature: float,
    ) -> None:
        """Append one row: ps, g/cm3, nm3, kJ/mol, K, K."""
        row = f"{time_ps:.4f},{density:.6f},{volume:.6f},{potential:.4f}"
        self.append(row + f",{temperature:.3f},{drude_temperature:.4f}")


class Trajectory:
    """DCD file (CHARMM flavour, little endian, with unit cell) of n_atoms, cut to `frames` on opening.

    Frame k (from 0) is the configuration at (k + 1) interval_steps, or, where only some of these are written,
    the k-th of them. Header and frames have fixed sizes.
    """

    def __init__(
        self, path: Path, n_atoms: int, timestep_fs: float, interval_steps: int, frames: int
    ) -> None:
        self._n_atoms, self._interval, self._dt = n_atoms, interval_steps, timestep_fs / 1000.0
        self._frame_bytes = 56 + 3 * (8 + 4 * n_atoms)
        self.frames = frames
        header = self._header()
        size = len(header) + frames * self._frame_bytes
        if frames == 0:
            path.write_bytes(header)
        if not path.exists() or path.stat().st_size < size:
            raise SimulationError(
                f"{path} holds fewer frames than its checkpoint says ({frames}); "
                "restore it or start again with a new --out."
            )
        self._file: BinaryIO = path.open("r+b", buffering=0)
        self._file.truncate(size)
        self._write_header()

    def write(self, xyz_nm: NDArray[np.float64], edge_nm: float) -> None:
        """Append one frame of (n_atoms, 3) positions in a cube."""
        edge = 10.0 * edge_nm
        length = struct.pack("<i", 4 * self._n_atoms)
        axes = (10.0 * xyz_nm).astype("<f4").T
        frame = struct.pack("<i6di", 48, edge, 0.0, edge, 0.0, 0.0, edge, 48)
        frame += b"".join(length + np.ascontiguousarray(axis).tobytes() + length for axis in axes)
        self._file.seek(0, os.SEEK_END)
        self._file.write(frame)
        self.frames += 1
        self._write_header()

    def sync(self) -> None:
        """Force the frames to disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write_header(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())

    def _header(self) -> bytes:
        counts = (self.frames, self._interval, self._interval, self.frames * self._interval, 0, 0, 0, 0, 0)
        header = struct.pack("<i4s9if", 84, b"CORD", *counts, self._dt / AKMA_PS)
        header += struct.pack("<10i", 1, 0, 0, 0, 0, 0, 0, 0, 0, 24) + struct.pack("<3i", 84, 164, 2)
        header += struct.pack("<80s80s", b"Created by PhyFF: real atoms, unwrapped", b"")
        return header + struct.pack("<4i", 164, 4, self._n_atoms, 4)


class StageProgress:
    """Progress of a whole run: one bar for the stage at hand, with the time left for it and for the run.

    On a terminal it draws a live bar; elsewhere it prints a line every `every_s` seconds.
    """

    def __init__(self, console: Console, total_steps: int, done_steps: int, every_s: float = 60.0) -> None:
        self._console, self._total, self._done = console, total_steps, done_steps
        self._every, self._printed = every_s, 0.0
        self._rate = 0.0
        self._stage, self._steps, self._step, self._timestep = "", 0, 0, 1.0
        self._bar = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", note="", visible=False)

    def __enter__(self) -> "StageProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, highlight=False, soft_wrap=True)

    def begin(self, stage: str, steps: int, step: int, timestep_fs: float) -> None:
        """Start (or continue, at `step`) a stage."""
        self._stage, self._steps, self._step, self._timestep = stage, steps, step, timestep_fs
        self._done += step
        self._rate, self._clock, self._origin = 0.0, time.monotonic(), step
        self._bar.reset(self._task, total=steps, completed=step, description=stage, visible=True, note="")
        self._printed = time.monotonic()

    def advance(self, step: int) -> None:
        """The stage has reached this step."""
        self._done += step - self._step
        self._step = step
        now = time.monotonic()
        if now > self._clock and step > self._origin:
            self._rate = (now - self._clock) / (step - self._origin)
        self._bar.update(self._task, completed=step, note=self._note())
        if not self._console.is_terminal and now - self._printed > self._every:
            self._printed = now
            self.say(f"{self._stage}: {100 * step / self._steps:.0f} %, {self._note()}")

    @property
    def ms_per_step(self) -> float:
        """Wall time of a step in this stage, in ms; 0 before the first step."""
        return 1000.0 * self._rate

    def _note(self) -> str:
        if self._rate == 0.0:
            return ""
        per_day = 86400.0 / self._rate * self._timestep * 1e-6
        stage, run = self._rate * (self._steps - self._step), self._rate * (self._total - self._done)
        speed = f"{1000 * self._rate:.1f} ms/step, {per_day:.2f} ns/day"
        return f"{speed}, {_clock(stage)} left, {_clock(run)} for the run"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d}"
