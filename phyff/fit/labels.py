"""Labelled dimers and clusters beside the physics: what the neural term is trained on and judged by.

Dimers are those of the training set, clusters whatever the record store holds. Splits go by scan and by
cluster source: the test set is that of the short-range fit. kJ/mol and nm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phyff.fit.short_range import is_held_out
from phyff.fit.training import load_dimers
from phyff.model.cluster import Cluster, interaction_energy
from phyff.model.parameters import ShortRange, SpeciesTensors
from phyff.qm import clusters
from phyff.qm.store import read_record
from phyff.species.library import SHORT_RANGE_FILE
from phyff.species.parameters import SpeciesParameters, library_species

SPLITS = ("train", "test")


SAME_PLACE = 1e-5
"""nm; records are rounded to a tenth of that."""


@dataclass(frozen=True)
class Label:
    """One cluster and what quantum chemistry says of it.

    Attributes:
        names, xyz: species, and positions (n, 3) nm of each monomer.
        total: interaction energy, kJ/mol.
        source: scan of a dimer, or where a cluster was cut; ends in #number.
        forces: (A, 3) kJ/mol/nm of everything but dispersion, or None.
    """

    names: tuple[str, ...]
    xyz: tuple[np.ndarray, ...]
    total: float
    source: str
    forces: np.ndarray | None = None


@dataclass(frozen=True)
class Sample:
    """A label beside the physics: its energy, its exchange, and its forces without dispersion where they are
    labelled.

    Only net forces and torques of molecules are compared. The rest of an interaction force bends and
    stretches molecules, mostly because their own charges and polarizabilities change with their shape, which
    a correction that vanishes for a molecule alone is not to learn.
    """

    label: Label
    physics: float
    exchange: float
    physics_forces: np.ndarray | None

    @property
    def residual(self) -> float:
        """What the neural term should give, kJ/mol."""
        return self.label.total - self.physics


def load_library(folder: Path) -> tuple[ShortRange, dict[str, SpeciesParameters]]:
    """Short range and species, by name, of the library in `folder`.

    Raises:
        InputError: a file cannot be read.
    """
    return ShortRange.load(folder / SHORT_RANGE_FILE), library_species(folder)


def load_labels(root: Path, species: Mapping[str, SpeciesParameters]) -> list[Label]:
    """Dimers of the training set and labelled clusters in the record folder `root`, in a fixed order; a dimer
    that has been labelled again, with forces, counts once."""
    labelled = load_clusters(root / clusters.KIND, species)
    again: dict[str, list[Label]] = {}
    for label in labelled:
        again.setdefault(label.source, []).append(label)
    dimers = [Label(p.names, p.xyz, p.components["total"], p.scan) for p in load_dimers(root, species)]
    once = [one for one in dimers if not any(_same_place(one, other) for other in again.get(one.source, []))]
    return once + labelled


def _same_place(one: Label, other: Label) -> bool:
    """Whether two labels of a source are the same molecules at the same place."""
    return one.names == other.names and all(
        np.allclose(a, b, rtol=0.0, atol=SAME_PLACE) for a, b in zip(one.xyz, other.xyz, strict=True)
    )


def load_clusters(folder: Path, species: Mapping[str, SpeciesParameters]) -> list[Label]:
    """Cluster records in `folder` (files *.json) whose species are all known."""
    names = {s.mapped_smiles: s.name for s in species.values()}
    found = []
    for path in sorted(folder.glob("*.json")):
        content = read_record(path)
        monomers = content["spec"]["monomers"]
        if all(m["smiles"] in names for m in monomers):
            found.append(label_of(monomers, content["record"], content["spec"]["source"], names))
    return found


def label_of(
    monomers: Sequence[dict[str, Any]], record: dict[str, Any], source: str, names: Mapping[str, str]
) -> Label:
    """The label in a record of quantum chemistry; names: of species by their mapped SMILES."""
    forces = record.get("forces")
    return Label(
        tuple(names[m["smiles"]] for m in monomers),
        tuple(np.array(m["xyz_angstrom"]) * 0.1 for m in monomers),
        record["total"],
        source,
        None if forces is None else np.array(forces),
    )


def split_of(source: str) -> str:
    """ "train" or "test", by the name of a scan or cluster source."""
    return "test" if is_held_out(source) else "train"


def with_physics(labels: Sequence[Label], tensors: Mapping[str, SpeciesTensors]) -> list[Sample]:
    """The labels beside the energies, and where asked forces, of the torch reference."""
    found = []
    for label in labels:
        cluster = cluster_of(label, tensors)
        cluster.atoms.requires_grad_(label.forces is not None)
        parts = interaction_energy(cluster)
        forces = None
        if label.forces is not None:
            (gradient,) = torch.autograd.grad(parts["total"] - parts["dispersion"], cluster.atoms)
            forces = -gradient.numpy()
        found.append(Sample(label, parts["total"].item(), parts["exchange"].item(), forces))
    return found


def cluster_of(label: Label, tensors: Mapping[str, SpeciesTensors]) -> Cluster:
    """The monomers put together."""
    return Cluster.of([tensors[n] for n in label.names], [torch.tensor(x) for x in label.xyz])


def rigid_motions(xyz: np.ndarray) -> np.ndarray:
    """(n, 3, 6) orthonormal translations and rotations of a molecule at xyz (n, 3); zeros for those that an
    atom or a rod lacks."""
    arms = xyz - xyz.mean(axis=0)
    moves = [np.tile(axis, (len(xyz), 1)) for axis in np.eye(3)] + [
        np.cross(axis, arms) for axis in np.eye(3)
    ]
    basis, sizes, _ = np.linalg.svd(np.stack([move.ravel() for move in moves], axis=1), full_matrices=False)
    found = np.zeros((3 * len(xyz), 6))
    found[:, : basis.shape[1]] = basis * (sizes > 1e-9 * sizes[0])
    return found.reshape(len(xyz), 3, 6)


def rigid_part(forces: np.ndarray, label: Label) -> np.ndarray:
    """(A, 3) of forces (A, 3) on a label's atoms: net force and torque of each molecule, spread over its
    atoms so that nothing bends or stretches it."""
    parts, start = [], 0
    for xyz in label.xyz:
        motions = rigid_motions(xyz)
        shares = np.einsum("ax,axk->k", forces[start : start + len(xyz)], motions)
        parts.append(motions @ shares)
        start += len(xyz)
    return np.concatenate(parts)
