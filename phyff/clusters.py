"""CLUSTER.json: rigid monomers in vacuum, matched to fitted species, and their interaction energy."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from scipy.spatial.distance import cdist

from phyff.errors import InputError, SimulationError
from phyff.model import cluster as torch_engine
from phyff.model.neural import neural_energies
from phyff.openmm import cluster as openmm_engine
from phyff.openmm.forcefield import ForceField
from phyff.species import library
from phyff.species.molecule import Molecule
from phyff.species.parameters import SpeciesParameters
from phyff.units import ANGSTROM_NM

ENGINES = ("torch", "drude", "multipole")
PARTS = (*torch_engine.PARTS, "neural")
SAME_PLACE = 0.02
"""nm; no two atoms of different monomers come so close."""
OVERLAP = "The energy of the cluster is not finite: two of its monomers overlap; move them apart."
BOND_RANGE = (0.5, 3.0)
"""Angstrom; a bonded pair outside it means wrong units or atoms out of map order."""
MEANINGS = {
    "missing": "this field is missing",
    "model_type": 'no cluster; write {"monomers": [{"smiles": ..., "elements": [...], "xyz": [...]}]}',
    "too_short": "there is nothing in it; give at least one entry",
}
"""What pydantic's errors mean to whoever wrote the file."""
MAX_MATCHES = 20000
"""Atom orders that are compared for a molecule with many equivalent atoms."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Floats = NDArray[np.float64]


class Monomer(BaseModel):
    """One molecule or ion: mapped SMILES, and elements and positions (angstrom) in map order."""

    model_config = ConfigDict(frozen=True)

    smiles: str
    elements: tuple[str, ...]
    xyz: tuple[tuple[Number, Number, Number], ...]

    @property
    def molecule(self) -> Molecule:
        """The graph in map order; InputError when SMILES, elements and xyz do not belong together."""
        molecule = Molecule.from_smiles(self.smiles)
        n = molecule.n_atoms
        if len(re.findall(r":\d+\]", self.smiles)) < n:
            raise InputError(
                f"smiles: {self.smiles!r} is not mapped; number every atom, hydrogens too, as in '[Li+:1]'."
            )
        if self.elements != molecule.elements:
            raise InputError(
                f"elements: {' '.join(self.elements)} are not those of the SMILES in map order, "
                f"{' '.join(molecule.elements)}."
            )
        if len(self.xyz) != n:
            raise InputError(f"xyz: there are {len(self.xyz)} positions for {n} atoms; give one an atom.")
        xyz = np.array(self.xyz)
        for i, j in molecule.bonds:
            length = float(np.linalg.norm(xyz[i] - xyz[j]))
            if not BOND_RANGE[0] <= length <= BOND_RANGE[1]:
                raise InputError(
                    f"xyz: atoms {i + 1} and {j + 1} are bonded but {length:.2f} angstrom apart; give "
                    "positions in angstrom and in map order."
                )
        return molecule


class ClusterFile(BaseModel):
    """One cluster; further fields are allowed and ignored."""

    model_config = ConfigDict(frozen=True)

    monomers: Annotated[tuple[Monomer, ...], Field(min_length=1)]


def energies(
    path: Path, engine: str, force_field_of: Callable[[Sequence[tuple[str, str]]], ForceField]
) -> dict[str, float] | list[dict[str, float]]:
    """Interaction energies (kJ/mol) of the clusters in a file: a dictionary, or a list if the file is one.

    force_field_of: makes the force field of (name, SMILES) species. Raises InputError for a file, cluster or
    engine that cannot be used.
    """
    if engine not in ENGINES:
        raise InputError(f"engine: {engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
    clusters, is_list = read_clusters(path)
    molecules: list[list[Molecule]] = []
    for k, cluster in enumerate(clusters):
        molecules.append([])
        for m, monomer in enumerate(cluster.monomers):
            try:
                molecules[-1].append(monomer.molecule)
            except InputError as error:
                place = f"clusters[{k}].monomers[{m}]" if is_list else f"monomers[{m}]"
                raise InputError(f"{path}: {place}.{error}") from error
    names = [[library.find(molecule.smiles) for molecule in group] for group in molecules]
    forcefield = force_field_of(list(dict.fromkeys(name for group in names for name in group)))
    answers = []
    for cluster, group, found in zip(clusters, molecules, names, strict=True):
        placed = [
            (name, in_species_order(molecule, np.array(monomer.xyz) * ANGSTROM_NM, forcefield.named(name)))
            for monomer, molecule, (name, _) in zip(cluster.monomers, group, found, strict=True)
        ]
        try:
            answers.append(interaction_energy(forcefield, placed, engine))
        except SimulationError as error:
            place = f"clusters[{len(answers)}]: " if is_list else ""
            raise SimulationError(f"{path}: {place}{error}") from error
    return answers if is_list else answers[0]


def read_clusters(path: Path) -> tuple[list[ClusterFile], bool]:
    """The clusters of a file, and whether it holds a list of them; InputError names the field."""
    try:
        data = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cluster: {path} cannot be read; check the path.") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"cluster: {path} is not JSON (line {error.lineno}: {error.msg}); mend that line."
        ) from error
    is_list = isinstance(data, list)
    try:
        clusters = TypeAdapter(list[ClusterFile]).validate_python(data if is_list else [data])
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(error.errors()[0], is_list)}") from error
    return clusters, is_list


def in_species_order(molecule: Molecule, xyz_nm: Floats, species: SpeciesParameters) -> Floats:
    """Positions (n_atoms, 3) in the atom order of a species file, from those in the molecule's own order.

    Of all orders that keep elements and bonds, the one whose shape comes closest to a conformer of the
    species, so that equivalent atoms (the fluorines of PF6-, methyl hydrogens) find their own places.
    """
    orders = _isomorphisms(species.molecule, molecule)
    if len(orders) == 1:
        return xyz_nm[orders[0]]
    candidates = xyz_nm[orders]
    misfit = np.min([_misfits(candidates, np.array(c.xyz_nm)) for c in species.conformers], axis=0)
    best: Floats = candidates[int(np.argmin(np.round(misfit, 9)))]
    return best


def interaction_energy(
    forcefield: ForceField, monomers: Sequence[tuple[str, Floats]], engine: str
) -> dict[str, float]:
    """Parts and total (kJ/mol) of monomers given as (species name, positions in nm in species order).

    "neural" is 0 for a force field without that term.
    SimulationError when two monomers overlap, or the energy is not finite.
    """
    for (_, one), (_, other) in combinations(monomers, 2):
        if cdist(one, other).min() < SAME_PLACE:  # in OpenMM induced dipoles would relax for ever
            raise SimulationError(OVERLAP)
    parts: Mapping[str, Any]
    if engine == "torch":
        cluster = torch_engine.Cluster.of(
            [forcefield.tensors[name] for name, _ in monomers],
            [torch.tensor(xyz, dtype=torch.float64) for _, xyz in monomers],
        )
        parts = torch_engine.interaction_energy(cluster)
        if forcefield.neural is not None:
            parts = {**parts, "neural": neural_energies(forcefield.neural, cluster).mean()}
    else:
        parts = openmm_engine.interaction_energy(forcefield, monomers, engine)
    values = {name: float(parts.get(name, 0.0)) for name in PARTS}
    if not np.isfinite(list(values.values())).all():
        raise SimulationError(OVERLAP)
    return {"total": sum(values.values()), **values}


def _isomorphisms(target: Molecule, other: Molecule) -> NDArray[np.int_]:
    """(n_orders, n_atoms): row[i] is the atom of `other` that is atom i of `target`."""
    found = other.skeleton().GetSubstructMatches(target.skeleton(), uniquify=False, maxMatches=MAX_MATCHES)
    if not found:
        raise InputError(f"smiles: {other.smiles} is not the species {target.smiles}.")
    return np.array(found, dtype=int)


def _misfits(candidates: Floats, reference: Floats) -> Floats:
    """Root-mean-square deviation (nm) of each candidate (k, n, 3), rotated to fit the reference best."""
    a = candidates - candidates.mean(axis=1, keepdims=True)
    b = reference - reference.mean(axis=0)
    covariance = np.einsum("kni,nj->kij", a, b)
    u, s, v = np.linalg.svd(covariance)
    s[:, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(v))
    squares = (a**2).sum(axis=(1, 2)) + (b**2).sum() - 2.0 * s.sum(axis=1)
    misfits: Floats = np.sqrt(np.maximum(squares, 0.0) / len(b))
    return misfits


def _sentence(error: Any, is_list: bool) -> str:
    first, *rest = error["loc"]
    place = f"clusters[{first}]" if is_list else ""
    for part in rest:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    said = MEANINGS.get(error["type"], f"{error['msg'][:1].lower()}{error['msg'][1:]}")
    return f"{place.lstrip('.') or 'cluster'}: {said}."
