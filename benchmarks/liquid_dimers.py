"""The model against quantum chemistry for neighbours in a liquid: dimers cut from a run and decomposed.

    python benchmarks/liquid_dimers.py                   what the records say of the library
    python benchmarks/liquid_dimers.py RUN_DIR [NUMBER]  first add NUMBER (default 14) dimers of that run

No fit sees these records (molecules/records/liquid_dimer); about half a minute of one core each.
"""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import openmm
import torch
from openmm import unit

from phyff.fit.training import CORE
from phyff.md.run import RunState
from phyff.model.cluster import PARTS, Cluster, interaction_energy
from phyff.model.parameters import ShortRange, species_tensors
from phyff.openmm.forcefield import ForceField
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
    forcefield, state = ForceField.load(run_dir / "forcefield.json"), RunState.load(run_dir)
    final = openmm.XmlSerializer.deserialize((run_dir / "state-density.xml").read_text())
    positions = final.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    edge = np.diag(final.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))
    molecules, start = [], 0
    for name, count in state.inputs["counts"]:
        species, tensors = forcefield.named(name), forcefield.tensors[name]
        size = species.n_atoms + len(tensors.oscillators) + len(tensors.sites)
        for _ in range(count):
            molecules.append((species, positions[start : start + species.n_atoms]))
            start += size
    pairs = []
    for (first, a), (second, b) in combinations(molecules, 2):
        near = b - np.round((b.mean(0) - a.mean(0)) / edge) * edge
        if np.linalg.norm(a[:, None] - near[None], axis=2).min() < CONTACT_NM:
            pairs.append((first, a, second, near))
    chosen = np.random.default_rng(SEED).permutation(len(pairs))[:number]
    level = decomposition_key(PHYFF_2026A)
    jobs = []
    for k in chosen:
        first, a, second, b = pairs[k]
        spec = {"first": _side(first, a), "second": _side(second, b), "level": level}
        jobs.append(Job(KIND, spec, eda_job, f"{first.name} + {second.name} of {run_dir.name}"))
    return jobs


def _side(species: SpeciesParameters, xyz_nm: np.ndarray) -> dict:
    return {
        "smiles": species.mapped_smiles,
        "elements": list(species.elements),
        "charge": species.charge,
        "xyz_angstrom": np.round(10 * xyz_nm, 5).tolist(),
    }


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
