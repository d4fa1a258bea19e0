"""A fitted species: what stands in molecules/NAME.json, validated when read. Units: nm, kJ/mol, e."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from phyff.errors import InputError
from phyff.files import write_atomically
from phyff.model.valence import ValenceTerms
from phyff.species.library import SHORT_RANGE_FILE, TRIAL_FILE
from phyff.species.molecule import Molecule

FORMAT: Final = "phyff-species-1"
NEUTRALITY = 1e-6
"""How far (e) the charges of a species may sum from its net charge."""

Vector = tuple[float, float, float]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConformerParameters(_Part):
    """One minimum of the isolated species."""

    xyz_nm: tuple[Vector, ...]
    energy: float
    """kJ/mol above the lowest."""
    weight: float
    """Boltzmann weight at 298.15 K; the weights of a species sum to one."""


class Multipoles(_Part):
    """Atomic moments in the local frames of phyff.species.frames, equal for symmetry-equivalent atoms."""

    charges: tuple[float, ...]
    """e."""
    dipoles: tuple[Vector, ...]
    """e nm."""
    quadrupoles: tuple[tuple[Vector, Vector, Vector], ...]
    """e nm^2, traceless (Buckingham)."""


class ChargeSite(_Part):
    """An off-atom charge of the `drude` engine, carried by two or three atoms.

    The first of `atoms` is the parent. kind "average": r = sum_k weights_k r_k (weights sum to one). kind
    "out-of-plane": r = r_0 + w_0 (r_1 - r_0) + w_1 (r_2 - r_0) + w_2 (r_1 - r_0) x (r_2 - r_0), w_2 in 1/nm.
    """

    kind: Literal["average", "out-of-plane"]
    atoms: tuple[int, ...]
    weights: tuple[float, ...]
    charge: float
    """e."""

    @model_validator(mode="after")
    def _shape(self) -> ChargeSite:
        if self.kind == "average":
            if len(self.atoms) not in (2, 3) or len(self.weights) != len(self.atoms):
                raise ValueError("an average site needs two or three atoms with one weight each")
            if abs(sum(self.weights) - 1.0) > 1e-9:
                raise ValueError("the weights of an average site must sum to one")
        elif len(self.atoms) != 3 or len(self.weights) != 3:
            raise ValueError("an out-of-plane site needs three atoms and three weights")
        return self


class DrudeCharges(_Part):
    """Permanent charges of the `drude` engine."""

    atoms: tuple[float, ...]
    """e, one an atom."""
    sites: tuple[ChargeSite, ...] = ()


class ChargeFlow(_Part):
    """Charge (e) that goes from atom j to atom i bonded to it as the distances to a third atom k and their
    angle change, for all atoms of three symmetry classes:
    bond |r_ij| + next_bond |r_jk| + bend theta_ijk + through / |r_ik| - at_rest."""

    classes: tuple[int, int, int]
    """Of i, j, k."""
    apart: int = 2
    """Bonds from i by way of j to k: 2 where k is bonded to j too."""
    bond: float
    """e/nm."""
    next_bond: float
    """e/nm."""
    bend: float
    """e/rad; zero where the angle may become straight."""
    through: float = 0.0
    """e nm."""
    at_rest: float
    """e; the sum of the four for mean distances and angles of the minima, less what has gone there."""


class NearField(_Part):
    """What a bare cation feels of an atom's electrons, in the terms of phyff.model.near_field; equal for
    symmetry-equivalent atoms."""

    density: float
    """e/nm^3, of a Slater overlap: about the electrons where cations touch."""
    density_exponent: float
    """1/nm, of that overlap."""
    shape: tuple[float, float, float, float, float]
    """Coefficients of the logarithm of the density's direction."""
    potential: tuple[float, float, float, float, float, float]
    """kJ/mol/e, what charges miss there."""
    exponent: float
    """1/nm, of the overlap that the potential goes with; 0 of an atom alone, which has none."""


class Polarizability(_Part):
    """Isotropic atomic polarizabilities and the damping they were fitted with, one set an engine."""

    alpha: tuple[float, ...]
    """nm^3."""
    thole: float
    """Dimensionless damping exponent between induced dipoles of one molecule: a in exp(-a u) for the `drude`
    engine, in exp(-a u^3) for the `multipole` engine, u = r / (alpha_i alpha_j)^(1/6)."""


