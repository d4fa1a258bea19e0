"""Several simulations at once: spread over worker processes or a cluster, with one progress for all of them.

Workers write what a single run says to `progress.log` of their run directory; the progress shown here is read
from the logs of the stages, so it works wherever this machine sees those files.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from phyff import md
from phyff.errors import PhyffError, SimulationError
from phyff.md.driven import STEADY_PS, Driving, series_file
from phyff.md.interfaces import ForceFieldLike
from phyff.md.run_state import lock
from phyff.md.viscosity import AMPLITUDES, shear_flow_of_run, stretch_name
from phyff.parallel import cores, lost_worker, on_cluster, stop_workers, worker_pool
from phyff.properties.viscosity import ABOUT_FILE

PROGRESS_FILE = "progress.log"
KILLED = "the process that ran it, or one beside it, was killed"
LOOK_S, SHOW_S = 1.0, 60.0
"""How often finished simulations are looked for, and how often a line of progress is printed."""
STEADY_SHARE = 0.2
"""Of a flow shorter than five times STEADY_PS, so much does not count."""
HANDOVER_S = 60.0
"""A worker waits so long for one of a killed command, which saves its state, to let go of the folder."""


@dataclass(frozen=True)
class Simulation:
    """The arguments of `phyff.md.simulate`, to be run in another process or on another machine.

    flow_ps: length (ps) of the driven flows that follow, at each acceleration, for the viscosity; 0 for none.
    """

    forcefield: ForceFieldLike
    counts: tuple[tuple[str, int], ...]
    density_g_cm3: float
    settings: md.Settings
    run_dir: Path
    platform: str | None
    about: md.About
    flow_ps: float = 0.0

    def run(self, console: Console | None = None) -> None:
        """Run it, or go on with it, in this process."""
        md.simulate(
            self.forcefield,
            self.counts,
            self.density_g_cm3,
            self.settings,
            self.run_dir,
            self.platform,
            console,
            self.about,
        )
        if self.flow_ps:
            steady = min(STEADY_PS, STEADY_SHARE * self.flow_ps)
            driving = Driving(self.flow_ps, AMPLITUDES, steady, self.platform, console)
            shear_flow_of_run(self.forcefield, self.run_dir, driving)

    def is_finished(self) -> bool:
        """Whether the run and its flows are there; flows that became longer since are still gone on with."""
        flow = not self.flow_ps or (self.run_dir / ABOUT_FILE).is_file()
        return flow and position(self.settings, self.run_dir).stage == "finished"

    def position(self) -> Position:
        """How far it is, its flows included."""
        run = position(self.settings, self.run_dir)
        if not self.flow_ps:
            return run
        whole, last = self.flow_ps * len(AMPLITUDES), self.settings.stages[-1]
        logs = [self.run_dir / series_file(stretch_name(amplitude)) for amplitude in AMPLITUDES]
        ps = sum(min(self.flow_ps, _last_time(log)) for log in logs)
        per_ps = last.steps / last.ps
        flowing = run.stage == "finished" and not self.is_finished()
        return Position(
            "flow" if flowing else run.stage,
            ps / whole if flowing else run.share,
            run.steps + round(per_ps * ps),
            run.total + round(per_ps * whole),
            run.ps + ps,
        )


def room(simulations: int) -> int:
    """How many of so many simulations this machine runs at once: all, but not more than it has cores."""
    return max(1, min(simulations, cores()))


def simulate_side_by_side(
    simulations: Sequence[Simulation], at_once: int, console: Console | None = None
) -> Generator[int]:
    """Run simulations, or go on with them, and give the number of each when it is finished.

    at_once: local workers, which share the cores evenly, at least one each, and GPUs; a cluster takes all.
    A simulation that fails does not stop the others. Ctrl-C saves all, as killing this process does.
    Raises SimulationError at the end when some failed, with the sentences of all.
    """
    console = console or Console(stderr=True)
    finished = [one.is_finished() for one in simulations]
    alone = min(at_once, finished.count(False)) <= 1 and not on_cluster()
    failures: list[str] = []
    for number, simulation in enumerate(simulations):
        if alone or finished[number]:
            try:
                simulation.run(console)
            except PhyffError as problem:
                if len(simulations) == 1:
                    raise
                failures.append(f"{simulation.run_dir.name}: {problem}")
            else:
                yield number
    waiting = [number for number, done in enumerate(finished) if not (alone or done)]
    if waiting:
        with closing(_spread([simulations[number] for number in waiting], at_once, console)) as ended:
            for number, failure in ended:
                if failure is None:
                    yield waiting[number]
                else:
                    failures.append(failure)
    if failures:
        told = "; ".join(failure.rstrip(".") for failure in failures)
        rest = len(simulations) - len(failures)
        raise SimulationError(
            f"{told}; {rest} of {len(simulations)} are finished, run the same command to go on."
        )


def _spread(
    simulations: Sequence[Simulation], at_once: int, console: Console
) -> Generator[tuple[int, str | None]]:
    """Number of each simulation as it ends, and the sentence of its failure."""
    at_once = max(1, min(at_once, len(simulations)))
    with (
        _Watch(simulations, console) as watch,
        worker_pool(at_once, max(1, cores() // at_once)) as pool,
    ):
        try:
            running = {pool.submit(_work, one): number for number, one in enumerate(simulations)}
            while running:
                for future in wait(running, LOOK_S, FIRST_COMPLETED).done:
                    number = running.pop(future)
                    error, name = future.exception(), simulations[number].run_dir.name
                    if error is None:
                        watch.say(f"{name}: finished")
                        yield number, None
                    elif isinstance(error, PhyffError) or lost_worker(error):
                        failure = f"{name}: {error if isinstance(error, PhyffError) else KILLED}"
                        watch.say(failure)
                        yield number, failure
                    else:
                        raise error
                watch.show()
        except BaseException as stopped:
            stop_workers(pool)
            if isinstance(stopped, KeyboardInterrupt):
                watch.say("Interrupted; the simulations save their states. Run the same command to go on.")
            raise


def _work(simulation: Simulation) -> None:
    """In the worker: wait for the folder, then simulate with a log file in place of the terminal."""
    _wait_until_free(simulation.run_dir)
    simulation.run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with (simulation.run_dir / PROGRESS_FILE).open("a", encoding="utf-8") as file:
            simulation.run(Console(file=file, width=110))
    except KeyboardInterrupt:  # told to stop, and all is saved: an idle worker would wait for work for ever
        os._exit(1)


def _wait_until_free(folder: Path) -> None:
    deadline = time.monotonic() + HANDOVER_S
    while time.monotonic() < deadline:
        try:
            with lock(folder):
                return  # `phyff.md.simulate` takes it at once
        except SimulationError:
            time.sleep(0.2)


@dataclass(frozen=True)
class Position:
    """How far a simulation is: stage, its share done, steps done and to do in all, and the ps they make."""

    stage: str
    share: float
    steps: int
    total: int
    ps: float


def position(settings: md.Settings, run_dir: Path) -> Position:
    """How far the simulation in a run directory is, from run.json and the log of its stage."""
    total = sum(stage.steps for stage in settings.stages)
    try:
        run = json.loads((run_dir / "run.json").read_text())
        name, lengths = str(run["stage"]), {row["name"]: row["ps"] for row in run["stages"]}
    except (OSError, ValueError, KeyError):
        name, lengths = "pack", {}
    if name == "finished":  # unless it has been asked to go on
        name = next((one.name for one in settings.stages if one.ps > lengths.get(one.name, 0.0)), name)
    names = [stage.name for stage in settings.stages]
    if name == "finished":
        return Position(name, 1.0, total, total, sum(stage.ps for stage in settings.stages))
    if name not in names:
        return Position("pack", 0.0, 0, total, 0.0)
    before, stage = settings.stages[: names.index(name)], settings.stages[names.index(name)]
    ps = min(stage.ps, _last_time(run_dir / stage.log))
    return Position(
        name,
        ps / stage.ps,
        sum(one.steps for one in before) + round(stage.steps * ps / stage.ps),
        total,
        sum(one.ps for one in before) + ps,
    )


def _last_time(path: Path) -> float:
    """The time (ps) of the last whole row of a log; 0 without one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 1000))
            rows = file.read().split(b"\n")[:-1]
        return float(rows[-1].split(b",")[0])
    except (OSError, ValueError, IndexError):
        return 0.0


