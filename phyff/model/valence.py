"""Bonds, angles, 1-3 and 1-4 distances, proper and improper torsions of one species, in torch.

A class-I force field plus a distance term on every 1-3 and 1-4 pair (at the price of a bond they carry the
coupling of bonds, angles and torsions that class-II force fields write as cross terms), a product term for
neighbouring torsions of a chain, and bonds with the quartic expansion of a Morse curve, as in MM3 (Allinger,
Yuh, Lii, JACS 111, 8551 (1989)). Each `*_energy`
takes the internal coordinate and its constants; phyff/openmm/valence.py writes the same lines as OpenMM
forces.
"""

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

KINDS = (
    "bonds",
    "angles",
    "linear_angles",
    "urey_bradleys",
    "one_fours",
    "torsions",
    "torsion_pairs",
    "impropers",
)


class _Term(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BondTerm(_Term):
    """k/2 d^2 (1 - a d + 7/12 a^2 d^2), d = r - r0; never negative for k > 0."""

    atoms: tuple[int, int]
    k: float
    """kJ/mol/nm^2."""
    r0: float
    """nm."""
    anharmonicity: float = 0.0
    """Morse exponent a, 1/nm; 0 makes the bond harmonic."""


class AngleTerm(_Term):
    """k/2 (theta - theta0)^2; the second atom is the apex."""

    atoms: tuple[int, int, int]
    k: float
    """kJ/mol/rad^2."""
    theta0: float
    """rad."""


class LinearAngleTerm(_Term):
    """k (1 + cos theta): harmonic about 180 degrees and smooth there; the second atom is the apex."""

    atoms: tuple[int, int, int]
    k: float
    """kJ/mol."""


class UreyBradleyTerm(_Term):
    """k/2 (r - r0)^2 between the ends of an angle; smooth at 180 degrees."""

    atoms: tuple[int, int]
    k: float
    """kJ/mol/nm^2; may be negative, the bonds and the angle keep the sum bound."""
    r0: float
    """nm."""


class OneFourTerm(_Term):
    """g (r - centre) + k/2 (r - centre)^2 between the ends of a torsion: couples it to the angles and bonds
    on its way."""

    atoms: tuple[int, int]
    g: float
    """kJ/mol/nm."""
    k: float
    """kJ/mol/nm^2; either sign, the bonds and angles keep the sum bound."""
    centre: float
    """nm."""


class TorsionTerm(_Term):
    """sum over n = 1, 2, ... of k_n (1 + cos n phi); phi = 0 is cis."""

    atoms: tuple[int, int, int, int]
    k: tuple[float, ...]
    """kJ/mol, k[n-1] for periodicity n."""


class TorsionPairTerm(_Term):
    """c cos(m phi) cos(n psi) + s sin(m phi) sin(n psi) of the two torsions of a chain of five atoms: how far
    the rotamers of a bond depend on those of the next."""

    atoms: tuple[int, int, int, int, int]
    multiples: tuple[int, int] = (1, 1)
    """m and n."""
    c: float
    """kJ/mol."""
    s: float
    """kJ/mol."""


class ImproperTerm(_Term):
    """k/3 (1 - cos 2 phi) summed over the three dihedrals of `improper_dihedrals`: zero when the four atoms
    are coplanar."""

    atoms: tuple[int, int, int, int]
    """The centre first, then its three neighbours."""
    k: float
    """kJ/mol."""


class ValenceTerms(_Term):
    """Every valence term of one species, atom numbers in map order; symmetry-equivalent terms hold equal
    numbers."""

    n_atoms: int
    bonds: tuple[BondTerm, ...] = ()
    angles: tuple[AngleTerm, ...] = ()
    linear_angles: tuple[LinearAngleTerm, ...] = ()
    urey_bradleys: tuple[UreyBradleyTerm, ...] = ()
    one_fours: tuple[OneFourTerm, ...] = ()
    torsions: tuple[TorsionTerm, ...] = ()
    torsion_pairs: tuple[TorsionPairTerm, ...] = ()
    impropers: tuple[ImproperTerm, ...] = ()

    @model_validator(mode="after")
    def _atoms_exist(self) -> "ValenceTerms":
        for kind in KINDS:
            for atoms in (term.atoms for term in getattr(self, kind)):
                if len(set(atoms)) != len(atoms) or min(atoms) < 0 or max(atoms) >= self.n_atoms:
                    raise ValueError(f"{kind}: atoms {atoms} are not distinct numbers below {self.n_atoms}")
        return self


def valence_energy(terms: ValenceTerms, xyz: Tensor) -> Tensor:
    """Valence energy (...) in kJ/mol of geometries xyz (..., n_atoms, 3) in nm, float64."""
    return torch.stack(list(valence_components(terms, xyz).values())).sum(0)


def valence_components(terms: ValenceTerms, xyz: Tensor) -> dict[str, Tensor]:
    """The energy of each kind of term, (...) in kJ/mol, for geometries xyz (..., n_atoms, 3) in nm."""

    def column(values: Sequence[float] | Sequence[tuple[float, ...]]) -> Tensor:
        return torch.tensor(values, dtype=xyz.dtype, device=xyz.device)

    bonds, angles, linear, urey = terms.bonds, terms.angles, terms.linear_angles, terms.urey_bradleys
    one_fours, torsions, impropers = terms.one_fours, terms.torsions, terms.impropers
    pairs = terms.torsion_pairs
    chains, multiples = [t.atoms for t in pairs], [t.multiples for t in pairs]
    order = max((len(t.k) for t in torsions), default=1)
    series = [t.k + (0.0,) * (order - len(t.k)) for t in torsions]
    planes = [dihedral for t in impropers for dihedral in improper_dihedrals(t.atoms)]
    return {
        "bonds": bond_energy(
            distances(xyz, [t.atoms for t in bonds]),
            column([t.k for t in bonds]),
            column([t.r0 for t in bonds]),
            column([t.anharmonicity for t in bonds]),
        ).sum(-1),
        "angles": angle_energy(
            bend_angles(xyz, [t.atoms for t in angles]),
            column([t.k for t in angles]),
            column([t.theta0 for t in angles]),
        ).sum(-1),
        "linear_angles": linear_angle_energy(
            bend_cosines(xyz, [t.atoms for t in linear]), column([t.k for t in linear])
        ).sum(-1),
        "urey_bradleys": urey_bradley_energy(
            distances(xyz, [t.atoms for t in urey]), column([t.k for t in urey]), column([t.r0 for t in urey])
        ).sum(-1),
        "one_fours": one_four_energy(
            distances(xyz, [t.atoms for t in one_fours]),
            column([t.g for t in one_fours]),
            column([t.k for t in one_fours]),
            column([t.centre for t in one_fours]),
        ).sum(-1),
        "torsions": torsion_energy(
            dihedrals(xyz, [t.atoms for t in torsions]), column(series).reshape(-1, order)
        ).sum(-1),
        "torsion_pairs": (
            column([t.c for t in pairs]) * dihedral_cosines(xyz, chains, multiples)
            + column([t.s for t in pairs]) * dihedral_sines(xyz, chains, multiples)
        ).sum(-1),
        "impropers": improper_energy(
            dihedrals(xyz, planes), column([t.k for t in impropers]).repeat_interleave(3)
        ).sum(-1),
    }


def bond_energy(r: Tensor, k: Tensor, r0: Tensor, anharmonicity: Tensor) -> Tensor:
    """kJ/mol, elementwise."""
    d = r - r0
    return 0.5 * k * d**2 * (1 - anharmonicity * d + 7 / 12 * anharmonicity**2 * d**2)


def angle_energy(theta: Tensor, k: Tensor, theta0: Tensor) -> Tensor:
    """kJ/mol, elementwise."""
    return 0.5 * k * (theta - theta0) ** 2


def linear_angle_energy(cosine: Tensor, k: Tensor) -> Tensor:
    """kJ/mol, elementwise."""
    return k * (1 + cosine)


def urey_bradley_energy(r: Tensor, k: Tensor, r0: Tensor) -> Tensor:
    """kJ/mol, elementwise."""
    return 0.5 * k * (r - r0) ** 2


def one_four_energy(r: Tensor, g: Tensor, k: Tensor, centre: Tensor) -> Tensor:
    """kJ/mol, elementwise."""
    d = r - centre
    return g * d + 0.5 * k * d**2


def torsion_energy(phi: Tensor, k: Tensor) -> Tensor:
    """kJ/mol, phi (..., terms) and k (..., terms, order)."""
    n = torch.arange(1, k.shape[-1] + 1, dtype=phi.dtype, device=phi.device)
    return (k * (1 + torch.cos(n * phi[..., None]))).sum(-1)


def improper_energy(phi: Tensor, k: Tensor) -> Tensor:
    """kJ/mol of one of the three dihedrals of an improper, elementwise."""
    return k / 3 * (1 - torch.cos(2 * phi))


def improper_dihedrals(atoms: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """The three dihedrals that watch over a planar centre (first of `atoms`), one for each neighbour at the
    end."""
    c, i, j, k = atoms
    return [(i, j, c, k), (j, k, c, i), (k, i, c, j)]


def distances(xyz: Tensor, pairs: Sequence[tuple[int, ...]]) -> Tensor:
    """(..., len(pairs)) in nm."""
    i, j = _columns(xyz, pairs, 2)
    return torch.linalg.vector_norm(xyz[..., i, :] - xyz[..., j, :], dim=-1)


def bend_angles(xyz: Tensor, triples: Sequence[tuple[int, ...]]) -> Tensor:
    """(..., len(triples)) in rad, apex second; the gradient stays finite at 0 and 180 degrees."""
    i, j, k = _columns(xyz, triples, 3)
    u, v = xyz[..., i, :] - xyz[..., j, :], xyz[..., k, :] - xyz[..., j, :]
    normal = torch.linalg.cross(u, v)
    return torch.atan2(((normal * normal).sum(-1) + 1e-24).sqrt(), (u * v).sum(-1))


def bend_cosines(xyz: Tensor, triples: Sequence[tuple[int, ...]]) -> Tensor:
    """(..., len(triples)), apex second."""
    i, j, k = _columns(xyz, triples, 3)
    u, v = xyz[..., i, :] - xyz[..., j, :], xyz[..., k, :] - xyz[..., j, :]
    return (u * v).sum(-1) / (torch.linalg.vector_norm(u, dim=-1) * torch.linalg.vector_norm(v, dim=-1))


def dihedrals(xyz: Tensor, quadruples: Sequence[tuple[int, ...]]) -> Tensor:
    """(..., len(quadruples)) in rad, IUPAC sign, 0 when cis."""
    i, j, k, m = _columns(xyz, quadruples, 4)
    a, b = xyz[..., j, :] - xyz[..., i, :], xyz[..., k, :] - xyz[..., j, :]
    c = xyz[..., m, :] - xyz[..., k, :]
    left, right = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
    return torch.atan2((a * right).sum(-1) * torch.linalg.vector_norm(b, dim=-1), (left * right).sum(-1))


def dihedral_cosines(
    xyz: Tensor, chains: Sequence[tuple[int, ...]], multiples: Sequence[tuple[int, int]]
) -> Tensor:
    """(..., len(chains)) product of the cosines of multiples of the two dihedrals of each chain of five
    atoms."""
    return torch.cos(_multiplied_dihedrals(xyz, chains, multiples)).prod(0)


def dihedral_sines(
    xyz: Tensor, chains: Sequence[tuple[int, ...]], multiples: Sequence[tuple[int, int]]
) -> Tensor:
    """The same of their sines."""
    return torch.sin(_multiplied_dihedrals(xyz, chains, multiples)).prod(0)


def _multiplied_dihedrals(
    xyz: Tensor, chains: Sequence[tuple[int, ...]], multiples: Sequence[tuple[int, int]]
) -> Tensor:
    """(2, ..., len(chains)) rad."""
    both = torch.stack([dihedrals(xyz, [c[:4] for c in chains]), dihedrals(xyz, [c[1:] for c in chains])])
    factors = torch.tensor(multiples, dtype=xyz.dtype, device=xyz.device).reshape(-1, 2).T
    return both * factors.reshape(2, *[1] * (both.ndim - 2), len(chains))


def _columns(xyz: Tensor, atoms: Sequence[tuple[int, ...]], width: int) -> tuple[Tensor, ...]:
    return torch.tensor(atoms, dtype=torch.long, device=xyz.device).reshape(-1, width).unbind(1)