class Dispersion(_Part):
    """Atomic coefficients; a pair's coefficient is the geometric mean."""

    c6: tuple[float, ...]
    """kJ/mol nm^6."""
    c8: tuple[float, ...]
    """kJ/mol nm^8."""
    c10: tuple[float, ...]
    """kJ/mol nm^10."""


class Slater(_Part):
    """Valence densities of the MBIS partition, rho = N B^3/(8 pi) exp(-B r)."""

    populations: tuple[float, ...]
    """N, electrons."""
    exponents: tuple[float, ...]
    """B, 1/nm."""


class SpeciesParameters(_Part):
    """Everything a force field knows of one species, with the figures that judge it and its provenance."""

    format: Literal["phyff-species-1"] = FORMAT
    name: str
    smiles: str
    mapped_smiles: str
    charge: int
    elements: tuple[str, ...]
    symmetry_classes: tuple[int, ...]
    atom_classes: tuple[tuple[str, ...], ...]
    conformers: tuple[ConformerParameters, ...]
    multipoles: Multipoles
    drude_charges: DrudeCharges
    charge_flow: tuple[ChargeFlow, ...] = ()
    """What bare cations feel of it, in both engines."""
    near_field: tuple[NearField, ...] = ()
    """One an atom, none of a bare cation; for bare cations, in both engines."""
    polarizability: Polarizability
    """For the `drude` engine."""
    multipole_polarizability: Polarizability
    """For the `multipole` engine."""
    dispersion: Dispersion
    slater: Slater
    valence: ValenceTerms
    quality: dict[str, Any]
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _consistent(self) -> SpeciesParameters:
        n = len(self.elements)
        columns: dict[str, tuple[Any, ...]] = {
            "multipoles.charges": self.multipoles.charges,
            "drude_charges.atoms": self.drude_charges.atoms,
            "polarizability.alpha": self.polarizability.alpha,
            "multipole_polarizability.alpha": self.multipole_polarizability.alpha,
            "dispersion.c6": self.dispersion.c6,
            "slater.exponents": self.slater.exponents,
            "symmetry_classes": self.symmetry_classes,
        }
        if not self.is_bare_cation:
            columns["near_field"] = self.near_field
        for field, values in columns.items():
            if len(values) != n:
                raise ValueError(f"{field} has {len(values)} entries for {n} atoms")
        for field, total in (
            ("multipoles.charges", sum(self.multipoles.charges)),
            (
                "drude_charges",
                sum(self.drude_charges.atoms) + sum(s.charge for s in self.drude_charges.sites),
            ),
        ):
            if abs(total - self.charge) > NEUTRALITY:
                raise ValueError(f"{field} sum to {total:.7f} e, not to {self.charge} e")
        return self

    @property
    def n_atoms(self) -> int:
        return len(self.elements)

    @property
    def is_bare_cation(self) -> bool:
        """Whether it is one atom with a positive charge."""
        return self.n_atoms == 1 and self.charge > 0

    @property
    def molecule(self) -> Molecule:
        """The molecular graph, in this file's atom order."""
        return Molecule.from_smiles(self.mapped_smiles)

    @property
    def xyz(self) -> np.ndarray:
        """(n_atoms, 3) nm, lowest conformer."""
        return np.array(self.conformers[0].xyz_nm)

    def save(self, path: Path) -> None:
        """Write the species file: one field a line, numbers compact."""
        data = self.model_dump(mode="json")
        lines = [f"  {json.dumps(key)}: {json.dumps(_rounded(value))}" for key, value in data.items()]
        write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")

    @classmethod
    def load(cls, path: Path) -> SpeciesParameters:
        """Read a species file.

        Raises:
            InputError: the file is missing, not JSON, or a field does not make sense.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise InputError(f"Species file {path} cannot be read; check the path.") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "file"
            raise InputError(f"Species file {path}, field '{field}': {first['msg']}.") from error


def _rounded(value: Any) -> Any:
    """Floats to ten significant digits: exact charges survive, files stay readable."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def library_species(folder: Path) -> dict[str, SpeciesParameters]:
    """All species of a library folder by name, in the order of names.

    Raises:
        InputError: a file is none of ours.
    """
    shared = (SHORT_RANGE_FILE, TRIAL_FILE)
    paths = [path for path in sorted(folder.glob("*.json")) if path.name not in shared]
    return {species.name: species for species in map(SpeciesParameters.load, paths)}
