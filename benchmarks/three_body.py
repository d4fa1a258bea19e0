"""Three-body energies of the model against quantum chemistry: trimers cut from a run.

    python benchmarks/three_body.py                   what the records say of the library
    python benchmarks/three_body.py --damping         the same for other sizes of Li+ in the Thole damping
    python benchmarks/three_body.py RUN_DIR [NUMBER]  first add NUMBER (default 20) trimers of that run

E3 is E(ABC) less its pairs (phyff.qm.three_body): wB97X/def2-SVPD in the basis of the trimer, without VV10.
In the model only polarization is not a sum over pairs. No fit sees these records, in
molecules/records/three_body. Trimers around Li+ come first, about a minute of one core each; stopped, the
same command goes on.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

from phyff.errors import SimulationError
from phyff.fit.training import CORE
from phyff.labelling import frame_of_run
from phyff.model import cluster, multipoles
from phyff.model.cluster import Cluster
from phyff.model.parameters import ShortRange, SpeciesTensors, species_tensors
from phyff.qm.clusters import CutCluster, Frame
from phyff.qm.executor import Job, run_jobs
from phyff.qm.level import PHYFF_2026A
from phyff.qm.store import RecordStore, read_record
from phyff.qm.three_body import KIND, three_body_job_of
from phyff.species.library import SHORT_RANGE_FILE
from phyff.species.parameters import SpeciesParameters

LIBRARY = Path(__file__).parents[1] / "molecules"
ENGINES = {"drude": cluster.interaction_energy, "multipole": multipoles.interaction_energy}
ROUNDS = (
    (
        ("Li+", "EC", "EC"),
        ("Li+", "EC", "DMC"),
        ("Li+", "DMC", "DMC"),
        ("Li+", "EC", "PF6-"),
        ("Li+", "DMC", "PF6-"),
    ),
    (("EC", "EC", "EC"), ("EC", "EC", "PF6-"), ("EC", "DMC", "PF6-")),
)
"""Kinds of trimers; those of a group take turns, the next group follows."""
MOST = 3
"""Trimers of a kind, of one run."""
CONTACT_NM, OPEN_NM = 0.30, 0.40
"""Two contacts of a trimer are shorter than the first, the third than the second."""
SEED = 1
DAMPING_ALPHAS = (2e-4, 4e-4, 8e-4, 1.2e-3, 1.7e-3, 2.5e-3, 4e-3)
"""nm^3 tried as the size of Li+ in the damping formula."""
TARGET = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished run")
    parser.add_argument("number", type=int, nargs="?", default=20, help="trimers of that run")
    parser.add_argument("--damping", action="store_true", help="list errors by the size of Li+")
    parser.add_argument("--workers", type=int, default=1, help="about 10 GB of memory each")
    arguments = parser.parse_args()
    store = RecordStore(LIBRARY / "records")
    if arguments.run:
        jobs = _jobs(arguments.run, arguments.number)
        run_jobs(jobs, store, workers=arguments.workers, label="three-body energies")
    model = ShortRange.load(LIBRARY / SHORT_RANGE_FILE)
    species = [SpeciesParameters.load(LIBRARY / f"{name}.json") for name in CORE]
    trimers = list(_trimers(store, {s.mapped_smiles: s.name for s in species}))
    if arguments.damping:
        _report_damping(trimers, species, model)
    else:
        _report(trimers, species, model)


# Which trimers


def _jobs(run_dir: Path, number: int) -> list[Job]:
    """Jobs of compact trimers picked at random at the end of the density stage, Li+ first."""
    frame, rng = frame_of_run(run_dir), np.random.default_rng(SEED)
    found = _compact_trimers(frame)
    chosen = []
    for group in ROUNDS:
        queues = [rng.permutation(len(found.get(tuple(sorted(kind)), []))) for kind in group]
        for turn in range(MOST):
            for kind, queue in zip(group, queues, strict=True):
                if turn < len(queue):
                    chosen.append(found[tuple(sorted(kind))][queue[turn]])
    label = run_dir.absolute().name
    return [
        three_body_job_of(CutCluster(*trimer, f"{label}#{k}"), PHYFF_2026A)
        for k, trimer in enumerate(chosen[:number])
    ]


def _compact_trimers(
    frame: Frame,
) -> dict[tuple[str, ...], list[tuple[tuple[SpeciesParameters, ...], tuple[np.ndarray, ...]]]]:
    """Species and positions (n, 3) nm of every compact trimer, smallest molecules first, by sorted names.
    Both others of a trimer with Li+ touch it."""
    seen: set[frozenset[int]] = set()
    found: dict[tuple[str, ...], list[Any]] = {}
    for centre, own in enumerate(frame.xyz):
        near = [(k, xyz) for gap, k, xyz in frame.nearest(centre) if gap < CONTACT_NM]
        for (j, xyz_j), (k, xyz_k) in combinations(near, 2):
            members = frozenset((centre, j, k))
            beside = "Li+" in (frame.species[j].name, frame.species[k].name)
            if beside or members in seen or cdist(xyz_j, xyz_k).min() > OPEN_NM:
                continue
            seen.add(members)
            parts = sorted(((centre, own), (j, xyz_j), (k, xyz_k)), key=lambda part: (len(part[1]), part[0]))
            species = tuple(frame.species[number] for number, _ in parts)
            names = tuple(sorted(s.name for s in species))
            found.setdefault(names, []).append((species, tuple(xyz for _, xyz in parts)))
    return found


# What the model says of them


@dataclass(frozen=True)
class Trimer:
    """A record: species by SMILES, positions (n, 3) nm, and the quantum energies, kJ/mol."""

    kind: str
    source: str
    smiles: tuple[str, ...]
    xyz: tuple[torch.Tensor, ...]
    quantum: dict[str, Any]

    def three_body(self, tensors: dict[str, SpeciesTensors], engine: str) -> float:
        """The model's E3, kJ/mol; not a number where its induced dipoles diverge."""

        def energy(members: Sequence[int]) -> float:
            chosen = Cluster.of([tensors[self.smiles[k]] for k in members], [self.xyz[k] for k in members])
            return float(ENGINES[engine](chosen)["total"])

        everyone = range(len(self.xyz))
        try:
            return energy(everyone) - sum(energy(pair) for pair in combinations(everyone, 2))
        except SimulationError:
            return float("nan")

    @property
    def has_lithium(self) -> bool:
        return "Li+" in self.kind

    def contacts(self) -> str:
        """Shortest distances between its molecules, angstrom: 01, 02, 12."""
        gaps = [10 * cdist(a, b).min() for a, b in combinations(self.xyz, 2)]
        return " ".join(f"{gap:.2f}" for gap in gaps)


