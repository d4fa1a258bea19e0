"""The model against quantum chemistry for neighbours in a liquid: dimers cut from a run and decomposed.

    python benchmarks/liquid_dimers.py                   what the records say of the library
    python benchmarks/liquid_dimers.py RUN_DIR [NUMBER [SPECIES]]
                                       first add NUMBER (default 14) dimers of that run, all with SPECIES

What molecules/records/liquid_dimer holds when the library is fitted is part of the fit; a trial fit leaves
every third out, as of the scans. About half a minute of one core each, with a bare cation ten seconds.
"""

import sys
from pathlib import Path

import numpy as np

from phyff.fit.short_range import LIQUID_DIMER
from phyff.labelling import frames_of_run
from phyff.qm.clusters import placed
from phyff.qm.dimers import decomposition_key, eda_job
from phyff.qm.executor import Job, run_jobs
from phyff.qm.level import PHYFF_2026A
from phyff.qm.store import RecordStore
from phyff.report.dimer_errors import COLUMNS, PairClass, mean_and_rms
from phyff.report.physics import Library

LIBRARY = Path(__file__).parents[1] / "molecules"
CONTACT_NM = 0.32
SEED = 1


def main() -> None:
    store = RecordStore(LIBRARY / "records")
    if len(sys.argv) > 1:
        number = int(sys.argv[2]) if len(sys.argv) > 2 else 14
        jobs = _jobs(Path(sys.argv[1]), number, sys.argv[3] if len(sys.argv) > 3 else None)
        run_jobs(jobs, store, workers=2, label="dimers of a liquid")
    _report(Library.load(LIBRARY))


def _jobs(run_dir: Path, number: int, one: str | None) -> list[Job]:
    """Decomposition jobs of dimers picked at random among neighbours, those with a species or all, in the
    frames of a run."""
    pairs = [
        (frame, first, second, near)
        for frame in frames_of_run(run_dir)
        for first in range(len(frame.species))
        for gap, second, near in sorted(frame.nearest(first), key=lambda found: found[1])
        if second > first and gap < CONTACT_NM
        if one is None or one in (frame.species[first].name, frame.species[second].name)
    ]
    chosen = np.random.default_rng(SEED).permutation(len(pairs))[:number]
    level = decomposition_key(PHYFF_2026A)
    jobs = []
    for k in chosen:
        frame, first, second, near = pairs[k]
        a, b = frame.species[first], frame.species[second]
        spec = {"first": placed(a, frame.xyz[first]), "second": placed(b, near), "level": level}
        jobs.append(Job(LIQUID_DIMER, spec, eda_job, f"{a.name} + {b.name} of {run_dir.name}"))
    return jobs


def _report(library: Library) -> None:
    print("model - quantum chemistry, kJ/mol: mean / root mean square")
    header = ["pair", "fit", "dimers", "mean total", *COLUMNS]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for pair in library.pair_classes():
        if pair.in_liquids:
            unseen = pair.held_out
            _print_row(pair, "the library", pair.library, np.full(len(unseen), True))
            if unseen.any():
                _print_row(pair, "a trial fit that has not seen them", pair.trial, unseen)


def _print_row(pair: PairClass, fit: str, energies: np.ndarray, chosen: np.ndarray) -> None:
    quantum = pair.quantum[chosen]
    cells = mean_and_rms(energies[chosen] - quantum)
    print(
        "| " + " | ".join([pair.title, fit, str(len(quantum)), f"{quantum[:, -1].mean():.1f}", *cells]) + " |"
    )


if __name__ == "__main__":
    main()
