"""The executor: order, resuming, failures."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phyff.qm.executor import Job, JobError, run_jobs
from phyff.qm.store import RecordStore, read_record


def square(spec: dict[str, Any]) -> dict[str, Any]:
    """Leaves a trace of each time it runs."""
    with open(spec["trace"], "a") as file:
        file.write(f"{spec['value']}\n")
    if spec["value"] < 0:
        raise ValueError("negative")
    return {"square": spec["value"] ** 2}


def jobs_for(values: list[int], trace: Path) -> list[Job]:
    return [
        Job("square", {"value": value, "trace": str(trace)}, square, f"square of {value}") for value in values
    ]


def test_records_come_in_the_order_of_the_jobs_and_finished_ones_are_not_run_again(tmp_path):
    store, trace = RecordStore(tmp_path / "store"), tmp_path / "trace"
    assert [r["square"] for r in run_jobs(jobs_for([3, 1, 2], trace), store, workers=2)] == [9, 1, 4]
    assert [r["square"] for r in run_jobs(jobs_for([2, 3, 1], trace), store, workers=2)] == [4, 9, 1]
    assert sorted(trace.read_text().split()) == ["1", "2", "3"]


def test_a_failing_job_is_named_and_the_others_are_kept(tmp_path):
    store, trace = RecordStore(tmp_path / "store"), tmp_path / "trace"
    jobs = jobs_for([-1, 4], trace)
    with pytest.raises(JobError, match="square of -1: ValueError: negative"):
        run_jobs(jobs, store, workers=1)
    record = store.get("square", jobs[1].spec)
    assert record is not None and record["square"] == 16 and record["wall_s"] >= 0


def kill_once(spec: dict[str, Any]) -> dict[str, Any]:
    """Kills its worker the first time."""
    if spec["value"] == 2 and not os.path.exists(spec["trace"]):
        open(spec["trace"], "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": spec["value"] ** 2}


def test_jobs_of_a_killed_worker_are_given_to_another(tmp_path):
    store, trace = RecordStore(tmp_path / "store"), tmp_path / "trace"
    jobs = [Job("square", {"value": v, "trace": str(trace)}, kill_once, f"square of {v}") for v in (1, 2, 3)]
    assert [record["square"] for record in run_jobs(jobs, store, workers=2)] == [1, 4, 9]
    assert trace.exists()


def cube(spec: dict[str, Any]) -> dict[str, Any]:
    return {"cube": spec["value"] * spec["square"]}


def test_what_a_job_is_given_reaches_its_function_and_not_its_key(tmp_path):
    store = RecordStore(tmp_path)
    job = Job("cube", {"value": 3}, cube, "cube of 3", given={"square": 9})
    assert run_jobs([job], store, workers=1)[0]["cube"] == 27
    (path,) = tmp_path.rglob("*.json")
    assert read_record(path)["spec"] == {"value": 3}
    assert run_jobs([replace(job, given={"square": 9.0000001})], store, workers=1)[0]["cube"] == 27
