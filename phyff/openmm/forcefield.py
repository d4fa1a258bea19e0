"""ForceField: fitted species plus the short-range model, saved as one file, turned into OpenMM objects."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from openmm import unit
from openmm.app import Element, Residue, Topology
from pydantic import ValidationError

from phyff.errors import InputError
from phyff.files import write_atomically
from phyff.model.cluster import site_positions
from phyff.model.neural import NeuralTerm
from phyff.model.parameters import ShortRange, SpeciesTensors, species_tensors
from phyff.openmm import drude, multipole
from phyff.openmm.drude import GROUPS, Placed, repartition_hydrogen_mass
from phyff.openmm.neural import neural_force, neural_function
from phyff.openmm.valence import add_valence_forces
from phyff.species.parameters import SpeciesParameters

FORMAT = "phyff-forcefield-1"
ENGINES = ("drude", "multipole")
DRUDE_TEMPERATURE = 1.0
DRUDE_FRICTION = 20.0
MAX_DRUDE_DISTANCE = 0.025
"""nm; oscillators bounce back there."""
EVALUATIONS = {"multipoles": 1, "permanent": 2, "charge flow": 2, "short range": 2, "neural": 2, "valence": 4}
"""Of each group of forces in one outer step of `ForceField.multiple_time_steps`."""


@dataclass(frozen=True)
class ForceField:
    """Parameters of some species, ready for OpenMM.

    >>> ff = ForceField.load("forcefield.json")
    >>> topology = ff.topology([("EC", 50)], box_nm=1.8)
    >>> system = ff.create_system(topology)
    """

    species: tuple[SpeciesParameters, ...]
    short_range: ShortRange
    neural: NeuralTerm | None = None
    """Correction of both engines, trained beside `drude`; or none."""

    @classmethod
    def load(cls, path: str | Path) -> ForceField:
        """Read forcefield.json.

        Raises:
            InputError: the file is missing, is not a force field, or a field does not make sense.
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(
                f"Force field {path} cannot be read ({error}); build it with 'phyff build'."
            ) from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f"{path} is not a PhyFF force field (format '{FORMAT}' expected).")
        try:
            return cls(
                tuple(SpeciesParameters.model_validate(entry) for entry in data["species"]),
                ShortRange.model_validate(data["short_range"]),
                NeuralTerm.from_bytes(b64decode(data["neural"])) if data.get("neural") else None,
            )
        except (ValidationError, KeyError, ValueError) as error:
            raise InputError(f"Force field {path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write forcefield.json; the same force field gives the same bytes. A neural term stands in it as the
        base64 text of its safetensors file."""
        data: dict[str, Any] = {
            "format": FORMAT,
            "species": [s.model_dump(mode="json") for s in self.species],
            "short_range": self.short_range.model_dump(mode="json"),
        }
        if self.neural is not None:
            data["neural"] = b64encode(self.neural.to_bytes()).decode()
        write_atomically(Path(path), json.dumps(data, sort_keys=True) + "\n")

    @cached_property
    def tensors(self) -> dict[str, SpeciesTensors]:
        """Non-bonded parameters by species name."""
        return {s.name: species_tensors(s, self.short_range) for s in self.species}

    def named(self, name: str) -> SpeciesParameters:
        """The species of that name.

        Raises:
            InputError: there is none.
        """
        for species in self.species:
            if species.name == name:
                return species
        raise InputError(
            f"The force field has no species '{name}'; it holds {', '.join(s.name for s in self.species)}."
        )

    def topology(
        self, counts: Sequence[tuple[str, int]], box_nm: float | None = None, engine: str = "drude"
    ) -> Topology:
        """One chain a species (its id is the species' name), one residue a molecule: atoms in map order, then
        for the `drude` engine Drude particles and virtual sites (both without element)."""
        topology = Topology()
        if box_nm is not None:
            topology.setPeriodicBoxVectors(np.eye(3) * box_nm * unit.nanometer)
        number = 0
        for name, count in counts:
            species, tensors = self.named(name), self.tensors[name]
            labels = _atom_names(species.elements)
            chain = topology.addChain(name)
            for _ in range(count):
                number += 1
                residue = topology.addResidue(residue_name(name), chain, str(number))
                atoms = [
                    topology.addAtom(label, Element.getBySymbol(e), residue)
                    for label, e in zip(labels, species.elements, strict=True)
                ]
                if engine == "drude":
                    for atom in tensors.oscillators.tolist():
                        topology.addAtom(f"D{labels[atom]}", None, residue)
                    for k in range(len(tensors.sites)):
                        topology.addAtom(f"M{k + 1}", None, residue)
                for i, j in species.molecule.bonds:
                    topology.addBond(atoms[i], atoms[j])
        return topology

    def create_system(
        self,
        topology: Topology,
        cutoff_nm: float | None = 0.8,
        engine: str = "drude",
        split_components: bool = False,
        polarization: str = "mutual",
    ) -> openmm.System:
        """OpenMM System of a topology made by `topology` for the same engine; plain XML of it runs without
        phyff, unless the force field has a neural term.

        cutoff_nm: real-space cut-off of charges and C6, None for an isolated cluster. split_components:
        separate short-range forces for analysis. polarization: of the `multipole` engine, "mutual",
        "extrapolated" or "direct".

        Raises:
            InputError: the topology holds molecules the force field does not know or is another engine's, has
                no box, or one below twice the cut-off; the engine or polarization is unknown; a molecule of
                the `multipole` engine is longer than the cut-off.
        """
        if engine not in ENGINES:
            raise InputError(f"Engine '{engine}' is not available; choose one of {', '.join(ENGINES)}.")
        system = openmm.System()
        vectors = topology.getPeriodicBoxVectors()
        if cutoff_nm is not None:
            if vectors is None:
                raise InputError(
                    "The topology has no periodic box; "
                    "set one or pass cutoff_nm=None for a cluster in vacuum."
                )
            shortest = min(v[k].value_in_unit(unit.nanometer) for k, v in enumerate(vectors))
            if shortest < 2 * cutoff_nm:
                raise InputError(
                    f"The box edge of {shortest:.2f} nm is below twice the cut-off of {cutoff_nm} nm; "
                    "use more molecules."
                )
            if engine == "multipole":
                self._refuse_long_molecules(topology, cutoff_nm)
            system.setDefaultPeriodicBoxVectors(*vectors)
        for atom in topology.atoms():
            system.addParticle(atom.element.mass if atom.element is not None else 0.0)
        placed = [self._placed(residue, engine) for residue in topology.residues()]
        for molecule in placed:
            species = self.named(molecule.species.name)
            repartition_hydrogen_mass(system, molecule.atoms, species.elements, species.molecule.bonds)
        valence = [(self.named(m.species.name).valence, list(m.atoms)) for m in placed]
        for force in add_valence_forces(system, valence):
            force.setForceGroup(GROUPS["valence"])
        if engine == "drude":
            drude.add_nonbonded_forces(system, placed, cutoff_nm, split_components)
        else:
            multipole.add_nonbonded_forces(system, placed, cutoff_nm, polarization, split_components)
        if self.neural is not None:
            force = neural_force(self.neural, placed, periodic=cutoff_nm is not None)
            force.setForceGroup(GROUPS["neural"])
            system.addForce(force)
        if cutoff_nm is not None:
            system.addForce(openmm.CMMotionRemover(1000))
        return system

    def committee(self, topology: Topology) -> Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]:
        """How far the members of the neural term differ in a periodic box of this topology: a function from
        atoms (n_atoms, 3) nm and box vectors (3, 3) nm to the standard deviation of the energy (kJ/mol) and,
        (n_atoms,), of the force on each atom (kJ/mol/nm).

        Raises:
            InputError: the force field has no neural term.
        """
        if self.neural is None:
            raise InputError("The force field has no neural term, so no committee; simulate with --neural.")
        placed = [self._placed(residue, "drude") for residue in topology.residues()]
        return neural_function(self.neural, placed, periodic=True).spread

    def physics_only(self) -> ForceField:
        """The same without its neural term."""
        return replace(self, neural=None)

    def place(self, topology: Topology, atom_xyz_nm: Any) -> np.ndarray:
        """(n_particles, 3) nm, from real atoms' positions, nm or an OpenMM quantity: oscillators at rest,
        sites where they belong. A topology of the `multipole` engine has nothing but atoms.

        Raises:
            InputError: these are not as many positions as real atoms.
        """
        if unit.is_quantity(atom_xyz_nm):
            atom_xyz_nm = atom_xyz_nm.value_in_unit(unit.nanometer)
        atoms, xyz = self.atom_indices(topology), np.array(atom_xyz_nm, dtype=float)
        if xyz.shape != (len(atoms), 3):
            raise InputError(
                f"positions: the topology has {len(atoms)} real atoms, so give ({len(atoms)}, 3) nm; these "
                f"are {xyz.shape}."
            )
        if topology.getNumAtoms() == len(atoms):
            return xyz
        positions = np.full((topology.getNumAtoms(), 3), np.nan)
        positions[atoms] = xyz
        for residue in topology.residues():
            m = self._placed(residue, "drude")
            own = positions[list(m.atoms)]
            positions[list(m.oscillators)] = own[m.species.oscillators.numpy()]
            positions[list(m.sites)] = site_positions(m.species.sites, torch.tensor(own)).numpy()
        return positions

    def atom_indices(self, topology: Topology) -> np.ndarray:
        """(n_atoms,) particle indices of the real atoms."""
        return np.array([atom.index for atom in topology.atoms() if atom.element is not None], dtype=int)

    def integrator(
        self, temperature: float, timestep_fs: float = 1.0, friction: float = 5.0
    ) -> openmm.DrudeLangevinIntegrator:
        """Langevin dynamics at `temperature` (K, friction in 1/ps), Drudes at 1 K behind a hard wall."""
        integrator = openmm.DrudeLangevinIntegrator(
            temperature, friction, DRUDE_TEMPERATURE, DRUDE_FRICTION, timestep_fs * 1e-3
        )
        integrator.setMaxDrudeDistance(MAX_DRUDE_DISTANCE)
        return integrator

    def multiple_time_steps(
        self, temperature: float, timestep_fs: float = 2.0, friction: float = 5.0
    ) -> openmm.MTSLangevinIntegrator:
        """Langevin dynamics for the `multipole` engine: multipoles once a step, other forces between
        molecules twice, those within molecules four times (Lagardere et al. 2019, doi
        10.1021/acs.jpclett.9b00901). K, fs, 1/ps; benchmarks/multiple_time_steps.py has its drift.
        """
        groups = [(GROUPS[name], times) for name, times in EVALUATIONS.items()]
        return openmm.MTSLangevinIntegrator(temperature, friction, timestep_fs * 1e-3, groups)

    def notes(self) -> list[str]:
        """Sentences about species whose short range leans on classes without data of their own, and about the
        neural term."""
        leaning = [note for species in self.species for note in self.short_range.leans_on(species)]
        neural = "neural term: it runs inside phyff only, so a system.xml holds the physics alone"
        return [*leaning, neural] if self.neural is not None else leaning

    def _refuse_long_molecules(self, topology: Topology, cutoff_nm: float) -> None:
        for species in {s.name: s for s in map(self._species_of, topology.residues())}.values():
            needed = multipole.shortest_cutoff([species])
            if needed > cutoff_nm:
                raise InputError(
                    f"{species.name} is too long for a cut-off of {cutoff_nm} nm in the multipole engine; "
                    f"use at least {math.ceil(100 * needed) / 100} nm, or the drude engine."
                )

    def _placed(self, residue: Residue, engine: str) -> Placed:
        species = self._species_of(residue)
        tensors = self.tensors[species.name]
        index = [atom.index for atom in residue.atoms()]
        n, k, m = species.n_atoms, len(tensors.oscillators), len(tensors.sites)
        if engine == "multipole":
            k = m = 0
        if len(index) != n + k + m:
            raise InputError(
                f"Residue {residue.id} ({residue.name}) has {len(index)} particles where {species.name} has "
                f"{n} atoms, {k} Drude particles and {m} sites; make the topology with ForceField.topology "
                f"for the {engine} engine."
            )
        return Placed(tensors, index[:n], index[n : n + k], index[n + k :])

    def _species_of(self, residue: Residue) -> SpeciesParameters:
        known = {s.name: s for s in self.species}
        if residue.chain.id in known:
            return known[residue.chain.id]
        matches = [s for s in self.species if residue_name(s.name) == residue.name]
        if len(matches) != 1:
            raise InputError(
                f"Residue {residue.id} ({residue.name}) is no species of the force field "
                f"({', '.join(known)}); "
                "name its chain after the species."
            )
        return matches[0]


def residue_name(name: str) -> str:
    """Up to four letters and digits, as PDB files allow."""
    return "".join(c for c in name.upper() if c.isalnum())[:4]


def _atom_names(elements: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    names = []
    for element in elements:
        seen[element] = seen.get(element, 0) + 1
        names.append(f"{element}{seen[element]}")
    return names
