"""Training of the neural term: a committee learns what quantum chemistry leaves over after the physics.

Data are the dimers of the training set and whatever labelled clusters the store holds. Splits go by scan and
by cluster source: the test set is that of the short-range fit, and nothing of it enters a gradient. Members
of the committee differ by their starting weights and by the sixth of the other sources that each leaves out,
and that says which of its epochs was best. No experimental number enters. kJ/mol and nm.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from phyff.errors import FitError, InputError
from phyff.files import replace_atomically
from phyff.fit.short_range import CATION_EASE, IN_LIQUIDS, is_held_out, pair_title
from phyff.fit.training import load_dimers
from phyff.model.cluster import Cluster, interaction_energy
from phyff.model.neural import (
    CUTOFF,
    Architecture,
    AtomKinds,
    NeuralTerm,
    bonds_seen,
    initial_weights,
    neighbour_energies,
    neighbour_functions,
    pair_forces,
    predict,
)
from phyff.model.parameters import ShortRange, SpeciesTensors, species_tensors
from phyff.qm import clusters
from phyff.qm.store import read_record
from phyff.species.library import NEURAL_FILE, SHORT_RANGE_FILE
from phyff.species.parameters import SpeciesParameters, library_species

FOLDS = 6
"""Parts of the sources that are not held out; each member leaves one out. By a hash, not by their numbers:
equal numbers mean like approaches, and a fit that has never seen one says little about the others."""
FLOOR = 0.5
"""kJ/mol; energy errors are weighed against this, CATION_EASE times as much with a bare cation, times the
square root of the number of neighbours, plus RELATIVE of the energy and OF_EXCHANGE of its exchange."""
RELATIVE = 0.01
OF_EXCHANGE = 0.05
"""So that contacts of high energy, where no form fits all, count less and less."""
FORCE_FLOOR, FORCE_RELATIVE = 20.0, 0.05
"""kJ/mol/nm and share: force errors are weighed against these."""
ROBUST = 3.0
"""Weighted errors above it count linearly (Huber)."""
LAST_RATE = 0.02
"""Of the rate a training starts with."""
EVALUATE_EVERY = 4
"""Epochs between looks at what members left out."""
LARGEST_GRADIENT = 10.0
TINY = 1e-12
"""(kJ/mol/nm)^2; keeps the length of a force error differentiable."""
SAME_PLACE = 1e-5
"""nm; records are rounded to a tenth of that."""
PAD = -1
PRECISION = torch.float32
"""Of a training; residuals are known to 0.01 kJ/mol."""
SPLITS = ("train", "test")
LEFT_OUT = "left out"
"""Errors of training labels by the members that have not seen them."""
ALL = "all"
BARE_SATURATION = 400.0
"""kJ/mol; bound of the networks that have no physics to lean on."""
LEARNING_FRACTIONS = (0.25, 0.5, 1.0)
LEAVE_OUT = ("EMC", "PC", "DME", "FSI-")
"""Species whose transfer is studied: one training each."""


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


@dataclass(frozen=True)
class Schedule:
    """How a committee is trained.

    Attributes:
        epochs: of which each member keeps its best; batch: labels of a step.
        rate: of AdamW, falls along a cosine to LAST_RATE of itself. decay: of its weights.
        force_weight: of the mean squared force error against that of energies.
        seed: of weights and the order of the data.
    """

    epochs: int = 160
    batch: int = 64
    rate: float = 4e-3
    decay: float = 1e-2
    force_weight: float = 1.0
    seed: int = 2026

    def rate_at(self, epoch: int) -> float:
        """Of the steps of an epoch."""
        falling = 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs))
        return self.rate * (LAST_RATE + (1.0 - LAST_RATE) * falling)


def make_neural(
    folder: Path,
    architecture: Architecture,
    schedule: Schedule,
    studies: bool = True,
    leave_out: Sequence[str] = LEAVE_OUT,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the neural term of the library in `folder` (molecules/) on its records, write NEURAL_FILE there,
    and return the summary: errors by split and pair, and with `studies` also the learning curve with and
    without the physics, and the errors for the species `leave_out`, each left out of a training of its own.
    Stopped, it goes on where it was.

    Raises:
        FitError: there are no data. InputError: the library cannot be read, or knows no such species.
    """
    model, species = load_library(folder)
    labels = load_labels(folder / "records", species)
    used = sorted({name for label in labels for name in label.names})
    unknown = [name for name in leave_out if name not in species]
    if studies and unknown:
        raise InputError(f"leave-out: {', '.join(unknown)} is not in {folder}; see 'phyff info'.")
    tensors = {name: species_tensors(species[name], model) for name in used}
    say(f"physics of {len(labels)} labels")
    samples = with_physics(labels, tensors)
    parts = {split: [s for s in samples if split_of(s.label.source) == split] for split in SPLITS}
    say(", ".join(f"{split}: {len(own)} labels" for split, own in parts.items()))

    path = folder / NEURAL_FILE
    checkpoints: list[Path] = []

    def fit(title: str, train: Sequence[Sample], baseline: bool = True) -> NeuralTerm:
        checkpoints.append(path.with_suffix(f".{title.replace(' ', '-').replace(',', '')}.part"))
        shape = architecture if baseline else replace(architecture, saturation=BARE_SATURATION)
        seen = Data.of(train, tensors, shape.variant, baseline)
        return train_with_bar(title, seen, shape, schedule, checkpoints[-1])

    term = fit("neural term", parts["train"])
    errors = {split: errors_by_class(term, own, tensors) for split, own in parts.items()}
    errors[LEFT_OUT] = errors_by_class(term, parts["train"], tensors, by_left_out=True)
    summary: dict[str, Any] = {
        "architecture": asdict(architecture),
        "schedule": asdict(schedule),
        "labels": {split: len(own) for split, own in parts.items()},
        "errors": errors,
    }
    metadata = {
        **term.metadata,
        "command": "phyff train-neural",
        "date": datetime.now(UTC).date().isoformat(),
        "short_range": model.fingerprint,
        "species": used,
        "labels": summary["labels"],
        "test": summary["errors"]["test"][ALL],
    }
    NeuralTerm(term.architecture, term.weights, metadata).save(path)
    say(f"neural term: written to {path}")
    if studies:
        summary["learning_curve"] = [
            learning_point(fraction, parts, tensors, fit) for fraction in LEARNING_FRACTIONS
        ]
        without = {name: left_out(name, samples, tensors, fit) for name in leave_out if name in used}
        summary["left_out"] = {name: found for name, found in without.items() if found is not None}
    for checkpoint in checkpoints:  # kept so long, so that a killed study repeats no training
        checkpoint.unlink(missing_ok=True)
    return summary


