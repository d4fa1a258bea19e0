"""Local frames that carry an atom's dipole and quadrupole along as a molecule moves.

A frame is chosen from the graph alone, so equivalent atoms get the same kind of frame on equivalent
neighbours. It uses the highest local symmetry that the bonded atoms (or, for a terminal atom, its neighbour's
bonded atoms) show, because that symmetry makes multipole components vanish up to the quadrupole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from rdkit import Chem
from torch import Tensor

from phyff.errors import InputError
from phyff.species.molecule import Molecule

FrameKind = Literal[
    "monoatomic",
    "linear",
    "threefold",
    "trigonal-planar",
    "tetrahedral",
    "octahedral",
    "bisector",
    "z-then-x",
]


@dataclass(frozen=True)
class LocalFrame:
    """How the axes of one atom follow other atoms of its molecule (0-based indices).

    The z axis is the normalised sum of unit vectors from the atom to the atoms `z` (for "trigonal-planar" the
    normal of the three bonds). The x axis is the sum of unit vectors to the atoms `x`, made orthogonal to z;
    y = z cross x.

    kinds:
      monoatomic, tetrahedral, octahedral: no direction, only the charge survives; z and x are empty
      linear: z points at the neighbour, symmetry about it is complete or at least threefold; x is empty
      threefold: z points at the one different neighbour of four, or along the sum of three equal ones
      trigonal-planar: three equal neighbours in a plane, z is its normal; x is empty
      bisector: z bisects two equal neighbours, x lies in their plane
      z-then-x: z points at one neighbour, x to the side of another atom (in the plane of planar atoms, in the
        mirror plane of pyramidal and tetrahedral ones)
    """

    atom: int
    kind: FrameKind
    z: tuple[int, ...] = ()
    x: tuple[int, ...] = ()
    y: tuple[int, ...] = ()
    """Atom on whose side +y lies for one of the two mirror images of such an atom; empty where the xz plane
    is a mirror plane of the graph. See `handedness`."""

    @property
    def isotropic(self) -> bool:
        """No dipole or quadrupole survives."""
        return not self.z

    @property
    def axial(self) -> bool:
        """Only components with m = 0 about z survive; the direction of x is arbitrary."""
        return bool(self.z) and not self.x


def local_frames(molecule: Molecule) -> tuple[LocalFrame, ...]:
    """One frame an atom, in atom order."""
    shape = _Shape(molecule)
    return tuple(_frame(shape, atom) for atom in range(molecule.n_atoms))


def frame_axes(frame: LocalFrame, xyz: np.ndarray) -> np.ndarray:
    """Rotation matrix of the frame, rows x, y, z in the laboratory: local vector = axes @ laboratory vector.

    `xyz` holds the molecule's positions in any unit, shape (n_atoms, 3). Always a proper rotation. It turns
    with the molecule, but for an axial frame only its z row does (x is any perpendicular direction), and for
    an isotropic frame it is the identity. Raises InputError when the atoms of the frame are collinear.
    """
    return laboratory_axes(frame, torch.as_tensor(xyz, dtype=torch.float64)).numpy()


def laboratory_axes(frame: LocalFrame, xyz: Tensor) -> Tensor:
    """`frame_axes` in torch, differentiable with respect to xyz."""
    if frame.isotropic:
        return torch.eye(3, dtype=xyz.dtype)
    if frame.kind == "trigonal-planar":
        a, b, c = (_unit(xyz[k] - xyz[frame.atom], frame) for k in frame.z)
        z = _unit(
            torch.linalg.cross(a, b) + torch.linalg.cross(b, c) + torch.linalg.cross(c, a),
            frame,
        )
    else:
        z = _direction(frame, frame.z, xyz)
    side = _direction(frame, frame.x, xyz) if frame.x else torch.eye(3, dtype=xyz.dtype)[z.abs().argmin()]
    x = _unit(side - z * (z @ side), frame)
    return torch.stack([x, torch.linalg.cross(z, x), z])


def handedness(frame: LocalFrame, xyz: np.ndarray) -> int:
    """+1 or -1: the sign of components odd in y (mu_y, Q_xy, Q_yz) relative to the atom's symmetry class.

    The two hydrogens of a CH2 group are mirror images: their components along x and z are equal, those odd in
    y are opposite. Multiply by this sign when averaging over a class and when putting parameters on an atom.
    """
    if not frame.y:
        return 1
    places = torch.as_tensor(xyz, dtype=torch.float64)
    return 1 if laboratory_axes(frame, places)[1] @ _direction(frame, frame.y, places) >= 0 else -1


class _Shape:
    """What frames need to know of a molecule's graph."""

    def __init__(self, molecule: Molecule) -> None:
        self.molecule = molecule
        self.classes = molecule.symmetry_classes
        mol = molecule.rdkit()
        hybridisation = [atom.GetHybridization() for atom in mol.GetAtoms()]
        degree = [len(molecule.neighbours(i)) for i in range(molecule.n_atoms)]
        self.straight = [
            degree[i] == 2 and hybridisation[i] == Chem.HybridizationType.SP for i in range(molecule.n_atoms)
        ]
        self.planar = [
            degree[i] == 3
            and (molecule.elements[i] in ("B", "C") or hybridisation[i] == Chem.HybridizationType.SP2)
            for i in range(molecule.n_atoms)
        ]

    def groups(self, atoms: Sequence[int]) -> list[tuple[int, ...]]:
        """Atoms grouped by symmetry class: small groups first, then heavy elements, then by class label."""
        gathered: dict[int, list[int]] = {}
        for atom in sorted(atoms):
            gathered.setdefault(self.classes[atom], []).append(atom)
        molecule = self.molecule
        return sorted(
            (tuple(group) for group in gathered.values()),
            key=lambda group: (
                len(group),
                -int(molecule.atomic_numbers[group[0]]),
                molecule.atom_classes[group[0]][0],
                self.classes[group[0]],
            ),
        )

    def beyond(self, atom: int, through: int) -> tuple[int, tuple[int, ...]]:
        """End of the straight line from `atom` through its neighbour, and the atoms bonded further on."""
        previous, here = atom, through
        while True:
            further = tuple(k for k in self.molecule.neighbours(here) if k != previous)
            if not self.straight[here] or not further:
                return here, further
            previous, here = here, further[0]

    def chelated_pair(self, centre: int) -> tuple[int, int] | None:
        """The first two neighbours of `centre` that the shortest of its rings joins, None without rings."""
        best: tuple[int, int, int] | None = None
        neighbours = self.molecule.neighbours(centre)
        for start in neighbours:
            distance = {centre: -1, start: 0}
            front = [start]
            while front:
                reached = [k for i in front for k in self.molecule.neighbours(i) if k not in distance]
                distance |= {k: distance[front[0]] + 1 for k in reached}
                front = list(dict.fromkeys(reached))
            for end in neighbours:
                if end > start and end in distance and (best is None or (distance[end], start, end) < best):
                    best = (distance[end], start, end)
        return best and best[1:]


