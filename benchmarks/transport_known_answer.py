"""Brownian ions with a known Onsager matrix: how often do value and stated error agree with it?

    python benchmarks/transport_known_answer.py [TRIALS]

Cations, anions and solvent walk at random, each molecule on its own and all ions of a kind also together, so
that the exact matrix is known in the barycentric and in the solvent frame. Every trial is analysed as a run
would be (phyff.properties.transport). Prints the share of trials within one and two stated errors.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from phyff.properties.onsager import salt_diffusion, transference
from phyff.properties.trajectory import Production, Run, SpeciesInBox, barycentric
from phyff.properties.transport import conductivity_factor, transport

Floats = NDArray[np.float64]
FRAMES, FRAME_PS, BOX_NM, TEMPERATURE = 1200, 2.0, 2.5, 298.15
COUNTS = np.array([16, 16, 40])
MASSES = np.array([7.0, 145.0, 88.0])
DIFFUSION = np.array([0.0003, 0.0005, 0.0008])
"""nm2/ps, of single molecules: cation, anion, solvent."""
TOGETHER = 0.01 * np.array([[1.0, 0.0], [-0.6, 0.8], [0.0, 0.0]])
"""nm per sqrt(ps): what each molecule of a kind takes from two motions shared by all of its kind."""
RATTLING_NM = 0.02


def synthetic_run() -> Run:
    """A box of COUNTS one-atom molecules with charges +1, -1, 0."""
    species, first = [], 0
    for name, charge, count, mass in zip("C A S".split(), (1, -1, 0), COUNTS, MASSES, strict=True):
        species.append(
            SpeciesInBox(
                name, name, int(count), charge, ("Li",), np.array([mass]), np.array([0.2]),
                np.array([False]), first, first,
            )
        )  # fmt: skip
        first += int(count)
    settings = {
        "name": "Brownian ions",
        "temperature_K": TEMPERATURE,
        "pressure_bar": 1.0,
        "viscosity_cP": 1.0,
    }
    return Run(Path("."), settings, tuple(species))


def walk(rng: np.random.Generator, run: Run, frames: int = FRAMES, memory: float = 0.0) -> Production:
    """One trajectory; memory: correlation of a step with the next, which leaves long-time slopes alone."""
    shared = _steps(rng, (frames, 2, 3), memory) * np.sqrt(FRAME_PS)
    parts = []
    for s, diffusion, pull in zip(run.species, DIFFUSION, TOGETHER, strict=True):
        steps = np.sqrt(2.0 * diffusion * FRAME_PS) * _steps(rng, (frames, s.count, 3), memory)
        steps += np.einsum("k,fkd->fd", pull, shared)[:, None, :]
        rattling = rng.normal(scale=RATTLING_NM, size=steps.shape)
        parts.append(np.cumsum(steps, axis=0) + rattling)
    centres = barycentric(run.species, np.concatenate(parts, axis=1))
    snapshots = np.zeros((1, centres.shape[1], 3), np.float32)
    return Production(centres, snapshots, frames, FRAME_PS, BOX_NM)


def _steps(rng: np.random.Generator, shape: tuple[int, ...], memory: float) -> Floats:
    """Autoregressive steps whose sum grows like that of independent ones of unit variance."""
    noise = rng.normal(size=shape)
    noise[0] /= np.sqrt(1.0 - memory**2)
    return (1.0 - memory) * lfilter([1.0], [1.0, -memory], noise, axis=0)


def exact() -> dict[str, float]:
    """The answers: slopes (nm2/ps) of <dR_i . dR_j> transformed to each frame, and what follows from them."""
    walks = np.diag(6.0 * COUNTS * DIFFUSION) + 3.0 * np.outer(COUNTS, COUNTS) * (TOGETHER @ TOGETHER.T)
    shares = MASSES / (COUNTS @ MASSES)
    to_barycentre = np.eye(3) - np.outer(COUNTS, shares)
    to_solvent = np.eye(3) - np.outer(COUNTS, np.array([0.0, 0.0, 1.0 / COUNTS[2]]))
    centre, solvent = (
        (frame @ walks @ frame.T)[:2, :2] for frame in (to_barycentre, to_solvent)
    )  # fmt: skip
    factor = conductivity_factor(BOX_NM, TEMPERATURE) / 6.0
    charges = np.array([1.0, -1.0])
    conductivity = factor * float(charges @ centre @ charges)
    return {
        "onsager_C_C": factor * centre[0, 0],
        "onsager_C_A": factor * centre[0, 1],
        "onsager_A_A": factor * centre[1, 1],
        "conductivity": conductivity,
        "conductivity_green_kubo": conductivity,
        "transference_C": transference(charges, 0)(centre),
        "transference_C_solvent_frame": transference(charges, 0)(solvent),
        "salt_diffusion": 1000.0 * salt_diffusion(int(COUNTS[0]))(solvent),
    }


def deviations(seed: int, replicas: int = 1) -> dict[str, float]:
    """(value - exact) / stated error of every property for one trial."""
    run, rng = synthetic_run(), np.random.default_rng(seed)
    found = transport(run, [walk(rng, run) for _ in range(replicas)]).properties
    return {name: (found[name].value - answer) / found[name].error for name, answer in exact().items()}


def main() -> None:
    """Print one row a property, for one long trajectory and for three replicas."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for replicas in (1, 3):
        table = defaultdict(list)
        for seed in range(trials):
            for name, deviation in deviations(seed, replicas).items():
                table[name].append(deviation)
        print(f"{trials} trials, {replicas} trajectories of {FRAMES} frames each")
        print(
            "| property | mean deviation | spread | within 1 error | within 2 errors |\n|---|---|---|---|---|"
        )
        for name, values in table.items():
            z = np.array(values)
            inside = " | ".join(f"{100 * np.mean(np.abs(z) < limit):.0f} %" for limit in (1.0, 2.0))
            print(f"| {name} | {z.mean():+.2f} | {z.std():.2f} | {inside} |", flush=True)


if __name__ == "__main__":
    main()