def load_library(folder: Path) -> tuple[ShortRange, dict[str, SpeciesParameters]]:
    """Short range and species, by name, of the library in `folder`.

    Raises:
        InputError: a file cannot be read.
    """
    return ShortRange.load(folder / SHORT_RANGE_FILE), library_species(folder)


def learning_point(
    fraction: float,
    parts: Mapping[str, Sequence[Sample]],
    tensors: Mapping[str, SpeciesTensors],
    fit: Callable[..., NeuralTerm],
) -> dict[str, Any]:
    """Test errors after training on a share of the sources, with the physics and without."""
    sources = sorted({s.label.source for s in parts["train"]})
    order = np.random.default_rng(0).permutation(len(sources))[: max(FOLDS, round(fraction * len(sources)))]
    kept = {sources[k] for k in order}
    train = [s for s in parts["train"] if s.label.source in kept]
    row: dict[str, Any] = {"labels": len(train)}
    for name, baseline in (("hybrid", True), ("without_physics", False)):
        term = fit(f"{len(train)} labels, {name}", train, baseline)
        errors = errors_by_class(term, parts["test"], tensors, baseline)[ALL]
        if baseline:
            row["physics"] = {key: errors[f"physics_{key}"] for key in ("rms", "weighted_rms")}
        row[name] = {key: errors[f"hybrid_{key}"] for key in ("rms", "weighted_rms")}
    return row


def left_out(
    name: str,
    samples: Sequence[Sample],
    tensors: Mapping[str, SpeciesTensors],
    fit: Callable[..., NeuralTerm],
) -> dict[str, Any] | None:
    """Errors on all labels with a species after training without any of them; None when no others are
    left."""
    train = [s for s in samples if name not in s.label.names and split_of(s.label.source) == "train"]
    if not train:
        return None
    term = fit(f"without {name}", train)
    return errors_by_class(term, [s for s in samples if name in s.label.names], tensors)


