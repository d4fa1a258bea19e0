"""The training of a committee of networks on labelled clusters, in batches.

Members differ by their starting weights and by the sixth of the sources that each leaves out, and that says
which of its epochs was best. kJ/mol and nm.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from phyff.errors import FitError
from phyff.files import replace_atomically
from phyff.fit.labels import Sample, cluster_of, rigid_motions, rigid_part
from phyff.fit.short_range import CATION_EASE
from phyff.model.cluster import Cluster
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
)
from phyff.model.parameters import SpeciesTensors

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


PAD = -1


PRECISION = torch.float32
"""Of a training; residuals are known to 0.01 kJ/mol."""


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


def folds_of(sources: Sequence[str]) -> list[int]:
    """Of each source the part it belongs to, alike for equal sources; all FOLDS are of equal size."""
    order = sorted(set(sources), key=lambda source: hashlib.sha256(source.encode()).digest())
    place = {source: k % FOLDS for k, source in enumerate(order)}
    return [place[source] for source in sources]


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
