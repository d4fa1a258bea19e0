"""The model against quantum chemistry for pairs in a liquid: dimers cut from a run and decomposed.

    python benchmarks/liquid_dimers.py                   what the records say of the library
    python benchmarks/liquid_dimers.py RUN_DIR [NUMBER] [--with SPECIES] [--distant]
                                       first add NUMBER (default 14) dimers of that run, all with SPECIES

Neighbours touch within 0.32 nm. What molecules/records/liquid_dimer holds of them when the library is fitted
is part of the fit; a trial fit leaves every third out, as of the scans. With --distant the closest atoms are
0.32 to 0.5 nm apart: molecules/records/distant_dimer, which no fit sees. About half a minute of a core each,
with a bare cation ten seconds.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from phyff.fit.short_range import LIQUID_DIMER, DimerPoint
from phyff.fit.training import load_points
from phyff.labelling import frames_of_run
from phyff.model.parameters import species_tensors
from phyff.qm.clusters import placed
from phyff.qm.dimers import decomposition_key, eda_job
from phyff.qm.executor import Job, run_jobs
from phyff.qm.level import PHYFF_2026A
from phyff.qm.store import RecordStore
from phyff.report.dimer_errors import COLUMNS, PairClass, mean_and_rms, model_energies, shortest
from phyff.report.physics import Library

LIBRARY = Path(__file__).parents[1] / "molecules"
DISTANT_DIMER = "distant_dimer"
"""Kind of the records of pairs that do not touch."""
GAPS_NM = {LIQUID_DIMER: (0.0, 0.32), DISTANT_DIMER: (0.32, 0.5)}
"""Between the closest atoms of the two molecules, by kind of record."""
FAR_NM = 0.4
"""Where the table of distant pairs parts them."""
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run_dir", type=Path, nargs="?")
    parser.add_argument("number", type=int, nargs="?", default=14)
    parser.add_argument("--with", dest="species")
    parser.add_argument("--distant", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    store = RecordStore(LIBRARY / "records")
    if given.run_dir:
        kind = DISTANT_DIMER if given.distant else LIQUID_DIMER
        jobs = _jobs(given.run_dir, given.number, given.species, kind)
        run_jobs(jobs, store, given.workers, label="dimers of a liquid")
    library = Library.load(LIBRARY)
    _report(library)
    _report_distant(library)


def _jobs(run_dir: Path, number: int, one: str | None, kind: str) -> list[Job]:
    """Decomposition jobs of dimers picked at random among pairs as far apart as the kind says, those with a
    species or all, in the frames of a run."""
    closest, farthest = GAPS_NM[kind]
    pairs = [
        (frame, first, second, near)
        for frame in frames_of_run(run_dir)
        for first in range(len(frame.species))
        for gap, second, near in sorted(frame.nearest(first), key=lambda found: found[1])
        if second > first and closest <= gap < farthest
        if one is None or one in (frame.species[first].name, frame.species[second].name)
    ]
    chosen = np.random.default_rng(SEED).permutation(len(pairs))[:number]
    level = decomposition_key(PHYFF_2026A)
    jobs = []
    for k in chosen:
        frame, first, second, near = pairs[k]
        a, b = frame.species[first], frame.species[second]
        spec = {"first": placed(a, frame.xyz[first]), "second": placed(b, near), "level": level}
        jobs.append(Job(kind, spec, eda_job, f"{a.name} + {b.name} of {run_dir.name}"))
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


def _report_distant(library: Library) -> None:
    """Pairs that do not touch, by species and distance; none is part of a fit."""
    groups: dict[str, list[DimerPoint]] = defaultdict(list)
    for point in load_points(LIBRARY / "records" / DISTANT_DIMER, library.species):
        far = shortest(point) >= FAR_NM
        where = f"{FAR_NM:g} nm and more" if far else f"up to {FAR_NM:g} nm"
        groups[f"{' + '.join(sorted(point.names))} | {where}"].append(point)
    tensors = {name: species_tensors(s, library.short_range) for name, s in library.species.items()}
    header = ["distant pair", "closest atoms", "dimers", "mean total", *COLUMNS]
    print("\n| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for title, points in sorted(groups.items()):
        quantum = np.array([[point.components[name] for name in COLUMNS] for point in points])
        model = np.array([model_energies(point.names, point.xyz, [tensors])[0] for point in points])
        cells = mean_and_rms(model - quantum)
        print(f"| {title} | {len(points)} | {quantum[:, -1].mean():.2f} | " + " | ".join(cells) + " |")


def _print_row(pair: PairClass, fit: str, energies: np.ndarray, chosen: np.ndarray) -> None:
    quantum = pair.quantum[chosen]
    cells = mean_and_rms(energies[chosen] - quantum)
    print(
        "| " + " | ".join([pair.title, fit, str(len(quantum)), f"{quantum[:, -1].mean():.1f}", *cells]) + " |"
    )


if __name__ == "__main__":
    main()
