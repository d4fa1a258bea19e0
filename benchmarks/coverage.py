"""Is a stated standard error one standard error? Long runs cut into blocks, each analysed like a run.

    python -m benchmarks.coverage means [BLOCKS]
    python -m benchmarks.coverage transport [BLOCKS]
    python -m benchmarks.coverage runs RUN_DIR...

means: series like a density at constant pressure, of known mean and autocorrelation. transport: Brownian ions
with a known Onsager matrix (transport_known_answer.py) whose steps remember each other. runs: npt.csv of real
runs, where the mean of all blocks stands for the truth. Prints how often the truth lies within one and two
stated errors; honest errors give 68 and 95 %.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from benchmarks.transport_known_answer import FRAMES, exact, synthetic_run, walk
from phyff.properties.density import density, series_mean
from phyff.properties.trajectory import read_npt, read_run
from phyff.properties.transport import transport

Floats = NDArray[np.float64]
MODES = ((0.5, 2.0, 0.0), (0.2, 5.0, 0.5), (0.3, 20.0, 0.0))
"""Autocorrelation of the series, a sum of weight exp(-t/tau) cos(omega t): collisions, breathing of the box
under its barostat, slow rearrangement."""
CORRELATION = sum(w * (2.0 * ((1.0 - np.exp(complex(-1.0 / t, o))) ** -1).real - 1.0) for w, t, o in MODES)
"""Rows per independent sample: 1 + 2 sum of the autocorrelation over all lags."""
SAMPLES = (15, 50, 150, 500)
"""Independent samples in a block."""
MEMORY = 0.6
BLOCKS_A_RUN = 20
REAL_BLOCKS = 8


def density_like(rng: np.random.Generator, rows: int) -> Floats:
    """A stationary series of mean 0 and variance 1 with the autocorrelation of MODES."""
    total = np.zeros(rows)
    for weight, tau, omega in MODES:
        decay = np.exp(complex(-1.0 / tau, omega))
        noise = rng.normal(size=(rows, 2)) @ np.array([1.0, 1.0j])
        noise[1:] *= np.sqrt(1.0 - abs(decay) ** 2)
        total += np.sqrt(weight) * lfilter([1.0], [1.0, -decay], noise).real
    return total


def of_means(seed: int, blocks: int, samples: int) -> Floats:
    """(value - exact) / stated error of the means of blocks that are cut from one long series."""
    rows = round(samples * CORRELATION)
    series = density_like(np.random.default_rng(seed), blocks * rows)
    means = [series_mean(series[k * rows : (k + 1) * rows], cut_start=False) for k in range(blocks)]
    return np.array([mean.mean / mean.error for mean in means])


def of_transport(seed: int, blocks: int) -> Iterator[dict[str, float]]:
    """(value - exact) / stated error of every property of blocks that are cut from one long trajectory."""
    run, answers = synthetic_run(), exact()
    long = walk(np.random.default_rng(seed), run, blocks * FRAMES, MEMORY)
    for k in range(blocks):
        block = replace(long, centres=long.centres[k * FRAMES : (k + 1) * FRAMES])
        found = transport(run, [block]).properties
        yield {name: (found[name].value - answer) / found[name].error for name, answer in answers.items()}


def of_run(run_dir: str) -> dict[str, tuple[Floats, Floats]]:
    """The same of density and potential energy of a real run's window, against the mean of all its blocks,
    and how many independent samples each block is said to hold.

    A block is part of what it is compared with, which makes it look closer by sqrt(1 - 1/blocks): taken off.
    """
    npt = read_npt(read_run(run_dir))
    _, mean = density(npt.times, npt.densities)
    assert mean is not None and npt.potentials is not None
    found = {}
    for name, series in (("density", npt.densities), ("potential energy", npt.potentials)):
        parts = np.array_split(series[mean.first :], REAL_BLOCKS)
        means = [series_mean(part, cut_start=False) for part in parts]
        values = np.array([one.mean for one in means])
        errors = np.array([one.error for one in means])
        deviations = (values - values.mean()) / errors / np.sqrt(1.0 - 1.0 / REAL_BLOCKS)
        found[name] = deviations, np.array([one.independent for one in means])
    return found


def row(name: str, deviations: Iterable[float]) -> str:
    """One row of the table."""
    z = np.array(list(deviations))
    inside = " | ".join(f"{100 * np.mean(np.abs(z) < limit):.0f} %" for limit in (1.0, 2.0))
    return f"| {name} | {len(z)} | {z.mean():+.2f} | {z.std():.2f} | {inside} |"


def main() -> None:
    """Print one row a property."""
    kind, arguments = sys.argv[1], sys.argv[2:]
    print("| property | blocks | mean deviation | spread | within 1 error | within 2 errors |")
    print("|---|---|---|---|---|---|")
    if kind == "means":
        for samples in SAMPLES:
            z = of_means(1, int(arguments[0]) if arguments else 1000, samples)
            print(row(f"mean, {samples} independent samples", z), flush=True)
    elif kind == "transport":
        wanted, table = int(arguments[0]) if arguments else 200, defaultdict(list)
        for seed in range(-(-wanted // BLOCKS_A_RUN)):
            for deviations in of_transport(seed, min(BLOCKS_A_RUN, wanted - seed * BLOCKS_A_RUN)):
                for name, deviation in deviations.items():
                    table[name].append(deviation)
        for name, z in table.items():
            print(row(name, z))
    else:
        runs = [of_run(run_dir) for run_dir in arguments]
        for name in runs[0]:
            z, samples = (np.concatenate([run[name][k] for run in runs]) for k in (0, 1))
            print(row(f"{name}, {len(runs)} runs, {np.median(samples):.0f} independent samples", z))


if __name__ == "__main__":
    main()