def errors_by_class(
    term: NeuralTerm,
    samples: Sequence[Sample],
    tensors: Mapping[str, SpeciesTensors],
    baseline: bool = True,
    by_left_out: bool = False,
    classes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, dict[str, float]]:
    """Root mean square errors of physics and of the hybrid, by pair of species, number of molecules, and ALL,
    or by `classes`, which say what samples by number belong to each. by_left_out: the samples are those that
    the committee was trained on, and each is judged only by the members that left it out.

    "rms" is over labels with a total below zero, kJ/mol, and "total_rms" that of these totals; "weighted_rms"
    over all, weighted as in the training; "force_rms" of an atom's share of net force and torque, kJ/mol/nm;
    "spread" the committee's mean standard deviation.
    """
    if not samples:
        return {}
    data = Data.of(samples, tensors, term.architecture.variant, baseline)
    energies, forces = data.predict(term)
    judges = torch.ones_like(energies)
    if by_left_out:
        judges = 1.0 - data.training_masks(len(energies)).to(judges)
    judges = judges / judges.sum(0)
    errors = {
        "physics": np.array([s.residual for s in samples]) if baseline else data.targets.numpy(),
        "hybrid": (data.targets - (judges * energies).sum(0)).numpy(),
    }
    totals, weights = np.array([s.label.total for s in samples]), data.weights.numpy()
    attractive = totals < 0.0
    spread = energies.std(0, correction=0).numpy()
    forces = (judges[:, data.owner, None] * forces).sum(0)
    rows = {}
    for name, own in sorted(_classes(samples).items()) if classes is None else classes.items():
        mask = np.zeros(len(samples), dtype=bool)
        mask[list(own)] = True
        row = {"labels": float(len(own)), "attractive": float((mask & attractive).sum())}
        row["total_rms"] = _rms(totals[mask & attractive])
        for kind, error in errors.items():
            row[f"{kind}_rms"] = _rms(error[mask & attractive])
            row[f"{kind}_weighted_rms"] = _rms((error * weights)[mask])
        row["spread"] = float(spread[mask].mean())
        atoms = torch.tensor(mask)[data.owner] & (data.force_weights > 0)
        if baseline and atoms.any():
            row["physics_force_rms"] = _rms(data.forces[atoms].norm(dim=1).numpy())
            row["hybrid_force_rms"] = _rms((data.forces - forces)[atoms].norm(dim=1).numpy())
        rows[name] = {key: round(value, 4) for key, value in row.items() if np.isfinite(value)}
    return rows


@dataclass(frozen=True)
class Judgement:
    """How a committee does on some labelled clusters: means over clusters, kJ/mol and kJ/mol/nm.

    Attributes:
        clusters: how many.
        energy_error: root mean square of the hybrid's; energy_spread: mean of the committee's.
        force_error: root mean square of an atom's share of net force and torque, NaN without labelled forces;
            force_spread: mean of the largest of each cluster, of whole forces.
    """

    clusters: int
    energy_error: float
    energy_spread: float
    force_error: float
    force_spread: float


def judged(term: NeuralTerm, samples: Sequence[Sample], tensors: Mapping[str, SpeciesTensors]) -> Judgement:
    """Errors and spreads of the hybrid on samples, at least one."""
    found = [predict(term, cluster_of(s.label, tensors)) for s in samples]
    forces = [
        np.linalg.norm(rigid_part(s.label.forces - s.physics_forces - p.forces.numpy(), s.label), axis=1)
        for s, p in zip(samples, found, strict=True)
        if s.label.forces is not None and s.physics_forces is not None
    ]
    return Judgement(
        len(samples),
        _rms(np.array([s.residual - p.energy for s, p in zip(samples, found, strict=True)])),
        float(np.mean([p.energy_spread for p in found])),
        _rms(np.concatenate([np.empty(0), *forces])),
        float(np.mean([p.forces_spread.max().item() for p in found])),
    )


