"""From a SMILES to a fitted species file: monomer quantum chemistry, then each term of the molecule."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from phyff.fit.charge_flow import ChargeFlowFit, fit_charge_flow, without_flow
from phyff.fit.electrostatics import ElectrostaticFit, fit_electrostatics
from phyff.fit.near_field import NearFieldFit, fit_near_field
from phyff.fit.response import fit_response, slater_of
from phyff.fit.valence import SHARE_TEMPERATURE, Sample, boltzmann_shares, fit_valence
from phyff.model.intramolecular import intramolecular_energy
from phyff.model.parameters import ShortRange, species_tensors
from phyff.model.valence import ValenceTerms
from phyff.qm.level import LevelOfTheory
from phyff.qm.monomer import ContactPotential, MonomerData, monomer_records
from phyff.qm.store import RecordStore
from phyff.species.molecule import Molecule
from phyff.species.parameters import (
    ChargeFlow,
    ConformerParameters,
    DrudeCharges,
    Slater,
    SpeciesParameters,
)
from phyff.units import BOHR_NM, HARTREE_KJ

CHARGE_TEMPERATURE = 1000.0
"""K, of the weights of conformers in the electrostatic fit: neighbours in a liquid, ions above all, shift
their energies by tens of kJ/mol, and charges must serve the forms that they favour too."""
SHAPE_SHARE, SHAPE_ROUNDS = 0.1, 2
"""Of the fit of charges, that shapes a molecule takes as it moves have, less what has flowed; its minima have
the rest. One form leaves large charges undetermined that cancel: dimethoxyethane had 1.4 e where 0.8 do."""


def build_species(
    name: str,
    smiles: str,
    level: LevelOfTheory,
    store: RecordStore,
    short_range: ShortRange | None,
    workers: int = 2,
) -> SpeciesParameters:
    """Compute what the store lacks and fit all terms of a species.

    short_range: the class model whose non-bonded energy inside the molecule is taken off before the valence
    fit; None leaves only charges and dispersion there (used before any class model exists).

    Raises:
        JobError, MonomerError, FitError: quantum chemistry or a fit failed.
    """
    return fit_species(
        name, monomer_records(Molecule.from_smiles(smiles), level, store, workers), short_range
    )


def fit_species(name: str, data: MonomerData, short_range: ShortRange | None) -> SpeciesParameters:
    """Every term of a species from its quantum data."""
    species = fit_nonbonded(name, data)
    return with_valence(species, data, short_range) if data.molecule.n_atoms > 1 else species


def fit_nonbonded(
    name: str, data: MonomerData, contacts: Sequence[ContactPotential] = ()
) -> SpeciesParameters:
    """Electrostatics, polarizability, dispersion and Slater widths; valence terms are still empty. contacts:
    potentials in shapes beside cations, which charge flow alone knows of."""
    molecule = data.molecule
    electrostatics, flow = _charges_and_flow(data, contacts)
    response = fit_response(data)
    slater = slater_of(data)
    near_field = _near_field(data, slater, electrostatics.drude_charges, flow.flows, contacts)
    return SpeciesParameters(
        name=name,
        smiles=molecule.smiles,
        mapped_smiles=molecule.mapped_smiles,
        charge=molecule.charge,
        elements=molecule.elements,
        symmetry_classes=molecule.symmetry_classes,
        atom_classes=molecule.atom_classes,
        conformers=_conformers(data, boltzmann_weights(data.energies)),
        multipoles=electrostatics.multipoles,
        drude_charges=electrostatics.drude_charges,
        charge_flow=flow.flows,
        near_field=near_field.atoms,
        polarizability=response.polarizability,
        multipole_polarizability=response.multipole_polarizability,
        dispersion=response.dispersion,
        slater=slater,
        valence=ValenceTerms(n_atoms=molecule.n_atoms),
        quality={
            "electrostatics": electrostatics.quality,
            **({"charge_flow": flow.quality} if flow.flows else {}),
            **({"near_field": near_field.quality} if near_field.atoms else {}),
            "response": response.quality,
        },
        provenance={
            "level_of_theory": data.level.to_dict(),
            "versions": {
                package: version(package) for package in ("pyscf", "numpy", "scipy", "rdkit", "tblite")
            },
            "python": platform.python_version(),
            "date": datetime.now(UTC).date().isoformat(),
            "command": f"phyff build '{molecule.smiles}'",
        },
    )


def without_flow_of_charge(
    species: SpeciesParameters, data: MonomerData, contacts: Sequence[ContactPotential] = ()
) -> SpeciesParameters:
    """The species with charges that stay, and the near field that goes with them."""
    near_field = _near_field(data, species.slater, species.drude_charges, (), contacts)
    quality = {**species.quality, "near_field": near_field.quality}
    return species.model_copy(update={"charge_flow": (), "near_field": near_field.atoms, "quality": quality})


def _near_field(
    data: MonomerData,
    slater: Slater,
    charges: DrudeCharges,
    flows: Sequence[ChargeFlow],
    contacts: Sequence[ContactPotential],
) -> NearFieldFit:
    """Of a bare cation, nothing."""
    if not data.contact_densities:
        return NearFieldFit((), {})
    weights = boltzmann_weights(data.energies, CHARGE_TEMPERATURE)
    return fit_near_field(data.molecule, data.contact_densities, weights, slater, charges, flows, contacts)


def _charges_and_flow(
    data: MonomerData, contacts: Sequence[ContactPotential]
) -> tuple[ElectrostaticFit, ChargeFlowFit]:
    """Charges, and their flow, which each are fitted to what the other leaves of the potentials; what only
    cations are to feel, the flow of the last round learns from contacts."""
    molecule, shapes = data.molecule, data.shapes
    weights = boltzmann_weights(data.energies, CHARGE_TEMPERATURE)
    charges = fit_electrostatics(molecule, data.densities, weights)
    flow = fit_charge_flow(molecule, data.densities, weights, shapes, charges.drude_charges)
    for _ in range(SHAPE_ROUNDS if shapes else 0):
        left = [without_flow(molecule, shape, flow.flows) for shape in shapes]
        charges = fit_electrostatics(molecule, data.densities, weights, left, SHAPE_SHARE)
        flow = fit_charge_flow(molecule, data.densities, weights, shapes, charges.drude_charges)
    if contacts:
        flow = fit_charge_flow(molecule, data.densities, weights, shapes, charges.drude_charges, contacts)
    return charges, flow


def with_valence(
    species: SpeciesParameters, data: MonomerData, short_range: ShortRange | None
) -> SpeciesParameters:
    """The species with its valence terms fitted on top of its non-bonded energy inside the molecule."""
    minima = [
        Sample("minimum", xyz * BOHR_NM, (energy - data.energies[0]) * HARTREE_KJ, np.zeros_like(xyz))
        for xyz, energy in zip(data.conformers, data.energies, strict=True)
    ]
    samples = [
        Sample(
            _kind(sample.group),
            sample.xyz * BOHR_NM,
            (sample.energy - data.energies[0]) * HARTREE_KJ,
            -sample.gradient * HARTREE_KJ / BOHR_NM,
        )
        for sample in data.samples
        if not sample.group.startswith("minimum")
    ]
    model = short_range or ShortRange.charges_only()
    tensors = species_tensors(species, model)

    def nonbonded(xyz: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        position = torch.tensor(xyz, requires_grad=True)
        energy = intramolecular_energy(tensors, position)
        if not energy.requires_grad:
            return 0.0, np.zeros_like(xyz)
        (gradient,) = torch.autograd.grad(energy, position)
        return float(energy.detach()), -gradient.numpy()

    far = bool((~tensors.close).any())
    fit = fit_valence(
        data.molecule, minima, samples, data.hessian * HARTREE_KJ / BOHR_NM**2, nonbonded if far else None
    )
    return species.model_copy(
        update={"valence": fit.terms, "quality": {**species.quality, "valence": dict(fit.quality)}}
    )


def boltzmann_weights(energies: NDArray[np.float64], temperature: float = SHARE_TEMPERATURE) -> list[float]:
    """Populations of minima with total energies in hartree; vibrations are not counted."""
    return boltzmann_shares((energies - energies.min()) * HARTREE_KJ, temperature).tolist()


def _conformers(data: MonomerData, weights: Sequence[float]) -> tuple[ConformerParameters, ...]:
    return tuple(
        ConformerParameters(
            xyz_nm=tuple(tuple(row) for row in (xyz * BOHR_NM).tolist()),
            energy=float((energy - data.energies[0]) * HARTREE_KJ),
            weight=weight,
        )
        for xyz, energy, weight in zip(data.conformers, data.energies, weights, strict=True)
    )


def _kind(group: str) -> Literal["displaced", "torsion", "twisted"]:
    if group.startswith("torsion"):
        return "torsion"
    return "twisted" if group.startswith("twisted") else "displaced"
