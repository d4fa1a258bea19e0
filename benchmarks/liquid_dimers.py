"""The model against quantum chemistry for neighbours in a liquid: dimers cut from a run and decomposed.

    python benchmarks/liquid_dimers.py                   what the records say of the library
    python benchmarks/liquid_dimers.py RUN_DIR [NUMBER]  first add NUMBER (default 14) dimers of that run

No fit sees these records (molecules/records/liquid_dimer); about half a minute of one core each.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from phyff.fit.training import CORE
from phyff.labelling import frame_of_run
from phyff.model.cluster import PARTS, Cluster, interaction_energy
from phyff.model.parameters import ShortRange, species_tensors
from phyff.qm.clusters import placed
from phyff.qm.dimers import decomposition_key, eda_job
from phyff.qm.executor import Job, run_jobs
from phyff.qm.level import PHYFF_2026A
from phyff.qm.store import RecordStore, read_record
from phyff.species.parameters import SpeciesParameters

LIBRARY = Path(__file__).parents[1] / "molecules"
KIND = "liquid_dimer"
CONTACT_NM = 0.32
SEED = 1


def main() -> None:
    store = RecordStore(LIBRARY / "records")
    if len(sys.argv) > 1:
        number = int(sys.argv[2]) if len(sys.argv) > 2 else 14
        run_jobs(_jobs(Path(sys.argv[1]), number), store, workers=2, label="dimers of a liquid")
    _report(store)


def _jobs(run_dir: Path, number: int) -> list[Job]:
    """Decomposition jobs of dimers picked at random among neighbours at the end of the density stage."""
    frame = frame_of_run(run_dir)
    pairs = [
        (first, second, near)
        for first in range(len(frame.species))
        for gap, second, near in sorted(frame.nearest(first), key=lambda found: found[1])
        if second > first and gap < CONTACT_NM
    ]
    chosen = np.random.default_rng(SEED).permutation(len(pairs))[:number]
    level = decomposition_key(PHYFF_2026A)
    jobs = []
    for k in chosen:
        first, second, near = pairs[k]
        a, b = frame.species[first], frame.species[second]
        spec = {"first": placed(a, frame.xyz[first]), "second": placed(b, near), "level": level}
        jobs.append(Job(KIND, spec, eda_job, f"{a.name} + {b.name} of {run_dir.name}"))
    return jobs


def _report(store: RecordStore) -> None:
    model = ShortRange.load(LIBRARY / "short_range.json")
    library = [SpeciesParameters.load(LIBRARY / f"{name}.json") for name in CORE]
    tensors = {s.mapped_smiles: species_tensors(s, model) for s in library}
    names = {s.mapped_smiles: s.name for s in library}
    columns = (*PARTS, "total")
    misses: dict[str, list[list[float]]] = {}
    for path in sorted((store.root / KIND).glob("*.json")):
        content = read_record(path)
        sides, record = [content["spec"][k] for k in ("first", "second")], content["record"]
        xyz = [torch.tensor(side["xyz_angstrom"], dtype=torch.float64) / 10 for side in sides]
        found = interaction_energy(Cluster.of([tensors[side["smiles"]] for side in sides], xyz))
        row = [float(found[c]) - record[c] for c in columns] + [record["total"]]
        misses.setdefault(" + ".join(names[side["smiles"]] for side in sides), []).append(row)
    print("model - quantum chemistry, kJ/mol: mean / root mean square")
    print("| pair | dimers | mean total | " + " | ".join(columns) + " |\n" + "|---" * 8 + "|")
    for pair, rows in misses.items():
        values = np.array(rows)
        cells = [
            f"{m:+.2f} / {s:.2f}" for m, s in zip(values.mean(0), np.sqrt((values**2).mean(0)), strict=True)
        ]
        print(f"| {pair} | {len(rows)} | {values[:, -1].mean():.1f} | " + " | ".join(cells[:-1]) + " |")


if __name__ == "__main__":
    main()