class _Watch:
    """A line of progress for all simulations: rewritten in place on a terminal, now and then elsewhere."""

    def __init__(self, simulations: Sequence[Simulation], console: Console) -> None:
        self._simulations, self._console = simulations, console
        self._began, self._shown = time.monotonic(), time.monotonic()
        self._first = self._positions()
        self._status = console.status("starting") if console.is_terminal else None

    def __enter__(self) -> _Watch:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def show(self) -> None:
        now = time.monotonic()
        if self._status is not None:
            self._status.update(self._line(now))
        elif now - self._shown > SHOW_S:
            self._shown = now
            self.say(self._line(now))

    def _positions(self) -> list[Position]:
        return [one.position() for one in self._simulations]

    def _line(self, now: float) -> str:
        positions = self._positions()
        parts = [f"{sum(p.stage == 'finished' for p in positions)} of {len(positions)} finished"]
        parts += [
            f"{one.run_dir.name} {p.stage} {100 * p.share:.0f} %"
            for one, p in zip(self._simulations, positions, strict=True)
            if p.stage not in ("pack", "finished")
        ]
        steps = sum(p.steps - q.steps for p, q in zip(positions, self._first, strict=True))
        ps = sum(p.ps - q.ps for p, q in zip(positions, self._first, strict=True))
        if steps > 0:
            left = sum(p.total - p.steps for p in positions) * (now - self._began) / steps
            parts.append(f"{ps * 86.4 / (now - self._began):.2g} ns/day together")
            parts.append(f"about {left / 60:.0f} min left")
        return ", ".join(parts)