def _trimers(store: RecordStore, names: dict[str, str]) -> Iterator[Trimer]:
    """Every record whose species are in the library, in the order of ROUNDS."""
    trimers = []
    for path in sorted((store.root / KIND).glob("*.json")):
        content = read_record(path)
        monomers = content["spec"]["monomers"]
        smiles = tuple(m["smiles"] for m in monomers)
        if all(s in names for s in smiles):
            xyz = tuple(torch.tensor(m["xyz_angstrom"], dtype=torch.float64) / 10 for m in monomers)
            kind = _kind([names[s] for s in smiles])
            trimers.append(Trimer(kind, content["spec"]["source"], smiles, xyz, content["record"]))
    order = [_kind(kind) for group in ROUNDS for kind in group]
    return iter(sorted(trimers, key=lambda t: (order.index(t.kind), t.source)))


def _kind(names: Sequence[str]) -> str:
    return " + ".join(sorted(names, key=("Li+", *(n for n in CORE if n != "Li+")).index))


def _report(trimers: Sequence[Trimer], species: Sequence[SpeciesParameters], model: ShortRange) -> None:
    tensors = {s.mapped_smiles: species_tensors(s, model) for s in species}
    found = {engine: np.array([t.three_body(tensors, engine) for t in trimers]) for engine in ENGINES}
    print(f"Three-body energies, kJ/mol; model {model.fingerprint}, damping_alpha {model.damping_alpha}")
    print("contacts in angstrom; quantum E3 = exchange + induction\n")
    parts = ("total", "exchange", "induction")
    _row("trimer", "contacts", "from", *(f"quantum {p}" for p in parts), *ENGINES, "of induction")
    _row(*["---"] * (7 + len(ENGINES)))
    for k, t in enumerate(trimers):
        values = [t.quantum[p] for p in parts] + [found[engine][k] for engine in ENGINES]
        share = found["drude"][k] / t.quantum["induction"]
        _row(t.kind, t.contacts(), t.source, *(f"{v:.2f}" for v in values), f"{share:.2f}")
    for engine, values in found.items():
        print(f"\n{engine}: model - quantum chemistry\n")
        _row("kind", "trimers", "quantum, mean", "mean", "root mean square", "of the sum", "within 10 %")
        _row(*["---"] * 7)
        for kind, chosen in _groups(trimers):
            quantum = np.array([trimers[k].quantum["total"] for k in chosen])
            miss = values[chosen] - quantum
            _row(
                kind,
                str(len(chosen)),
                f"{quantum.mean():.2f}",
                f"{miss.mean():+.2f}",
                f"{np.sqrt((miss**2).mean()):.2f}",
                f"{miss.sum() / abs(quantum.sum()):+.1%}",
                str(int((abs(miss) <= TARGET * abs(quantum)).sum())),
            )


def _report_damping(
    trimers: Sequence[Trimer], species: Sequence[SpeciesParameters], model: ShortRange
) -> None:
    """E3 errors of the trimers with Li+ for each of DAMPING_ALPHAS, kind by kind."""
    trimers = [t for t in trimers if t.has_lithium]
    quantum = np.array([t.quantum["total"] for t in trimers])
    groups = _groups(trimers)
    for engine in ENGINES:
        print(f"\n{engine}: model - quantum chemistry over |quantum|, sums over trimers; rms in kJ/mol\n")
        _row(
            "size of Li+, nm^3", *(f"{kind} ({len(chosen)})" for kind, chosen in groups), "rms", "within 10 %"
        )
        _row(*["---"] * (3 + len(groups)))
        for alpha in DAMPING_ALPHAS:
            sized = model.model_copy(
                update={
                    name: {**getattr(model, name), "Li": alpha}
                    for name in ("damping_alpha", "multipole_damping_alpha")
                }
            )
            tensors = {s.mapped_smiles: species_tensors(s, sized) for s in species}
            miss = np.array([t.three_body(tensors, engine) for t in trimers]) - quantum
            _row(
                f"{alpha:.1e}",
                *(f"{miss[chosen].sum() / abs(quantum[chosen].sum()):+.1%}" for _, chosen in groups),
                f"{np.sqrt((miss**2).mean()):.2f}",
                str(int((abs(miss) <= TARGET * abs(quantum)).sum())),
            )


def _groups(trimers: Sequence[Trimer]) -> list[tuple[str, list[int]]]:
    """Numbers of the trimers of every kind, and of all."""
    kinds = dict.fromkeys(t.kind for t in trimers)
    own = [(kind, [k for k, t in enumerate(trimers) if t.kind == kind]) for kind in kinds]
    return [*own, ("all", list(range(len(trimers))))]


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
