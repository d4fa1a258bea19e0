"""Where work goes: worker processes of this machine, or a cluster through Parsl.

The path of a Parsl configuration (a Python file that defines `config`, https://parsl.readthedocs.io) in
PHYFF_PARSL, which `--parsl` sets, sends every quantum job and every simulation to that cluster. Threads of a
worker are then the configuration's business: `worker_init="export OMP_NUM_THREADS=4 OPENMM_CPU_THREADS=4"`.
Ctrl-C and SIGTERM end the cluster's workers with the command; after SIGKILL Parsl's own processes stay, work
on what they were given, and have to be ended by hand.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from phyff.errors import InputError

PARSL_VARIABLE = "PHYFF_PARSL"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENMM_CPU_THREADS")
GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"
LOST_WORKERS = 3
"""A task that lost its worker is given to another so many times, unless the configuration says how."""
GRACE_S = 10.0
"""What an orphaned worker gets to save its state."""

_clusters: dict[str, Any] = {}
"""The running Parsl executor by the path of its configuration; one at most."""


@contextmanager
def worker_pool(processes: int, threads: int) -> Iterator[Executor]:
    """An executor of module-level functions with arguments that pickle.

    Local: `processes` spawned workers that see their thread count before any numerical library is imported,
    and that are told to stop (SIGTERM) when this process dies, however it dies. Where there are several GPUs
    each worker sees one of them, in turn. With a cluster both numbers are the configuration's, and it stays
    up for the next pool.
    """
    path = os.environ.get(PARSL_VARIABLE)
    if path:
        yield _cluster(path)
        return
    saved = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    context = multiprocessing.get_context("spawn")
    arguments = (context.Value("i", 0), gpus())
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=arguments)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def stop_workers(pool: Executor) -> None:
    """Ask local workers to end (SIGTERM); those of a cluster end when it is closed."""
    if isinstance(pool, ProcessPoolExecutor):
        for process in list((pool._processes or {}).values()):
            process.terminate()


def lost_worker(error: BaseException) -> bool:
    """Whether a task failed because its worker died (killed, out of memory), not by its own fault."""
    return isinstance(error, BrokenProcessPool) or type(error).__name__ in ("WorkerLost", "ManagerLost")


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Names of the GPUs this process may use: what GPU_VARIABLE lists, else all that nvidia-smi lists."""
    listed = os.environ.get(GPU_VARIABLE)
    if listed is None:
        command = shutil.which("nvidia-smi")
        if command is None:
            return []
        asked = [command, "--query-gpu=index", "--format=csv,noheader"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        listed = ",".join(answer.stdout.split()) if answer.returncode == 0 else ""
    return [name.strip() for name in listed.split(",") if name.strip()]


def on_cluster() -> bool:
    """Whether work goes to a cluster."""
    return bool(os.environ.get(PARSL_VARIABLE))


def use_cluster(path: Path | None) -> None:
    """Send all further work of this process to the cluster of a Parsl configuration; None changes nothing.

    Raises InputError when the file is no configuration or Parsl is not installed.
    """
    if path is not None:
        _read_config(path)
        os.environ[PARSL_VARIABLE] = str(path.absolute())


def close_cluster() -> None:
    """End the cluster's workers, those at work too; the next pool would start it anew."""
    while _clusters:
        _, pool = _clusters.popitem()
        pool.shutdown(wait=False)


def _cluster(path: str) -> Executor:
    """The Parsl executor of a configuration, started when first needed and kept until the process ends."""
    if path not in _clusters:
        close_cluster()
        config = _read_config(Path(path))
        from parsl.concurrent import ParslPoolExecutor

        if config.retry_handler is None:
            config.retries = max(config.retries, LOST_WORKERS)
            config.retry_handler = _retry_cost
        scripts = str(Path(sys.executable).parent)  # Parsl starts its own programs by name
        if scripts not in os.environ.get("PATH", "").split(os.pathsep):
            os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", "")])
        _clusters[path] = ParslPoolExecutor(config=config)
        atexit.register(close_cluster)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and _in_main_thread():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    pool: Executor = _clusters[path]
    return pool


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _read_config(path: Path) -> Any:
    try:
        from parsl.config import Config
    except ImportError:
        raise InputError("parsl: Parsl is not installed; run pip install 'phyff[cluster]'.") from None
    if not path.is_file():
        raise InputError(f"parsl: {path} does not exist; give a Python file that defines config.")
    try:
        config = runpy.run_path(str(path)).get("config")
    except Exception as error:  # whatever the user's file does
        raise InputError(f"parsl: {path} fails with {type(error).__name__}: {error}; mend it.") from error
    if not isinstance(config, Config):
        raise InputError(f"parsl: {path} defines no config; add config = parsl.Config(executors=[...]).")
    return config


def _retry_cost(error: Exception, task: Any) -> float:
    """Parsl's retry handler: a lost worker costs one retry, a task that failed by itself all of them."""
    return 1.0 if lost_worker(error) else 1.0 + LOST_WORKERS


def _begin(begun: Synchronized[int], devices: Sequence[str]) -> None:
    """Start a worker. begun: how many there are already, which chooses its GPU."""
    _follow_parent()
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if devices:
        os.environ[GPU_VARIABLE] = devices[number % len(devices)]


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and stop when the parent is gone."""
    os.setpgid(0, 0)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        while True:  # the first makes a simulation save and return, the next ends the idle worker
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE_S)

    threading.Thread(target=watch, daemon=True).start()
