"""One executor for every quantum job: local worker processes, resumable, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
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
from phyff.qm.store import RecordStore

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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
    """

    kind: str
    spec: dict[str, Any]
    function: Callable[[dict[str, Any]], dict[str, Any]]
    name: str


def run_jobs(
    jobs: Sequence[Job], store: RecordStore, workers: int = 2, label: str = "quantum chemistry"
) -> list[dict[str, Any]]:
    """Records of `jobs`, in order: read from the store where they exist, computed and stored where not.

    A finished record is on disk before the next job of that worker starts, so a killed run loses only jobs
    in flight; Ctrl-C stops the workers and leaves the store whole. A stage of a single job gets all cores as
    threads.

    Raises:
        JobError: some jobs failed; the others were finished and stored first.
    """
    records: list[dict[str, Any] | None] = [store.get(job.kind, job.spec) for job in jobs]
    missing = [i for i, record in enumerate(records) if record is None]
    if not missing:
        return [record for record in records if record is not None]
    console = Console(stderr=True)
    console.print(f"{label}: {len(missing)} of {len(jobs)} jobs to run, records in {store.root}")
    workers = max(1, workers)
    processes = min(workers, len(missing))
    failures: list[str] = []
    with (
        _progress_bar(console, label, len(missing)) as advance,
        _pool(processes, max(1, workers // processes)) as pool,
    ):
        running: dict[Future[tuple[dict[str, Any], float]], int] = {}
        for i in missing:
            running[pool.submit(_timed, jobs[i].function, jobs[i].spec)] = i
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    i = running.pop(future)
                    try:
                        record, seconds = future.result()
                    except Exception as error:
                        failures.append(f"{jobs[i].name}: {_reason(error)}")
                        advance(f"{jobs[i].name} FAILED")
                        continue
                    record["wall_s"] = round(seconds, 1)
                    store.put(jobs[i].kind, jobs[i].spec, record)
                    records[i] = record
                    advance(jobs[i].name)
        except KeyboardInterrupt:
            console.print(f"{label}: stopped; finished records are kept, run again to go on")
            _abandon(pool)
            raise
    if failures:
        raise JobError(f"{len(failures)} of {len(missing)} jobs of '{label}' failed: " + "; ".join(failures))
    return [record for record in records if record is not None]


def _timed(
    function: Callable[[dict[str, Any]], dict[str, Any]], spec: dict[str, Any]
) -> tuple[dict[str, Any], float]:
    start = time.perf_counter()
    return dict(function(spec)), time.perf_counter() - start


@contextmanager
def _pool(processes: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Spawned workers that see their thread count before any numerical library is imported."""
    saved = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _abandon(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.terminate()


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
    lines = traceback.format_exception_only(error)
    return lines[-1].strip()
