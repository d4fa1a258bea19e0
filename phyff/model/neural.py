"""E_nn: a small committee of networks for what the physics leaves over between neighbouring molecules.

Atom-centred and many-body (Behler and Parrinello 2007, doi 10.1103/PhysRevLett.98.146401). Neighbours in
other molecules enter as sums over radial functions and over the moments l = 1, 2 of their directions,
weighted by a learned embedding of their physics parameters, so that a new molecule needs no training of its
own:

    E_nn = sum_i [ 1/2 sum_j sum_k c_k(i, j) R_k(r_ij) + S tanh(N(x_i) - N(0)) ]

with R_k = f(r) w(r) g_k(r): Gaussians g_k and the pair's exchange energy, which with directions is what
exchange lacks where atoms are no spheres; a cut-off f that ends with two continuous derivatives, and a factor
w that removes a pair where its exchange energy says the physical wall must rule. An isolated species has
x = 0 and no pairs, so its E_nn is zero exactly. nm, kJ/mol.

An atom of the variant "oriented" also knows how its own bonds point: the moments of their directions turn
those of the neighbours into further functions R_k of each pair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rdkit import Chem
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from phyff.errors import InputError
from phyff.files import write_atomically
from phyff.model.cluster import Cluster
from phyff.model.pairs import COMPONENTS, slater_overlap
from phyff.model.parameters import SpeciesTensors

FORMAT = "phyff-neural-2"
CUTOFF = 0.55
WALL = 200.0
"""kJ/mol of exchange between two atoms that leaves half of their contribution; liquids stay below 100."""
RADIAL = tuple(0.16 + 0.05 * k for k in range(7))
RADIAL_WIDTH = 0.06
ANGULAR = (0.18, 0.26, 0.34)
ANGULAR_WIDTH = 0.1
N_RADIAL, N_ANGULAR = len(RADIAL) + 1, len(ANGULAR) + 1
"""Functions of the distance: the Gaussians, and the pair's exchange energy after them."""
MOMENTS = (3 * N_ANGULAR, 5 * N_ANGULAR)
"""Components of the l = 1 and l = 2 moments of a neighbour."""
ALONG_BONDS = 3 * N_ANGULAR
"""Scalars that an atom's own bonds make of these."""
VARIANTS = ("pair", "radial", "angular", "oriented")
SEE_DIRECTIONS = ("angular", "oriented")
SEE_BONDS = ("oriented",)
DESCRIPTORS = 10
"""Numbers that tell the network what an atom is; see `descriptors`."""


@dataclass(frozen=True)
class Architecture:
    """Shape of the networks of a committee.

    Attributes:
        variant: "pair" has the sum over pairs alone, "radial" adds the network of radial sums, "angular" also
            those of l = 1 and l = 2, "oriented" how both lie to the atom's own bonds.
        members: networks of the committee.
        channels: learned weights of a neighbour.
        hidden: width of the two hidden layers.
        saturation: S, kJ/mol; no atom's network and no radial function of a pair gives more.
    """

    variant: Literal["pair", "radial", "angular", "oriented"] = "oriented"
    members: int = 6
    channels: int = 8
    hidden: int = 24
    saturation: float = 40.0

    @property
    def features(self) -> int:
        """Inputs of an atom's network."""
        lengths = 2 * N_ANGULAR if self.variant in SEE_DIRECTIONS else 0
        return (self.scalars + lengths) * self.channels

    @property
    def scalars(self) -> int:
        """Functions of a pair that do not turn with the cluster."""
        return N_RADIAL + (ALONG_BONDS if self.variant in SEE_BONDS else 0)


