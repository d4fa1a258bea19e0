"""One executor for every quantum job: workers here or on a cluster, resumable, with a progress bar."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from phyff.errors import PhyffError
from phyff.parallel import LOST_WORKERS, lost_worker, stop_workers, worker_pool
from phyff.qm.store import RecordStore


class JobError(PhyffError):
    """Quantum jobs failed; the message names them and their reasons."""


@dataclass(frozen=True)
class Job:
    """One quantum calculation.

    Attributes:
        kind: folder of the store, and part of the key.
        spec: everything the result depends on, in plain JSON types.
        function: module-level function from spec to record (it runs in another process).
        name: what the user sees when it runs or fails.
        given: what the function gets besides, merged into the specification, that must not enter the key:
            numbers computed from records that `spec` names, whose last digits differ between processors, and
            choices that a stored record fixes once and for all.
    """

    kind: str
    spec: dict[str, Any]
    function: Callable[[dict[str, Any]], dict[str, Any]]
    name: str
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """What the function gets."""
        return {**self.spec, **self.given}


def run_jobs(
    jobs: Sequence[Job], store: RecordStore, workers: int = 2, label: str = "quantum chemistry"
) -> list[dict[str, Any]]:
    """Records of `jobs`, in order: read from the store where they exist, computed and stored where not.

    A finished record is on disk before the next job of that worker starts, so a killed run loses only jobs
    in flight; Ctrl-C stops the workers and leaves the store whole. Jobs whose worker died are given to
    another. A worker has one thread: a gradient of TFSI- takes twice as long with two threads as with one.

    Raises:
        JobError: some jobs failed; the others were finished and stored first.
    """
    records: list[dict[str, Any] | None] = [store.get(job.kind, job.spec) for job in jobs]
    missing = [i for i, record in enumerate(records) if record is None]
    if not missing:
        return [record for record in records if record is not None]
    console = Console(stderr=True)
    console.print(f"{label}: {len(missing)} of {len(jobs)} jobs to run, records in {store.root}")
    failures: list[str] = []
    waiting = missing
    try:
        with _progress_bar(console, label, len(missing)) as advance:
            for attempt in range(1 + LOST_WORKERS):
                lost = []
                with closing(_outcomes([jobs[i] for i in waiting], workers)) as outcomes:
                    for number, outcome in outcomes:
                        i = waiting[number]
                        if isinstance(outcome, BrokenProcessPool) and attempt < LOST_WORKERS:
                            lost.append(i)
                        elif isinstance(outcome, Exception):
                            failures.append(f"{jobs[i].name}: {_reason(outcome)}")
                            advance(f"{jobs[i].name} FAILED")
                        else:
                            store.put(jobs[i].kind, jobs[i].spec, outcome)
                            records[i] = outcome
                            advance(jobs[i].name)
                if not lost:
                    break
                console.print(f"{label}: a worker died; its job and those behind it are started again")
                waiting = sorted(lost)
    except KeyboardInterrupt:
        console.print(f"{label}: stopped; finished records are kept, run again to go on")
        raise
    if failures:
        raise JobError(f"{len(failures)} of {len(missing)} jobs of '{label}' failed: " + "; ".join(failures))
    return [record for record in records if record is not None]


def _outcomes(jobs: Sequence[Job], workers: int) -> Generator[tuple[int, dict[str, Any] | Exception]]:
    """Number and record, or what went wrong, of every job as it ends."""
    with worker_pool(min(max(1, workers), len(jobs)), 1) as pool:
        try:
            running = {pool.submit(_timed, job.function, job.content): i for i, job in enumerate(jobs)}
            for future in as_completed(running):
                error = future.exception()
                if error is None:
                    yield running[future], future.result()
                elif isinstance(error, Exception):
                    yield running[future], error
                else:
                    raise error
        except BaseException:  # Ctrl-C, or a store that cannot be written
            stop_workers(pool)
            raise


def _timed(function: Callable[[dict[str, Any]], dict[str, Any]], spec: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    return {**function(spec), "wall_s": round(time.perf_counter() - start, 1)}


@contextmanager
def _progress_bar(console: Console, label: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar with time left on a terminal, one line a job elsewhere."""
    if not console.is_terminal:
        done, start = 0, time.perf_counter()

        def report(name: str) -> None:
            nonlocal done
            done += 1
            left = (time.perf_counter() - start) / done * (total - done)
            console.print(f"{label}: {done}/{total} {name}, about {left / 60:.1f} min left", soft_wrap=True)

        yield report
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, last="")
        yield lambda name: progress.update(task, advance=1, last=name)


def _reason(error: Exception) -> str:
    if lost_worker(error):
        return (
            "its worker was killed again and again, perhaps for want of memory (try fewer workers), or, when "
            "a script called this, since workers read that script too (put its calls under "
            "if __name__ == '__main__':)"
        )
    return traceback.format_exception_only(error)[-1].strip()