def _frame(shape: _Shape, atom: int) -> LocalFrame:
    neighbours = shape.molecule.neighbours(atom)
    match len(neighbours):
        case 0:
            return LocalFrame(atom, "monoatomic")
        case 1:
            return _terminal(shape, atom, neighbours[0])
        case 2:
            return _between_two(shape, atom)
        case 3:
            return _among_three(shape, atom)
        case 4:
            return _among_four(shape, atom)
    groups = shape.groups(neighbours)
    if len(groups) > 1 and len(groups[0]) == 1:
        return LocalFrame(atom, "linear", groups[0])
    return LocalFrame(atom, "octahedral")


def _terminal(shape: _Shape, atom: int, towards: int) -> LocalFrame:
    """One neighbour: the further atoms around the end of the straight line decide the side of x."""
    end, further = shape.beyond(atom, towards)
    return _with_side(shape, atom, towards, end, further)


def _with_side(shape: _Shape, atom: int, towards: int, end: int, further: tuple[int, ...]) -> LocalFrame:
    groups = shape.groups(further)
    if not groups or len(shape.molecule.neighbours(end)) > 4 or (len(groups) == 1 and len(further) > 2):
        return LocalFrame(atom, "linear", (towards,))
    if len(groups) == 1 and len(further) == 2 and not shape.planar[end]:
        return LocalFrame(atom, "z-then-x", (towards,), further)
    side = groups[0][:1]
    rest = [k for group in groups for k in group if k not in side]
    return LocalFrame(
        atom, "z-then-x", (towards,), side, () if shape.planar[end] else _y_reference(shape, rest)
    )


def _between_two(shape: _Shape, atom: int) -> LocalFrame:
    groups = shape.groups(shape.molecule.neighbours(atom))
    if shape.straight[atom]:
        first, second = [k for group in groups for k in group]
        for towards, away in ((first, second), (second, first)):
            frame = _with_side(shape, atom, towards, *shape.beyond(atom, away))
            if not frame.axial:
                return frame
        return LocalFrame(atom, "linear", (first,))
    if len(groups) == 1:
        return LocalFrame(atom, "bisector", groups[0], groups[0][:1])
    return LocalFrame(atom, "z-then-x", groups[0], groups[1])


def _among_three(shape: _Shape, atom: int) -> LocalFrame:
    groups = shape.groups(shape.molecule.neighbours(atom))
    if len(groups) == 1:
        return LocalFrame(atom, "trigonal-planar" if shape.planar[atom] else "threefold", groups[0])
    if len(groups) == 2:
        return LocalFrame(atom, "z-then-x", groups[0], groups[1][:1] if shape.planar[atom] else groups[1])
    return LocalFrame(atom, "z-then-x", groups[0], groups[1], () if shape.planar[atom] else groups[2])


def _among_four(shape: _Shape, atom: int) -> LocalFrame:
    groups = shape.groups(shape.molecule.neighbours(atom))
    if len(groups) == 1:
        pair = shape.chelated_pair(atom)
        return LocalFrame(atom, "bisector", pair, pair[:1]) if pair else LocalFrame(atom, "tetrahedral")
    if len(groups[0]) == 2:
        return LocalFrame(atom, "bisector", groups[0], groups[0][:1])
    if len(groups) == 2:
        return LocalFrame(atom, "threefold", groups[0])
    rest = [k for group in groups[2:] for k in group]
    return LocalFrame(atom, "z-then-x", groups[0], groups[1], _y_reference(shape, rest))


def _y_reference(shape: _Shape, rest: Sequence[int]) -> tuple[int, ...]:
    """First of the atoms off the xz plane, none when equal atoms balance on its two sides."""
    groups = shape.groups(rest)
    return groups[0] if groups and len(groups[0]) == 1 else ()


def _direction(frame: LocalFrame, atoms: tuple[int, ...], xyz: Tensor) -> Tensor:
    vectors = [_unit(xyz[k] - xyz[frame.atom], frame) for k in atoms]
    return _unit(torch.stack(vectors).sum(0), frame)


def _unit(vector: Tensor, frame: LocalFrame) -> Tensor:
    length = torch.linalg.vector_norm(vector)
    if length < 1e-6:
        raise InputError(
            f"geometry: the atoms that define the local frame of atom {frame.atom + 1} are collinear or "
            "coincide; give a relaxed structure."
        )
    return vector / length
