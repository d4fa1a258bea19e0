"""The model against quantum chemistry for pairs in a liquid: dimers cut from a run and decomposed.

    python benchmarks/liquid_dimers.py                   what the records say of the library
    python benchmarks/liquid_dimers.py RUN_DIR [NUMBER] [--with SPECIES] [--distant | --unseen]
                                       first add NUMBER (default 14) dimers of that run, all with SPECIES

Neighbours touch within 0.32 nm. What molecules/records/liquid_dimer holds of them when the library is fitted
is part of the fit; a trial fit leaves every third out, as of the scans. With --distant the closest atoms are
0.32 to 0.5 nm apart: molecules/records/distant_dimer, and with --unseen they touch as any: unseen_dimer. No
fit sees either. About half a minute of a core each, with a bare cation ten seconds, of molecules with 20
atoms and more some minutes.
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
UNSEEN_DIMER = "unseen_dimer"
"""Kind of those of neighbours that are kept out of every fit."""
TOUCH_NM, FAR_NM, FARTHEST_NM = 0.32, 0.4, 0.5
GAPS_NM = {
    LIQUID_DIMER: (0.0, TOUCH_NM),
    UNSEEN_DIMER: (0.0, TOUCH_NM),
    DISTANT_DIMER: (TOUCH_NM, FARTHEST_NM),
}
"""Between the closest atoms of the two molecules, by kind of record."""
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run_dir", type=Path, nargs="?")
    parser.add_argument("number", type=int, nargs="?", default=14)
    parser.add_argument("--with", dest="species")
    kinds = parser.add_mutually_exclusive_group()
    for option, kind in (("--distant", DISTANT_DIMER), ("--unseen", UNSEEN_DIMER)):
        kinds.add_argument(option, dest="kind", action="store_const", const=kind, default=LIQUID_DIMER)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    store = RecordStore(LIBRARY / "records")
    if given.run_dir:
        jobs = _jobs(given.run_dir, given.number, given.species, given.kind)
        run_jobs(jobs, store, given.workers, label="dimers of a liquid")
    library = Library.load(LIBRARY)
    _report(library)
    _report_unseen(library)


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


def _report_unseen(library: Library) -> None:
    """Pairs that no fit sees, by species and distance."""
    groups: dict[str, list[DimerPoint]] = defaultdict(list)
    for kind in (UNSEEN_DIMER, DISTANT_DIMER):
        for point in load_points(LIBRARY / "records" / kind, library.species):
            gap = shortest(point)
            edge = next((edge for edge in (TOUCH_NM, FAR_NM) if gap < edge), None)
            where = f"{FAR_NM:g} nm and more" if edge is None else f"up to {edge:g} nm"
            groups[f"{' + '.join(sorted(point.names))} | {where}"].append(point)
    tensors = {name: species_tensors(s, library.short_range) for name, s in library.species.items()}
    header = ["pair, seen by no fit", "closest atoms", "dimers", "mean total", *COLUMNS]
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
