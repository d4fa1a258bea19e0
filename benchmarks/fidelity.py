"""How far the `drude` engine is from the `multipole` engine in electrostatics and induction.

    python benchmarks/fidelity.py [--run RUN_DIR] [--out FILE.json]

Dimers of the training set, neighbours in liquids among them, clusters cut from a packed box, the labelled
clusters of three molecules or more that the neural term learns from, and clusters around bare cations cut
from finished runs. Both energies are those of the torch references (phyff/model), which tests hold the OpenMM
engines to; the short range is the same in both and left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import openmm
import torch
from openmm.app import Topology
from scipy.spatial.distance import cdist
from torch import Tensor

from phyff import builder
from phyff.errors import InputError
from phyff.fit.labels import load_clusters
from phyff.fit.training import load_dimers
from phyff.formulation import Formulation
from phyff.labelling import frames_of_run
from phyff.model import cluster as drude
from phyff.model import multipoles
from phyff.model.cluster import Cluster
from phyff.model.parameters import ShortRange, SpeciesTensors
from phyff.openmm.forcefield import ForceField
from phyff.qm.clusters import cut_clusters
from phyff.species.library import SHORT_RANGE_FILE, library_directory
from phyff.species.parameters import SpeciesParameters, library_species

NEUTRAL = "neutral"
WITH_CATION = "with Li+, Na+ or K+"
ELECTROLYTE = "1.0 M LiPF6 in EC:DMC 1:1 w/w"
"""Its packed box is what the clusters are cut from."""
SHELLS = (0.175, 0.21, 0.25)
"""nm; shortest distances that divide the dimers with a cation. Li+ in a liquid sits near 0.19 to 0.21."""
CHELATING = "DME"
"""Holds a cation with two oxygens; its labelled clusters are a row of their own."""
CLUSTER_SIZES = (3, 4, 5, 6)
CLUSTERS_EACH = 13
CLUSTERS_OF_RUN = 52
ATOMS = 500
RELAXATION_STEPS = 200


@dataclass(frozen=True)
class Difference:
    """drude - multipole of one cluster: kJ/mol, forces kJ/mol/nm. Forces on single atoms differ for a reason
    of their own: off-atom charges and local frames hand the same torque to different atoms."""

    label: str
    kind: str
    molecules: int
    shortest: float
    """nm, between atoms of different molecules."""
    electrostatics: float
    induction: float
    force: float
    """Rms of the force on a molecule."""
    force_of_multipole: float
    """That force itself, in the multipole engine."""
    atom_force: float
    """Rms of the force on an atom."""


@dataclass(frozen=True)
class Row:
    """Root mean squares over the clusters of a label or kind."""

    name: str
    clusters: int
    electrostatics: float
    induction: float
    total: float
    force: float
    force_of_multipole: float
    atom_force: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--molecules", type=Path, default=library_directory(), help="folder of the species files"
    )
    parser.add_argument(
        "--run",
        type=Path,
        action="append",
        default=[],
        help="cut clusters from it; may be given again",
    )
    parser.add_argument("--out", type=Path, help="also write the tables as JSON")
    options = parser.parse_args()
    forcefield = _force_field(options.molecules)
    dimers = dimer_differences(forcefield, options.molecules / "records")
    clusters = cluster_differences(forcefield)
    labelled = labelled_differences(forcefield, options.molecules / "records" / "cluster")
    shells = [d for run in options.run for d in run_differences(forcefield, run)]
    tables = {
        "bound dimers by pair": rows(dimers, lambda d: d.label),
        "bound dimers by kind": rows(dimers, lambda d: d.kind),
        "bound dimers, all with ions": rows([d for d in dimers if d.kind != NEUTRAL], lambda d: "with ions"),
        "clusters, all with ions": rows([d for d in clusters if d.kind != NEUTRAL], lambda d: "with ions"),
        "labelled clusters with ions": rows(
            [d for d in labelled if d.kind != NEUTRAL],
            lambda d: f"with {CHELATING}" if CHELATING in d.label else "others",
        ),
        "labelled clusters, all with ions": rows([d for d in labelled if d.kind != NEUTRAL], lambda d: "all"),
        "dimers with a cation by shortest distance": rows(
            [d for d in dimers if d.kind == WITH_CATION], lambda d: _shell(d.shortest)
        ),
        "clusters by number of molecules": rows(clusters, lambda d: f"{d.molecules} molecules, {d.kind}"),
        "clusters around cations in runs": rows(shells, lambda d: f"{d.molecules} molecules"),
        "clusters around cations in runs, all": rows(shells, lambda d: "all"),
    }
    for title, table in tables.items():
        if not table:
            continue
        print(f"\n{title}: drude - multipole, rms, kJ/mol and kJ/mol/nm; 'of': force on a molecule itself")
        print(f"{'':32s}{'n':>5s}{'elec':>8s}{'induct':>8s}{'sum':>8s}{'force':>8s}{'of':>8s}{'atom':>8s}")
        for row in table:
            numbers = [value for value in asdict(row).values() if isinstance(value, float)]
            print(f"{row.name:32s}{row.clusters:5d}" + "".join(f"{x:8.2f}" for x in numbers))
    if options.out:
        content = {title: [asdict(row) for row in table] for title, table in tables.items()}
        options.out.write_text(json.dumps(content, indent=1) + "\n")


def dimer_differences(forcefield: ForceField, records: Path) -> list[Difference]:
    """Of every bound dimer of the training set that is no pair of cations."""
    species = {s.name: s for s in forcefield.species}
    return [
        difference(forcefield, list(zip(p.names, p.xyz, strict=True)))
        for p in load_dimers(records, species)
        if p.components["total"] < 0 or min(species[n].charge for n in p.names) < 0
    ]


def cluster_differences(forcefield: ForceField) -> list[Difference]:
    """Of molecules with their nearest neighbours in a packed and relaxed box of ELECTROLYTE."""
    formulation = Formulation.parse(ELECTROLYTE)
    box = formulation.box(ATOMS)
    topology, packed = builder.starting_box(forcefield, box)
    positions = _relaxed(forcefield, topology, packed)
    edge = topology.getPeriodicBoxVectors()[0][0]._value
    molecules = [
        (residue.chain.id, positions[[a.index for a in residue.atoms() if a.element is not None]])
        for residue in topology.residues()
    ]
    centres = np.array([xyz.mean(0) for _, xyz in molecules])
    rng, found = np.random.default_rng(1), []
    for size in CLUSTER_SIZES:
        for first in rng.choice(len(molecules), CLUSTERS_EACH, replace=False):
            away = centres - centres[first]
            shift = -edge * np.round(away / edge)
            nearest = np.argsort(np.linalg.norm(away + shift, axis=1))[:size]
            found.append(
                difference(forcefield, [(molecules[k][0], molecules[k][1] + shift[k]) for k in nearest])
            )
    return found


def labelled_differences(forcefield: ForceField, folder: Path) -> list[Difference]:
    """Of the clusters of three molecules or more that quantum chemistry has labelled."""
    return [
        difference(forcefield, list(zip(label.names, label.xyz, strict=True)))
        for label in load_clusters(folder, {s.name: s for s in forcefield.species})
        if len(label.names) > 2
    ]


def run_differences(forcefield: ForceField, run_dir: Path) -> list[Difference]:
    """Of bare cations with molecules that touch them at some moments of a finished run.

    Raises:
        InputError: the run holds no bare cation, or is not finished.
    """
    cations = [s.name for s in forcefield.species if s.is_bare_cation]
    frames = frames_of_run(run_dir)
    present = sorted(set(cations) & {s.name for s in frames[0].species})
    if not present:
        raise InputError(
            f"--run: {run_dir} holds none of {', '.join(cations)}; give a run of an electrolyte."
        )
    cut = cut_clusters(frames, CLUSTERS_OF_RUN, run_dir.name, 1, CLUSTER_SIZES, present)
    return [difference(forcefield, list(zip([s.name for s in c.species], c.xyz, strict=True))) for c in cut]


def _relaxed(forcefield: ForceField, topology: Topology, packed: np.ndarray) -> np.ndarray:
    system = forcefield.create_system(topology)
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(packed)
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, RELAXATION_STEPS)
    return context.getState(positions=True).getPositions(asNumpy=True)._value


def difference(forcefield: ForceField, monomers: Sequence[tuple[str, np.ndarray]]) -> Difference:
    """drude - multipole of one cluster of (name, xyz (n, 3) nm)."""
    species = [forcefield.tensors[name] for name, _ in monomers]
    xyz = [torch.tensor(x) for _, x in monomers]
    one, one_force = _energies(species, xyz, _drude)
    other, other_force = _energies(species, xyz, _multipole)
    return Difference(
        label=" + ".join(name for name, _ in monomers),
        kind=_kind([forcefield.named(name) for name, _ in monomers]),
        molecules=len(monomers),
        shortest=min(cdist(a, b).min() for (_, a), (_, b) in combinations(monomers, 2)),
        electrostatics=one[0] - other[0],
        induction=one[1] - other[1],
        force=_rms_length(_on_molecules(one_force - other_force, xyz)),
        force_of_multipole=_rms_length(_on_molecules(other_force, xyz)),
        atom_force=_rms_length(one_force - other_force),
    )


def rows(differences: Sequence[Difference], key: Callable[[Difference], str]) -> list[Row]:
    """One a key, in the keys' order."""
    table = []
    for name in sorted({key(d) for d in differences}):
        own = [d for d in differences if key(d) == name]
        table.append(
            Row(
                name,
                len(own),
                electrostatics=_rms([d.electrostatics for d in own]),
                induction=_rms([d.induction for d in own]),
                total=_rms([d.electrostatics + d.induction for d in own]),
                force=_rms([d.force for d in own]),
                force_of_multipole=_rms([d.force_of_multipole for d in own]),
                atom_force=_rms([d.atom_force for d in own]),
            )
        )
    return table