@dataclass(frozen=True, eq=False)
class NeuralTerm:
    """A trained committee; two are equal when their files are.

    Attributes:
        weights: by name, the member first.
        metadata: how it was trained, in plain JSON types.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The content of its safetensors file, with architecture and metadata as readable JSON."""
        header = {"architecture": asdict(self.architecture), "metadata": dict(self.metadata)}
        tensors = {name: self.weights[name].contiguous() for name in sorted(self.weights)}
        content: bytes = save(tensors, metadata={FORMAT: json.dumps(header, sort_keys=True)})
        return content

    def save(self, path: Path) -> None:
        """Write the safetensors file."""
        write_atomically(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> NeuralTerm:
        """Read a safetensors file.

        Raises:
            InputError: it is missing, or is not one of ours.
        """
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError as error:
            raise InputError(f"Neural term {path} cannot be read; check the path.") from error
        except ValueError as error:
            raise InputError(
                f"Neural term {path}: {error}; 'phyff train-neural' makes one from the library's records."
            ) from error

    @classmethod
    def from_bytes(cls, content: bytes) -> NeuralTerm:
        """The inverse of `to_bytes`; ValueError when these are not the bytes of a neural term."""
        try:
            weights = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
            about = json.loads(header[FORMAT])
            return cls(Architecture(**about["architecture"]), weights, about["metadata"])
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a neural term of PhyFF (format '{FORMAT}' expected)") from error

    def to(self, dtype: torch.dtype) -> NeuralTerm:
        """The same in another precision."""
        return replace(self, weights={name: w.to(dtype) for name, w in self.weights.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NeuralTerm) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())


@dataclass(frozen=True)
class Prediction:
    """What a committee says of A atoms: kJ/mol, kJ/mol/nm. Spreads are standard deviations over members.

    Attributes:
        energy, energy_spread: mean and spread.
        forces: (A, 3); forces_spread: (A,) spread of the length of the force's error vector.
    """

    energy: float
    energy_spread: float
    forces: Tensor
    forces_spread: Tensor


def predict(term: NeuralTerm, cluster: Cluster) -> Prediction:
    """Mean and spread of energy and forces of a cluster."""
    return predict_pairs(term, *_neighbourhood(term.architecture.variant, cluster))


def predict_pairs(
    term: NeuralTerm, kinds: AtomKinds, kind: Tensor, pairs: Pairs, vectors: Tensor
) -> Prediction:
    """The same of atoms with kinds (A,) that see one another as `pairs` (P + B) and r_j - r_i (P + B, 3)
    tell, nm, in the precision of term, kinds and vectors."""
    if not pairs.between.shape[1]:
        nothing = vectors.new_zeros((len(kind), 3))
        return Prediction(0.0, 0.0, nothing, nothing[:, 0])
    moved = vectors.detach().requires_grad_(True)
    sums = neighbour_sums(term.architecture.variant, kinds, kind, pairs, moved)
    energies = atomic_energies(term, kinds, kind, sums).double().sum(1)
    forces = member_forces(energies, pairs, moved, len(kind))
    mean = forces.mean(0)
    return Prediction(
        energies.mean().item(),
        energies.std(correction=0).item(),
        mean,
        ((forces - mean) ** 2).sum(-1).mean(0).sqrt(),
    )


def member_forces(energies: Tensor, pairs: Pairs, vectors: Tensor, atoms: int) -> Tensor:
    """(members, atoms, 3) kJ/mol/nm from the energies (members,) that depend on the `vectors` (P + B, 3) of
    pairs."""
    slopes = [torch.autograd.grad(energy, vectors, retain_graph=True)[0] for energy in energies]
    return pair_forces(pairs.all, torch.stack(slopes), atoms)


def pair_forces(pairs: Tensor, slope: Tensor, atoms: int) -> Tensor:
    """(..., atoms, 3) from the derivatives (..., P, 3) of an energy by the vectors of pairs (2, P)."""
    force = slope.new_zeros((*slope.shape[:-2], atoms, 3)).index_add(-2, pairs[0], slope)
    return force.index_add(-2, pairs[1], -slope)


def neural_energies(term: NeuralTerm, cluster: Cluster) -> Tensor:
    """(members,) E_nn of a cluster; the model's energy is their mean."""
    kinds, kind, pairs, vectors = _neighbourhood(term.architecture.variant, cluster)
    sums = neighbour_sums(term.architecture.variant, kinds, kind, pairs, vectors)
    return atomic_energies(term, kinds, kind, sums).sum(1)


@dataclass(frozen=True)
class Pairs:
    """Pairs of atoms that matter to each other, each once.

    Attributes:
        between: (2, P) atoms of different molecules.
        bonds: (2, B) atoms of a molecule with a bond, none for a variant that does not see them.
    """

    between: Tensor
    bonds: Tensor

    @property
    def all(self) -> Tensor:
        """(2, P + B)."""
        return torch.cat([self.between, self.bonds], 1)


def bonds_seen(variant: str, molecules: Sequence[SpeciesTensors]) -> Tensor:
    """(2, B) bonds between atoms counted through all molecules; none for a variant that does not see them."""
    found, first = [torch.zeros((2, 0), dtype=torch.long)], 0
    for species in molecules if variant in SEE_BONDS else ():
        found.append(species.bonds + first)
        first += len(species.elements)
    return torch.cat(found, 1)


def _neighbourhood(variant: str, cluster: Cluster) -> tuple[AtomKinds, Tensor, Pairs, Tensor]:
    """Kinds, the kind (A,) of every atom, pairs within the cut-off with bonds, and vectors (P + B, 3)."""
    kinds, numbers = AtomKinds.of(cluster.species)
    between = cluster.atom_pairs()
    gaps = (cluster.atoms[between[1]] - cluster.atoms[between[0]]).detach().norm(dim=1)
    pairs = Pairs(between[:, gaps < CUTOFF], bonds_seen(variant, cluster.species))
    first, second = pairs.all
    return kinds, torch.cat(numbers), pairs, cluster.atoms[second] - cluster.atoms[first]


@dataclass(frozen=True)
class AtomKinds:
    """The distinct atoms of some species, T of them.

    Attributes:
        descriptors: (T, DESCRIPTORS).
        exponents, amplitudes: (T,) of exchange, as in SpeciesTensors.
    """

    descriptors: Tensor
    exponents: Tensor
    amplitudes: Tensor

    @classmethod
    def of(cls, species: Sequence[SpeciesTensors]) -> tuple[AtomKinds, list[Tensor]]:
        """The kinds, and for each species the kind (n,) of its atoms."""
        exchange = COMPONENTS.index("exchange")
        rows = torch.cat(
            [
                torch.cat([descriptors(s), s.exponents[:, None], s.amplitudes[exchange][:, None]], 1)
                for s in species
            ]
        )
        distinct, number = torch.unique(rows, dim=0, return_inverse=True)
        kinds = cls(distinct[:, :DESCRIPTORS], distinct[:, DESCRIPTORS], distinct[:, DESCRIPTORS + 1])
        return kinds, list(torch.split(number, [len(s.elements) for s in species]))

    def to(self, dtype: torch.dtype) -> AtomKinds:
        """The same in another precision."""
        return AtomKinds(self.descriptors.to(dtype), self.exponents.to(dtype), self.amplitudes.to(dtype))


def descriptors(species: SpeciesTensors) -> Tensor:
    """(n, DESCRIPTORS) of order one: the element's row, outer electrons and covalent radius, the MBIS charge,
    the molecule's net charge, and the model's own exchange, polarizability and dispersion."""
    table = Chem.GetPeriodicTable()
    element = [
        (_row(table.GetAtomicNumber(e)), table.GetNOuterElecs(e), table.GetRcovalent(e))
        for e in species.elements
    ]
    row, outer, radius = torch.tensor(element, dtype=torch.float64).T
    charge = species.multipoles.charges
    columns = (
        (row - 2.0) / 1.5,
        (outer - 4.0) / 3.0,
        (radius - 0.8) / 0.4,
        charge,
        charge.sum().expand_as(charge),
        species.exponents**2 / 10.0 - 5.0,
        torch.log10(species.amplitudes[COMPONENTS.index("exchange")].clamp(min=1.0)) - 2.0,
        10.0 * species.multipoles.alpha ** (1 / 3) - 1.0,
        50.0 * species.c6 - 1.0,
        torch.log(torch.tensor(float(len(charge)))).expand_as(charge) - 2.0,
    )
    return torch.stack(columns, dim=1)


def _row(number: int) -> int:
    """Of the periodic table."""
    return 1 + sum(number > last for last in (2, 10, 18, 36, 54))


def neighbour_sums(variant: str, kinds: AtomKinds, kind: Tensor, pairs: Pairs, vectors: Tensor) -> Tensor:
    """(A, T, F) what atoms of kinds (A,) see of their neighbours, by the neighbours' kind T: sums of
    pair_functions and of what `along_bonds` makes of them. `vectors`: r_j - r_i (P + B, 3) of the pairs."""
    n, n_kinds = len(kind), len(kinds.exponents)
    first, second = pairs.between
    gaps, ways = vectors.split([len(first), pairs.bonds.shape[1]])
    seen_by_first = pair_functions(variant, kinds, kind[first], kind[second], gaps)
    reverse = torch.ones(seen_by_first.shape[1], dtype=vectors.dtype)
    reverse[N_RADIAL : N_RADIAL + MOMENTS[0]] = -1.0
    total = torch.zeros((n * n_kinds, seen_by_first.shape[1]), dtype=vectors.dtype)
    total = total.index_add(0, first * n_kinds + kind[second], seen_by_first)
    total = total.index_add(0, second * n_kinds + kind[first], seen_by_first * reverse)
    total = total.view(n, n_kinds, -1)
    return along_bonds(total, pairs.bonds, ways) if variant in SEE_BONDS else total


def along_bonds(functions: Tensor, bonds: Tensor, ways: Tensor) -> Tensor:
    """pair_functions (..., A, N, F) that each of A atoms sees, or sums of these, with ALONG_BONDS more after
    the radial ones: products of the moments with those of the directions `ways` (..., B, 3) of bonds (2, B)
    to the atoms bonded to it. l = 1: their sum; l = 2: the sum of their traceless squares, and the traceless
    square of their sum."""
    direction = ways / torch.linalg.vector_norm(ways, dim=-1, keepdim=True)
    square = _quadrupole(direction)
    shape, (first, second) = functions.shape[:-2], bonds
    dipole = ways.new_zeros((*ways.shape[:-2], shape[-1], 3))
    dipole = dipole.index_add(-2, first, direction).index_add(-2, second, -direction)
    quadrupole = ways.new_zeros((*ways.shape[:-2], shape[-1], 5))
    quadrupole = quadrupole.index_add(-2, first, square).index_add(-2, second, square)
    radial, vectors, tensors = functions.split((N_RADIAL, *MOMENTS), dim=-1)
    products = [
        (moment.unflatten(-1, (N_ANGULAR, -1)).flatten(-3, -2) @ own[..., None])
        .squeeze(-1)
        .unflatten(-1, (-1, N_ANGULAR))
        for moment, own in ((vectors, dipole), (tensors, quadrupole), (tensors, _quadrupole(dipole)))
    ]
    return torch.cat([radial, *products, vectors, tensors], dim=-1)


def pair_functions(variant: str, kinds: AtomKinds, first: Tensor, second: Tensor, vectors: Tensor) -> Tensor:
    """(..., F) what atoms of kinds `first` see of neighbours of kinds `second` (...) at r_j - r_i (..., 3):
    radial functions, then where the variant has them those of the l = 1 and l = 2 moments."""
    r = torch.linalg.vector_norm(vectors, dim=-1)
    share = exchange_share(r, kinds, first, second)
    contact = 2.0 * share[..., None]  # times wall_factor no more than one
    columns = [_gaussians(r, RADIAL, RADIAL_WIDTH), contact]
    if variant in SEE_DIRECTIONS:
        angular = torch.cat([_gaussians(r, ANGULAR, ANGULAR_WIDTH), contact], dim=-1)[..., None]
        direction = vectors / r[..., None]
        columns += [(angular * y[..., None, :]).flatten(-2) for y in (direction, _quadrupole(direction))]
    weight = cutoff_function(r) * wall_factor(share)
    return torch.cat(columns, dim=-1) * weight[..., None]


def cutoff_function(r: Tensor) -> Tensor:
    """(1 - (r/rc)^2)^3, zero beyond: value, slope and curvature vanish at the cut-off."""
    return torch.clamp(1.0 - (r / CUTOFF) ** 2, min=0.0) ** 3


def exchange_share(r: Tensor, kinds: AtomKinds, first: Tensor, second: Tensor) -> Tensor:
    """Exchange energy of pairs of kinds, in WALL."""
    overlap = slater_overlap(r, kinds.exponents[first] * kinds.exponents[second])
    return kinds.amplitudes[first] * kinds.amplitudes[second] * overlap / WALL


def wall_factor(share: Tensor) -> Tensor:
    """1 / (1 + share^2) of exchange_share."""
    return 1.0 / (1.0 + share**2)


def _gaussians(r: Tensor, centres: Sequence[float], width: float) -> Tensor:
    """(..., K) exp(-((r - c)/w)^2), the square expanded about the middle: one product for all centres."""
    middle = sum(centres) / len(centres)
    x, c = r - middle, torch.tensor(centres, dtype=r.dtype) - middle
    powers = torch.stack([x * x, x, torch.ones_like(x)], dim=-1)
    return torch.exp(powers @ (torch.stack([-torch.ones_like(c), 2.0 * c, -c * c]) / width**2))


def _quadrupole(vectors: Tensor) -> Tensor:
    """(..., 5) traceless squares of vectors (..., 3); products of two sum to (cos^2 - 1/3)/2 of the angle
    between their vectors, times the squares of the lengths."""
    x, y, z = vectors.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack([x * y, y * z, x * z, (xx - yy) / 2.0, (2.0 * zz - xx - yy) / 12.0**0.5], dim=-1)


def atomic_energies(term: NeuralTerm, kinds: AtomKinds, kind: Tensor, sums: Tensor) -> Tensor:
    """(members, A) share of each atom of kinds (A,) from its neighbour_sums (A, T, F)."""
    known = KindWeights.of(term, kinds)
    scalars = sums[..., : term.architecture.scalars]
    for_every_kind = known.strengths.flatten(2) @ scalars.flatten(1).T  # (M, T, A)
    pair = 0.5 * term.architecture.saturation * for_every_kind[:, kind, torch.arange(len(kind))]
    if known.gate is None:
        return pair
    return pair + _network_energies(term, known, kind, _mixed(sums, known.embedding))


def neighbour_energies(
    term: NeuralTerm, kinds: AtomKinds, kind: Tensor, neighbour: Tensor, functions: Tensor
) -> Tensor:
    """(members, A) the same, from lists of the neighbours of each atom.

    For many kinds of atoms of which each cluster has a few, as in a training; `atomic_energies` is for many
    atoms of a few kinds. neighbour: (A, N) numbers of atoms; functions: (A, N, F) of neighbour_functions, or
    of each member (members, A, N, F), zero where a list is shorter.
    """
    known = KindWeights.of(term, kinds)
    other = kind[neighbour]
    strengths, scalars = known.strengths[:, kind[:, None], other], functions[..., : term.architecture.scalars]
    pair = 0.5 * term.architecture.saturation * (strengths * scalars).sum((2, 3))
    if known.gate is None:
        return pair
    mixed = functions.transpose(-1, -2) @ known.embedding[:, other]
    return pair + _network_energies(term, known, kind, mixed)


def neighbour_functions(
    variant: str,
    kinds: AtomKinds,
    kind: Tensor,
    neighbour: Tensor,
    vectors: Tensor,
    bonds: Tensor,
    ways: Tensor,
) -> Tensor:
    """(..., A, N, F) functions for `neighbour_energies`, with the neighbours at `vectors` (..., A, N, 3) and
    `ways` (..., B, 3) along the bonds (2, B)."""
    functions = pair_functions(variant, kinds, kind[:, None], kind[neighbour], vectors)
    return along_bonds(functions, bonds, ways) if variant in SEE_BONDS else functions


def _network_energies(term: NeuralTerm, known: KindWeights, kind: Tensor, mixed: Tensor) -> Tensor:
    """(members, A) from sums of functions weighted by the neighbours' embedding (members, A, F, C)."""
    assert known.gate is not None and known.own is not None
    n_scalars = term.architecture.scalars
    scalars, moments = mixed[:, :, :n_scalars], mixed[:, :, n_scalars:]
    features = [(scalars * known.gate[:, kind][:, :, None]).flatten(2)]
    for moment in moments.split(MOMENTS, dim=2) if term.architecture.variant in SEE_DIRECTIONS else ():
        squares = (moment.unflatten(2, (N_ANGULAR, -1)) ** 2).sum(3)
        features.append((torch.sqrt(1.0 + squares) - 1.0).flatten(2))
    own = known.own[:, kind]
    x = torch.cat(features, dim=2) @ term.weights["network.in"]
    difference = network(term.weights, x + own) - network(term.weights, own)  # exactly zero for x = 0
    return term.architecture.saturation * torch.tanh(difference)


@dataclass(frozen=True)
class KindWeights:
    """What a committee of M knows of T kinds of atoms before it sees them.

    Attributes:
        embedding: (M, T, C) weights of a neighbour.
        strengths: (M, T, T, K) of the scalar functions that a kind has of another, of order one.
        gate: (M, T, C) by which an atom weights its scalar sums; None for the variant "pair".
        own: (M, T, H) what enters the first hidden layer of an atom alone; None for the variant "pair".
    """

    embedding: Tensor
    strengths: Tensor
    gate: Tensor | None = None
    own: Tensor | None = None

    @classmethod
    def of(cls, term: NeuralTerm, kinds: AtomKinds) -> KindWeights:
        """From the kinds' descriptors."""
        weights = term.weights
        hidden = torch.tanh(kinds.descriptors @ weights["embedding.in"] + weights["embedding.bias"])
        embedding = hidden @ weights["embedding.out"]
        a, b = embedding[:, :, None], embedding[:, None]
        sides = torch.broadcast_tensors(a, b) if term.architecture.variant in SEE_BONDS else (a + b,)
        both = torch.cat([*sides, a * b], dim=-1)
        strengths = torch.tanh(both @ weights["pair.in"][:, None])
        if term.architecture.variant == "pair":
            return cls(embedding, strengths)
        gate = hidden @ weights["embedding.gate"]
        return cls(embedding, strengths, gate, hidden @ weights["network.own"] + weights["network.bias"])


def _mixed(sums: Tensor, embedding: Tensor) -> Tensor:
    """(M, A, K, C) sums (A, T, K) over kinds, weighted by each member's embedding (M, T, C)."""
    members, _, channels = embedding.shape
    flat = sums.transpose(1, 2) @ embedding.transpose(0, 1).flatten(1)  # (A, K, M C)
    return flat.unflatten(2, (members, channels)).permute(2, 0, 1, 3)


def network(weights: Mapping[str, Tensor], first: Tensor) -> Tensor:
    """(M, n) outputs from what enters the first hidden layer, (M, n, H)."""
    second = torch.tanh(first) @ weights["network.middle"] + weights["network.middle_bias"]
    return (torch.tanh(second) @ weights["network.out"]).squeeze(-1)


def initial_weights(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Random weights, float64; outputs start near zero."""
    m, c, h = architecture.members, architecture.channels, architecture.hidden
    shapes: dict[str, tuple[int, int, float]] = {
        "embedding.in": (DESCRIPTORS, h, 1.0),
        "embedding.bias": (1, h, 0.3),
        "embedding.out": (h, c, 1.0),
        "pair.in": ((3 if architecture.variant in SEE_BONDS else 2) * c, architecture.scalars, 0.01),
    }
    if architecture.variant != "pair":
        shapes |= {
            "embedding.gate": (h, c, 1.0),
            "network.own": (h, h, 1.0),
            "network.bias": (1, h, 0.3),
            "network.in": (architecture.features, h, 1.0),
            "network.middle": (h, h, 1.0),
            "network.middle_bias": (1, h, 0.3),
            "network.out": (h, 1, 0.01),
        }
    generator = torch.Generator().manual_seed(seed)
    return {
        name: scale / rows**0.5 * torch.randn((m, rows, columns), generator=generator, dtype=torch.float64)
        for name, (rows, columns, scale) in shapes.items()
    }