def _classes(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Which samples belong to a pair of species, to a number of molecules above two, and to ALL."""
    found: dict[str, list[int]] = {}
    for k, sample in enumerate(samples):
        names = sample.label.names
        pair = pair_title(sorted(names), IN_LIQUIDS in sample.label.source)
        own = pair if len(names) == 2 else f"{len(names)} molecules"
        for label in (own, ALL):
            found.setdefault(label, []).append(k)
    return found


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2))) if errors.size else np.nan


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


def folds_of(sources: Sequence[str]) -> list[int]:
    """Of each source the part it belongs to, alike for equal sources; all FOLDS are of equal size."""
    order = sorted(set(sources), key=lambda source: hashlib.sha256(source.encode()).digest())
    place = {source: k % FOLDS for k, source in enumerate(order)}
    return [place[source] for source in sources]


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


def cluster_of(label: Label, tensors: Mapping[str, SpeciesTensors]) -> Cluster:
    """The monomers put together."""
    return Cluster.of([tensors[n] for n in label.names], [torch.tensor(x) for x in label.xyz])


@dataclass(frozen=True)
class Data:
    """Samples as the training sees them: S samples and A atoms, all in one list each.

    Attributes:
        kinds, kind: of all species, and (A,) of every atom. owner: (A,) sample of each atom.
        molecule: (A,) number of each atom's molecule; motions: (A, 3, 6), see rigid_motions.
        neighbour, vectors: (A, N) atoms within the cut-off and (A, N, 3) the way to them; lists that are
            shorter end with PAD and vectors as long as the cut-off, where nothing is seen.
        bonds, ways: (2, B) atoms with a bond and (B, 3) the way from one to the other, see bonds_seen.
        functions: (A, N, F) neighbour_functions of the vectors and ways.
        targets, weights: (S,). labelled: (S,) whether a sample has forces.
        forces, force_weights: (A, 3) of rigid molecules and (A,), zero weight where there are none.
        fold: (S,) see folds_of.
    """

    kinds: AtomKinds
    kind: Tensor
    owner: Tensor
    molecule: Tensor
    motions: Tensor
    neighbour: Tensor
    vectors: Tensor
    bonds: Tensor
    ways: Tensor
    functions: Tensor
    targets: Tensor
    weights: Tensor
    labelled: Tensor
    forces: Tensor
    force_weights: Tensor
    fold: Tensor
    variant: str

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        tensors: Mapping[str, SpeciesTensors],
        variant: str,
        baseline: bool = True,
    ) -> Data:
        """baseline: whether the physics is taken off. Raises FitError when there are no samples."""
        if not samples:
            raise FitError("The neural term has no labels to learn from; run 'phyff train' first.")
        kinds, numbers = AtomKinds.of([tensors[n] for n in sorted(tensors)])
        kind_of = dict(zip(sorted(tensors), numbers, strict=True))
        found = [cluster_of(s.label, tensors) for s in samples]
        sizes = [len(c.atoms) for c in found]
        kind = torch.cat([kind_of[n] for s in samples for n in s.label.names])
        neighbour, vectors = _neighbour_lists(found)
        bonds = bonds_seen(variant, [s for c in found for s in c.species])
        xyz = torch.cat([c.atoms for c in found])
        ways = xyz[bonds[1]] - xyz[bonds[0]]
        forces = [_force_target(s, n, baseline) for s, n in zip(samples, sizes, strict=True)]
        return cls(
            kinds=kinds,
            kind=kind,
            owner=torch.repeat_interleave(torch.tensor(sizes)),
            molecule=torch.repeat_interleave(torch.tensor([len(x) for s in samples for x in s.label.xyz])),
            motions=torch.tensor(np.concatenate([rigid_motions(x) for s in samples for x in s.label.xyz])),
            neighbour=neighbour,
            vectors=vectors,
            bonds=bonds,
            ways=ways,
            functions=neighbour_functions(variant, kinds, kind, neighbour, vectors, bonds, ways),
            targets=torch.tensor(
                [s.residual if baseline else s.label.total for s in samples], dtype=torch.float64
            ),
            weights=torch.tensor([energy_weight(s, tensors) for s in samples], dtype=torch.float64),
            labelled=torch.tensor([s.label.forces is not None for s in samples]),
            forces=torch.cat([target for target, _ in forces]),
            force_weights=torch.cat([weight for _, weight in forces]),
            fold=torch.tensor(folds_of([s.label.source for s in samples])),
            variant=variant,
        )

    def part(self, chosen: Tensor) -> Data:
        """The samples of the boolean mask (S,)."""
        atoms = chosen[self.owner]
        number = torch.cumsum(chosen, 0) - 1
        place = torch.cumsum(atoms, 0) - 1
        neighbour = self.neighbour[atoms]
        real = neighbour != PAD
        longest = int(real.sum(1).max()) if len(real) else 0
        bonds = atoms[self.bonds[0]]
        neighbour = torch.where(real, place[neighbour], PAD)[:, :longest]
        return replace(
            self,
            kind=self.kind[atoms],
            owner=number[self.owner[atoms]],
            molecule=torch.unique(self.molecule[atoms], return_inverse=True)[1],
            motions=self.motions[atoms],
            neighbour=neighbour,
            vectors=self.vectors[atoms, :longest],
            bonds=place[self.bonds[:, bonds]],
            ways=self.ways[bonds],
            functions=self.functions[atoms, :longest],
            targets=self.targets[chosen],
            weights=self.weights[chosen],
            labelled=self.labelled[chosen],
            forces=self.forces[atoms],
            force_weights=self.force_weights[atoms],
            fold=self.fold[chosen],
        )

    def training_masks(self, members: int) -> Tensor:
        """(members, S) whether a member learns from a sample; each leaves a part out."""
        return self.fold != torch.arange(members)[:, None] % FOLDS

    def to(self, precision: torch.dtype) -> Data:
        """The same in another precision."""
        floats: dict[str, Any] = {
            name: value.to(precision)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        return replace(self, kinds=self.kinds.to(precision), **floats)

    def energies(self, term: NeuralTerm) -> Tensor:
        """(members, S) kJ/mol."""
        return self._of_samples(
            neighbour_energies(term, self.kinds, self.kind, self.neighbour, self.functions)
        )

    def energies_and_forces(self, term: NeuralTerm, create_graph: bool = False) -> tuple[Tensor, Tensor]:
        """(members, S) kJ/mol, and (members, A, 3) kJ/mol/nm of what moves molecules as wholes, see
        rigid_part."""
        members = term.architecture.members
        vectors, ways = (
            way.expand(members, *way.shape).clone().requires_grad_(True) for way in (self.vectors, self.ways)
        )
        functions = neighbour_functions(
            self.variant, self.kinds, self.kind, self.neighbour, vectors, self.bonds, ways
        )
        atomic = neighbour_energies(term, self.kinds, self.kind, self.neighbour, functions)
        slopes, turns = torch.autograd.grad(
            atomic.sum(), (vectors, ways), create_graph=create_graph, materialize_grads=True
        )
        forces = slopes.sum(2).index_add(1, self.neighbour.clamp(min=0).flatten(), -slopes.flatten(1, 2))
        forces = forces + pair_forces(self.bonds, turns, len(self.kind))
        shares = torch.einsum("max,axk->mak", forces, self.motions)
        of_molecules = shares.new_zeros((members, int(self.molecule.max()) + 1, 6))
        of_molecules = of_molecules.index_add(1, self.molecule, shares)
        rigid = torch.einsum("axk,mak->max", self.motions, of_molecules[:, self.molecule])
        return self._of_samples(atomic), rigid

    def predict(self, term: NeuralTerm) -> tuple[Tensor, Tensor]:
        """The same without gradients; forces of samples that have labelled ones, zero elsewhere."""
        energies, forces = (
            self.energies(term).detach(),
            self.forces.new_zeros((term.architecture.members, *self.forces.shape)),
        )
        if self.labelled.any():
            forces[:, self.labelled[self.owner]] = (
                self.part(self.labelled).energies_and_forces(term)[1].detach()
            )
        return energies, forces

    def _of_samples(self, atomic: Tensor) -> Tensor:
        return atomic.new_zeros((len(atomic), len(self.targets))).index_add(1, self.owner, atomic)


def _neighbour_lists(found: Sequence[Cluster]) -> tuple[Tensor, Tensor]:
    """(A, N) and (A, N, 3), see Data, of clusters in one list."""
    rows, start = [], 0
    for cluster in found:
        gaps = cluster.atoms[None] - cluster.atoms[:, None]
        near = (gaps.norm(dim=2) < CUTOFF) & (cluster.molecule[:, None] != cluster.molecule[None])
        rows += [(torch.nonzero(own)[:, 0] + start, gap[own]) for own, gap in zip(near, gaps, strict=True)]
        start += len(cluster.atoms)
    longest = max(len(numbers) for numbers, _ in rows)
    neighbour = torch.full((start, longest), PAD)
    vectors = torch.zeros((start, longest, 3), dtype=torch.float64)
    vectors[..., 0] = CUTOFF
    for k, (numbers, gaps) in enumerate(rows):
        neighbour[k, : len(numbers)], vectors[k, : len(numbers)] = numbers, gaps
    return neighbour, vectors


def energy_weight(sample: Sample, tensors: Mapping[str, SpeciesTensors]) -> float:
    """One over the error that is tolerated."""
    names, total = sample.label.names, sample.label.total
    bare = any(tensors[n].is_bare_cation for n in names)
    floor = FLOOR * (CATION_EASE if bare else 1.0) * (len(names) - 1) ** 0.5
    return 1.0 / (floor + RELATIVE * abs(total) + OF_EXCHANGE * sample.exchange)


def _force_target(sample: Sample, size: int, baseline: bool) -> tuple[Tensor, Tensor]:
    """(n, 3) forces the network should give and (n,) weights."""
    if sample.label.forces is None or sample.physics_forces is None:
        return torch.zeros((size, 3), dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    label = rigid_part(sample.label.forces, sample.label)
    physics = rigid_part(sample.physics_forces, sample.label)
    weight = 1.0 / (FORCE_FLOOR + FORCE_RELATIVE * np.linalg.norm(label, axis=1))
    return torch.tensor(label - physics if baseline else label), torch.tensor(weight)


def train_with_bar(
    title: str, data: Data, architecture: Architecture, schedule: Schedule, checkpoint: Path
) -> NeuralTerm:
    """As `train_committee`, with a progress bar over the epochs."""
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=schedule.epochs)
        return train_committee(
            data, architecture, schedule, checkpoint, lambda epoch: bar.update(task, completed=epoch)
        )


def train_committee(
    train: Data,
    architecture: Architecture,
    schedule: Schedule,
    checkpoint: Path | None = None,
    progress: Callable[[int], None] = lambda epoch: None,
) -> NeuralTerm:
    """Each member's weights where its loss on what it leaves out was lowest. A `checkpoint` of the same data
    and settings is taken up where it stopped, or taken as it is when it was finished.

    Raises:
        FitError: there are fewer than FOLDS sources.
    """
    if len(train.fold.unique()) < FOLDS:
        raise FitError(
            f"The neural term learns from {FOLDS} scans or cluster centres at least, for a part of them is "
            "left out by each network; label more with 'phyff label'."
        )
    train = train.to(PRECISION)
    weights = {
        name: w.to(PRECISION).requires_grad_(True)
        for name, w in initial_weights(architecture, schedule.seed).items()
    }
    state = _State.fresh(weights, schedule, _fingerprint(train, architecture, schedule))
    if checkpoint is not None and checkpoint.is_file():
        state.resume(checkpoint)
    learned = train.training_masks(architecture.members).to(PRECISION)
    while state.epoch < schedule.epochs:
        for group in state.optimizer.param_groups:
            group["lr"] = schedule.rate_at(state.epoch)
        order = torch.randperm(
            len(train.targets), generator=torch.Generator().manual_seed(schedule.seed + state.epoch)
        )
        for chosen in order.split(schedule.batch):
            mask = torch.zeros(len(order), dtype=torch.bool)
            mask[chosen] = True
            term = NeuralTerm(architecture, weights, {})
            loss = _loss(term, train.part(mask), schedule, learned[:, mask], create_graph=True).sum()
            state.optimizer.zero_grad()
            loss.backward()
            _clip([w.grad for w in weights.values() if w.grad is not None])
            state.optimizer.step()
        state.epoch += 1
        if state.epoch % EVALUATE_EVERY == 0 or state.epoch == schedule.epochs:
            frozen = NeuralTerm(architecture, {name: w.detach() for name, w in weights.items()}, {})
            state.keep_best(_loss(frozen, train, schedule, 1.0 - learned).detach())
        if checkpoint is not None and (state.epoch % 20 == 0 or state.epoch == schedule.epochs):
            state.save(checkpoint)
        progress(state.epoch)
    metadata = {
        "schedule": asdict(schedule),
        "best_epochs": state.best_epochs.tolist(),
        "left_out_loss": state.lowest.tolist(),
    }
    return NeuralTerm(architecture, state.best, metadata).to(torch.float64)


def _loss(
    term: NeuralTerm,
    data: Data,
    schedule: Schedule,
    counts: Tensor,
    create_graph: bool = False,
) -> Tensor:
    """(members,) robust mean square of the weighted errors; counts (members, S): weights of the samples."""
    summed, of_forces = counts.new_zeros(len(counts)), counts.new_zeros(len(counts))
    for with_forces in (False, True):
        own = data.labelled == with_forces
        if not own.any():
            continue
        part, counted = data.part(own), counts[:, own]
        if with_forces:
            energies, forces = part.energies_and_forces(term, create_graph)
            of_atoms = counted[:, part.owner] * (part.force_weights > 0)
            misses = torch.sqrt(((forces - part.forces) ** 2).sum(-1) + TINY) * part.force_weights
            of_forces = (of_atoms * _robust(misses)).sum(1) / of_atoms.sum(1).clamp(min=1.0)
        else:
            energies = part.energies(term)
        summed = summed + (counted * _robust((energies - part.targets) * part.weights)).sum(1)
    return summed / counts.sum(1).clamp(min=1.0) + schedule.force_weight * of_forces


def _clip(gradients: Sequence[Tensor]) -> None:
    """Shorten each member's gradient to LARGEST_GRADIENT, in place."""
    length = torch.sqrt(sum(((g**2).flatten(1).sum(1) for g in gradients), gradients[0].new_zeros(())))
    for gradient in gradients:
        gradient *= (LARGEST_GRADIENT / length).clamp(max=1.0)[:, None, None]


def _robust(error: Tensor) -> Tensor:
    return 2.0 * torch.nn.functional.huber_loss(
        error, torch.zeros_like(error), reduction="none", delta=ROBUST
    )


@dataclass
class _State:
    """Where a training stands; `best` is by member, at its `lowest` loss on what it leaves out."""

    weights: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    best: dict[str, Tensor]
    lowest: Tensor
    best_epochs: Tensor
    epoch: int
    fingerprint: str

    @classmethod
    def fresh(cls, weights: dict[str, Tensor], schedule: Schedule, fingerprint: str) -> _State:
        optimizer = torch.optim.AdamW(list(weights.values()), lr=schedule.rate, weight_decay=schedule.decay)
        members = len(next(iter(weights.values())))
        best = {name: w.detach().clone() for name, w in weights.items()}
        lowest = torch.full((members,), torch.inf, dtype=PRECISION)
        none_yet = torch.zeros(members, dtype=torch.long)
        return cls(weights, optimizer, best, lowest, none_yet, 0, fingerprint)

    def keep_best(self, losses: Tensor) -> None:
        better = losses < self.lowest
        self.lowest = torch.where(better, losses, self.lowest)
        for name, w in self.weights.items():
            self.best[name][better] = w.detach()[better]
        self.best_epochs[better] = self.epoch

    def save(self, path: Path) -> None:
        tensors = {f"weights.{name}": w.detach() for name, w in self.weights.items()}
        tensors |= {f"best.{name}": w for name, w in self.best.items()}
        tensors |= {"lowest": self.lowest, "best_epochs": self.best_epochs}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        header = {"epoch": str(self.epoch), "fingerprint": self.fingerprint}
        whole = {name: t.contiguous() for name, t in tensors.items()}
        replace_atomically(path, lambda partial: save_file(whole, partial, header))

    def resume(self, path: Path) -> None:
        """Take over what `save` wrote, unless it belongs to other data or settings."""
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            if header["fingerprint"] != self.fingerprint:
                return
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "weights":
                self.weights[rest].data.copy_(value)
            elif kind == "best":
                self.best[rest] = value
            elif kind == "optimizer":
                number, _, moment = rest.partition(".")
                moments.setdefault(int(number), {})[moment] = value
        self.lowest, self.best_epochs = tensors["lowest"], tensors["best_epochs"]
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.epoch = int(header["epoch"])


def _fingerprint(train: Data, architecture: Architecture, schedule: Schedule) -> str:
    digest = hashlib.sha256(json.dumps([asdict(architecture), asdict(schedule)], sort_keys=True).encode())
    for tensor in (train.targets, train.forces, train.functions):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