def _shell(shortest: float) -> str:
    return next((f"below {limit} nm" for limit in SHELLS if shortest < limit), f"from {SHELLS[-1]} nm")


def _force_field(folder: Path) -> ForceField:
    return ForceField(tuple(library_species(folder).values()), ShortRange.load(folder / SHORT_RANGE_FILE))


def _energies(
    species: Sequence[SpeciesTensors],
    xyz: Sequence[Tensor],
    engine: Callable[[Cluster], tuple[Tensor, Tensor]],
) -> tuple[tuple[float, float], np.ndarray]:
    """Electrostatics and polarization, and the forces of their sum."""
    cluster = Cluster.of(species, xyz)
    cluster.atoms.requires_grad_(True)
    parts = engine(cluster)
    (gradient,) = torch.autograd.grad(parts[0] + parts[1], cluster.atoms)
    return (float(parts[0].detach()), float(parts[1].detach())), -gradient.numpy()


def _drude(cluster: Cluster) -> tuple[Tensor, Tensor]:
    polarization = drude.oscillator_energy(cluster, drude.relaxed_displacements(cluster))
    return drude.permanent_energy(cluster), polarization


def _multipole(cluster: Cluster) -> tuple[Tensor, Tensor]:
    moments = multipoles.laboratory_moments(cluster)
    induced = multipoles.induced_energy(cluster, moments) + multipoles.contact_energy(cluster)
    return multipoles.permanent_energy(cluster, moments), induced


def _kind(species: Sequence[SpeciesParameters]) -> str:
    charges = {s.charge for s in species}
    if charges == {0}:
        return NEUTRAL
    return WITH_CATION if max(charges) > 0 else "with anions only"


def _on_molecules(forces: np.ndarray, xyz: Sequence[Tensor]) -> np.ndarray:
    starts = np.cumsum([0, *(len(x) for x in xyz[:-1])])
    return np.add.reduceat(forces, starts)


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _rms_length(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(1).mean()))


if __name__ == "__main__":
    main()
