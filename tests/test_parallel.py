"""Work goes to a Parsl cluster when told so, and survives the loss of a worker there."""

import io
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from phyff import parallel
from phyff.cli import app
from phyff.md import RunState
from phyff.qm.executor import Job, JobError, run_jobs
from phyff.qm.store import RecordStore
from phyff.side_by_side import simulate_side_by_side
from tests.gpu_of_worker import seen_gpu
from tests.test_side_by_side import KilledOnce, short, simulation

CONFIG = """
import parsl
from parsl.providers import LocalProvider

config = parsl.Config(
    executors=[
        parsl.HighThroughputExecutor(
            label="here",
            address="127.0.0.1",
            encrypted=False,
            heartbeat_period=1,
            heartbeat_threshold=20,
            max_workers_per_node=2,
            provider=LocalProvider(
                init_blocks=1, max_blocks=1, worker_init="export OMP_NUM_THREADS=1 OPENMM_CPU_THREADS=1"
            ),
        )
    ],
    run_dir={run_dir!r},
    strategy_period=0.2,
)
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A Parsl configuration of two workers on this machine; they are gone afterwards."""
    pytest.importorskip("parsl", reason="Parsl is not installed; pip install 'phyff[cluster]'")
    path = tmp_path / "cluster.py"
    path.write_text(CONFIG.format(run_dir=str(tmp_path / "runinfo")))
    monkeypatch.setenv(parallel.PARSL_VARIABLE, str(path))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent / "md")])
    )
    yield path
    parallel.close_cluster()


def careful(spec: dict[str, Any]) -> dict[str, Any]:
    """Leaves a trace of each time it ends; one value kills its worker the first time, one is bad."""
    killed = Path(spec["folder"], "killed")
    if spec["value"] == 3 and not killed.exists():
        killed.touch()
        time.sleep(0.5)  # a result still in the worker's queue dies with it, and Parsl waits for it for ever
        os.kill(os.getpid(), signal.SIGKILL)
    with open(Path(spec["folder"], "trace"), "a") as file:
        file.write(f"{spec['value']}\n")
    if spec["value"] < 0:
        raise ValueError("negative")
    return {"square": spec["value"] ** 2, "threads": os.environ["OMP_NUM_THREADS"]}


def careful_jobs(values: list[int], folder: Path) -> list[Job]:
    return [Job("square", {"value": v, "folder": str(folder)}, careful, f"square of {v}") for v in values]


def test_jobs_and_simulations_go_on_when_a_worker_of_the_cluster_is_killed(cluster, tmp_path):
    store = RecordStore(tmp_path / "store")
    records = run_jobs(careful_jobs([1, 2, 3, 4, 5, 6], tmp_path), store, workers=1)
    assert [record["square"] for record in records] == [1, 4, 9, 16, 25, 36]
    assert {record["threads"] for record in records} == {"1"}
    assert (tmp_path / "killed").exists()
    with pytest.raises(JobError, match="1 of 2 jobs .* square of -1: ValueError: negative"):
        run_jobs(careful_jobs([-1, 7, 6], tmp_path), store, workers=1)
    ran = sorted((tmp_path / "trace").read_text().split())
    assert ran == ["-1", "1", "2", "3", "4", "5", "6", "7"], "no job ends twice, none is lost"

    one = simulation(tmp_path / "one", short(), KilledOnce(tmp_path / "killed-too"))
    assert list(simulate_side_by_side([one], 1, Console(file=io.StringIO()))) == [0]
    assert (tmp_path / "killed-too").exists()
    assert RunState.load(one.run_dir).status == "finished"


def test_a_file_that_is_no_configuration_is_refused_in_one_sentence(tmp_path):
    pytest.importorskip("parsl", reason="Parsl is not installed; pip install 'phyff[cluster]'")
    files = {
        "missing.py": (None, "does not exist; give a Python file that defines config."),
        "empty.py": ("", "defines no config; add config = parsl.Config(executors=[...])."),
        "broken.py": ("1 / 0", "fails with ZeroDivisionError: division by zero; mend it."),
    }
    for name, (text, told) in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        for command in (["run", "EC", "--out", str(tmp_path / "out")], ["train"], ["bench", "density"]):
            result = CliRunner().invoke(app, [*command, "--parsl", str(tmp_path / name)])
            assert result.exit_code == 2
            assert result.stderr == f"parsl: {tmp_path / name} {told}\n"
    assert not (tmp_path / "out").exists()


def test_without_parsl_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "parsl.config", None)
    result = CliRunner().invoke(app, ["train", "--parsl", str(tmp_path / "x.py")])
    assert result.exit_code == 2
    assert result.stderr == "parsl: Parsl is not installed; run pip install 'phyff[cluster]'.\n"


def test_local_workers_take_the_gpus_in_turn(tmp_path, monkeypatch):
    monkeypatch.setenv(parallel.GPU_VARIABLE, "GPU-7a, 3")
    with parallel.worker_pool(3, 1) as pool:
        seen = [task.result(60) for task in [pool.submit(seen_gpu, tmp_path, 3) for _ in range(3)]]
    assert sorted(map(str, seen)) == ["3", "GPU-7a", "GPU-7a"]


@pytest.mark.parametrize(("answer", "devices"), [("echo 0; echo 1", ["0", "1"]), ("echo broken; exit 9", [])])
def test_gpus_are_those_that_nvidia_smi_lists(tmp_path, monkeypatch, answer, devices):
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{answer}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv(parallel.GPU_VARIABLE, raising=False)
    assert parallel.gpus() == devices
    monkeypatch.setenv(parallel.GPU_VARIABLE, "")
    assert parallel.gpus() == []
