"""Short-range classes and what a force field makes of them for each species: typed tensors for phyff/model.

An atom's amplitude for a component is s(class, component) N B^(3/2): the MBIS overlap model times a class
factor, so that classes transfer between molecules whose densities differ. A pair's amplitude is the product,
its exponent sqrt(B_i B_j), less in the components that attract. A bare cation sits deep in its neighbour's
density, where it decays otherwise than where molecules touch: towards one, amplitude and exponent of an atom
start from its part of the molecule's density there (phyff.model.near_field), which the factors and the width
of a contact class multiply, and those of the cation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from phyff.errors import InputError
from phyff.model.charge_flow import FlowTensors
from phyff.model.near_field import NearFieldTensors
from phyff.model.pairs import COMPONENTS
from phyff.species.frames import LocalFrame, local_frames
from phyff.species.parameters import ChargeSite, SpeciesParameters
from phyff.units import COULOMB

DRUDE_FORCE_CONSTANT = 836800.0
"""kJ/mol/nm^2, twice CHARMM's: displacements near a cation stay small against bond lengths."""
FALLBACK = "*"
"""Class of atoms whose element was never seen: geometric means over all classes."""
START_DAMPING = 2.6
"""Thole exponent between molecules, CHARMM's sum of two atoms' 1.3."""


class ShortRangeClass(BaseModel):
    """Factors of one atom class, and how many dimer points determined them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: float
    penetration: float
    charge_transfer: float
    width: float = 1.0
    """Factor on the MBIS exponent B."""
    attraction_width: float = 1.0
    """Further factor on it in penetration and charge transfer, which reach farther than exchange: they go
    with the density of one partner, exchange with the overlap of two."""
    transfer_width: float = 1.0
    """Further factor on it in charge transfer; of bare cations only, whose charge transfer mends a damped
    polarization and reaches farther than their penetration."""
    points: int = 0


CONTACT_ENERGY = 8.0
"""kJ/mol nm^3/e: about the exchange of Li+ over the density it sits in, so that factors of contacts are about
one."""
CATION_EXPONENT = 30.0
"""nm^(-1/2), a bare cation's share of the exponent of a contact, whatever that is: so large that two of them
have no short range."""
CATION_OVERLAP = (8.1, 84.0)
"""Exponent, nm^(-1/2), and amplitude, (kJ/mol)^(1/2), of a bare cation with factors of one: with those that a
molecule's atoms have for one another they give about the exchange of a contact, as the neural term weighs
it."""
UNCHANGED = ShortRangeClass(exchange=1.0, penetration=1.0, charge_transfer=1.0)
"""Factors of a contact that is as the density says."""


class ShortRange(BaseModel):
    """The short-range model shared by all species (molecules/short_range.json)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["phyff-short-range-1"] = "phyff-short-range-1"
    classes: dict[str, ShortRangeClass]
    cation_contacts: dict[str, ShortRangeClass] = {}
    """By label: what an atom's density is multiplied with in a pair with a bare cation, and its width; labels
    that are not here, coarser ones included, have FALLBACK's, or 1. The widths of attraction and transfer are
    the class's own."""
    damping: float
    """Thole exponent between molecules: u = damping r / (alpha_i alpha_j)^(1/6)."""
    damping_alpha: dict[str, float]
    """nm^3 in that formula for classes whose own polarizability does not set it (bare cations)."""
    multipole_damping_alpha: dict[str, float] = {}
    """The same for the damping of the `multipole` engine, where it differs."""
    multipole_contacts: dict[str, dict[str, tuple[float, float]]] = {}
    """By element of a bare cation, then by label as in `classes` or `in_species` (0 for labels that are not
    here): shares of the exchange that the `multipole` engine adds to a pair's induction, with the exponents
    of exchange and of charge transfer. AMOEBA's damping gives other dipoles at contact than the oscillators
    have."""
    dispersion_widths: dict[str, float] = {}
    """Factors on the MBIS exponents in the damping of dispersion by element; FALLBACK names the others'."""
    quality: dict[str, Any] = {}
    provenance: dict[str, Any] = {}

    @classmethod
    def load(cls, path: Path) -> ShortRange:
        """Read and validate.

        Raises:
            InputError: the file is missing or a field does not make sense.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise InputError(f"Short-range file {path} cannot be read; check the path.") from error
        except ValidationError as error:
            raise InputError(f"Short-range file {path}: {error.errors()[0]['msg']}.") from error

    @classmethod
    def charges_only(cls) -> ShortRange:
        """A model without short-range terms, for the steps before any has been fitted."""
        off = ShortRangeClass(exchange=0.0, penetration=0.0, charge_transfer=0.0)
        return cls(classes={FALLBACK: off}, damping=START_DAMPING, damping_alpha={})

    def class_of(self, labels: Sequence[str]) -> str:
        """Finest class (of an atom's labels, finest first) that the model knows."""
        return next((label for label in labels if label in self.classes), FALLBACK)

    def contact_of(self, labels: Sequence[str]) -> ShortRangeClass:
        """Factors on an atom's density (labels finest first) in a pair with a bare cation."""
        known = (
            self.cation_contacts[label] for label in (*labels, FALLBACK) if label in self.cation_contacts
        )
        return next(known, UNCHANGED)

    def multipole_contact_of(self, cation: str, labels: Sequence[str]) -> tuple[float, float]:
        """`multipole_contacts` of an atom (labels finest first) with a bare cation of an element."""
        known = self.multipole_contacts.get(cation, {})
        return next((known[label] for label in labels if label in known), (0.0, 0.0))

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that name the content of the model."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def leans_on(self, species: SpeciesParameters) -> list[str]:
        """Sentences on a species without dimers of its own, and on atoms whose class no data of their own
        environment determined."""
        notes = {}
        for element, labels in zip(species.elements, species.atom_classes, strict=True):
            found = self.class_of(labels)
            if found == FALLBACK:
                notes[element] = (
                    f"{species.name}: no dimer data for element {element}; "
                    "its short range is a mean over classes"
                )
            elif found not in labels[:FINE_LEVELS]:
                notes[labels[0]] = (
                    f"{species.name}: {element} ({labels[1]}) leans on the coarser class {found}"
                )
            elif not self.classes[found].points:
                notes[labels[0]] = (
                    f"{species.name}: {element} ({labels[1]}) has dimers with bare cations only; towards "
                    "other species it leans on similar classes"
                )
        fitted = self.fitted_species
        if fitted and species.name not in fitted:
            notes[""] = (
                f"{species.name}: no dimers of its own are in the fit; its short range is that of classes it "
                "shares with other species"
            )
        return sorted(notes.values())

    @property
    def fitted_species(self) -> set[str]:
        """Names of the species whose dimers the model was fitted to; none where it does not say."""
        pairs = self.provenance.get("pairs", [])
        return {name for pair in pairs for name in pair.split(" in ")[0].split(" + ")}


def in_species(name: str, labels: Sequence[str]) -> str:
    """Label of an atom (labels finest first) as one of a species."""
    return f"{name}:{labels[0]}"


FINE_LEVELS = 2
"""Atom labels counted as an atom's own environment; the ones after that are coarser."""


@dataclass(frozen=True)
class MultipoleTensors:
    """Permanent and induced moments of the `multipole` engine; n atoms, float64, nm, e.

    Attributes:
        frames: one an atom; the moments are given in them, for atoms of positive handedness.
        charges, dipoles, quadrupoles: (n,), (n, 3), (n, 3, 3), Buckingham's quadrupole.
        alpha: (n,) nm^3, zero for atoms that are not polarizable.
        sizes: (n,) nm^(1/2); two atoms damp with w = a (r / (s_i s_j))^3.
        thole: a; the smaller of two molecules' values counts between them.
        contacts: by element of a bare cation, (2, n) amplitudes, (kJ/mol)^(1/2), of the induction that a pair
            with one has beside that of its dipoles: with the exponents of exchange, and of charge transfer.
    """

    frames: tuple[LocalFrame, ...]
    charges: Tensor
    dipoles: Tensor
    quadrupoles: Tensor
    alpha: Tensor
    sizes: Tensor
    thole: float
    contacts: dict[str, Tensor]


@dataclass(frozen=True)
class SpeciesTensors:
    """One species as the non-bonded model sees it; n atoms, m sites, k oscillators. float64, nm, kJ/mol, e.

    Attributes:
        elements: (n,) symbols.
        charges: (n + m,) permanent charges, atoms first.
        parents: (n + m,) atom each charge belongs to.
        sites: the m site definitions.
        oscillators: (k,) atoms that carry one.
        alpha: (k,) nm^3.
        oscillator_charges: (k,) charge of the mobile particle, negative; its atom carries the opposite.
        thole: between oscillators of the molecule.
        widths: (n,) nm^(1/2); two particles damp with u = r / (w_i w_j).
        exponents: (n,) sqrt(B), nm^(-1/2), of exchange.
        attraction_exponents: (n,) the same of penetration and charge transfer.
        damping_exponents: (n,) the same for the damping of dispersion.
        amplitudes: (3, n) in the order of COMPONENTS, (kJ/mol)^(1/2).
        bare_cation: (n,) whether the atom is one. In a pair of such an atom with another both have
            contact_amplitudes (3, n), (kJ/mol)^(1/2), and contact_exponents (n,), nm^(-1/2), of exchange,
            contact_attraction_exponents of penetration, contact_transfer_exponents of charge transfer.
        c6, c8, c10: (n,) square roots of the coefficients.
        flows: charge that flows along bonds as the molecule moves.
        near_field: what bare cations feel of its electrons beside charges and spheres.
        close: (n, n) True for atoms at most three bonds apart, whose permanent and short-range terms are off.
        bonds: (2, b) atoms bonded to each other, each bond once.
        multipoles: what the `multipole` engine has in place of charges, sites and oscillators.
    """

    name: str
    elements: tuple[str, ...]
    charges: Tensor
    parents: Tensor
    sites: tuple[ChargeSite, ...]
    oscillators: Tensor
    alpha: Tensor
    oscillator_charges: Tensor
    thole: float
    widths: Tensor
    exponents: Tensor
    attraction_exponents: Tensor
    damping_exponents: Tensor
    amplitudes: Tensor
    bare_cation: Tensor
    contact_amplitudes: Tensor
    contact_exponents: Tensor
    contact_attraction_exponents: Tensor
    contact_transfer_exponents: Tensor
    c6: Tensor
    c8: Tensor
    c10: Tensor
    flows: FlowTensors
    near_field: NearFieldTensors
    close: Tensor
    bonds: Tensor
    multipoles: MultipoleTensors

    @property
    def is_bare_cation(self) -> bool:
        """Whether the species is a single atom with a positive charge."""
        return bool(self.bare_cation.all())


def species_tensors(species: SpeciesParameters, short_range: ShortRange) -> SpeciesTensors:
    """The non-bonded parameters of one species under a short-range model."""

    labels = [short_range.class_of(labels) for labels in species.atom_classes]
    classes = [short_range.classes[label] for label in labels]
    alpha = _column(species.polarizability.alpha)
    oscillators = torch.nonzero(alpha > 0).ravel()
    width = _column([c.width for c in classes])
    b = _column(species.slater.exponents) * width
    flatter = _column([c.attraction_width for c in classes])
    transfer = flatter * _column([c.transfer_width for c in classes])
    overlap = _column(species.slater.populations) * b**1.5
    factors = torch.stack([_column([getattr(c, component) for c in classes]) for component in COMPONENTS])
    near_field = NearFieldTensors.of(species.molecule, species.near_field)
    if species.is_bare_cation:
        b, overlap = CATION_OVERLAP[0] ** 2 * width, torch.full_like(b, CATION_OVERLAP[1])
        contacts, density, decay = classes, torch.ones_like(b), torch.full_like(b, CATION_EXPONENT)
    else:
        contacts = [short_range.contact_of(own) for own in species.atom_classes]
        density, decay = near_field.densities, near_field.density_exponents / CATION_EXPONENT
    closer = _column([c.width for c in contacts])
    changed = torch.stack([_column([getattr(c, component) for c in contacts]) for component in COMPONENTS])
    contact_amplitudes = CONTACT_ENERGY**0.5 * density * changed * closer**1.5
    contact_exponents = decay * torch.sqrt(closer)
    shared = short_range.dispersion_widths.get(FALLBACK, 1.0)
    dispersion = [short_range.dispersion_widths.get(element, shared) for element in species.elements]
    sites = species.drude_charges.sites
    distances = torch.tensor(species.molecule.distance_matrix())
    return SpeciesTensors(
        name=species.name,
        elements=species.elements,
        charges=_column([*species.drude_charges.atoms, *(site.charge for site in sites)]),
        parents=torch.tensor([*range(species.n_atoms), *(site.atoms[0] for site in sites)]),
        sites=sites,
        oscillators=oscillators,
        alpha=alpha[oscillators],
        oscillator_charges=-torch.sqrt(DRUDE_FORCE_CONSTANT * alpha[oscillators] / COULOMB),
        thole=species.polarizability.thole,
        widths=_damping_sizes(species, alpha, short_range, {}) / short_range.damping**0.5,
        exponents=torch.sqrt(b),
        attraction_exponents=torch.sqrt(b * flatter),
        damping_exponents=torch.sqrt(_column(dispersion) * _column(species.slater.exponents)),
        amplitudes=factors * overlap,
        bare_cation=torch.full((species.n_atoms,), species.is_bare_cation),
        contact_amplitudes=contact_amplitudes,
        contact_exponents=contact_exponents,
        contact_attraction_exponents=contact_exponents * torch.sqrt(flatter),
        contact_transfer_exponents=contact_exponents * torch.sqrt(transfer),
        c6=torch.sqrt(_column(species.dispersion.c6)),
        c8=torch.sqrt(_column(species.dispersion.c8)),
        c10=torch.sqrt(_column(species.dispersion.c10)),
        flows=FlowTensors.of(species.molecule, species.charge_flow),
        near_field=near_field,
        close=distances <= 3,
        bonds=torch.tensor(species.molecule.bonds, dtype=torch.long).reshape(-1, 2).T,
        multipoles=_multipole_tensors(species, short_range, contact_amplitudes[COMPONENTS.index("exchange")]),
    )


def _multipole_tensors(
    species: SpeciesParameters, short_range: ShortRange, exchange: Tensor
) -> MultipoleTensors:
    polarizability, moments = species.multipole_polarizability, species.multipoles
    alpha = _column(polarizability.alpha)
    return MultipoleTensors(
        frames=local_frames(species.molecule),
        charges=_column(moments.charges),
        dipoles=torch.tensor(moments.dipoles, dtype=torch.float64),
        quadrupoles=torch.tensor(moments.quadrupoles, dtype=torch.float64),
        alpha=alpha,
        sizes=_damping_sizes(species, alpha, short_range, short_range.multipole_damping_alpha),
        thole=polarizability.thole,
        contacts={
            cation: exchange
            * torch.tensor(
                [
                    short_range.multipole_contact_of(cation, (in_species(species.name, own), *own))
                    for own in species.atom_classes
                ],
                dtype=torch.float64,
            ).T
            for cation in short_range.multipole_contacts
        },
    )


def _damping_sizes(
    species: SpeciesParameters, alpha: Tensor, short_range: ShortRange, differing: Mapping[str, float]
) -> Tensor:
    """(n,) nm^(1/2): sixth roots of the polarizabilities, or of what stands in their place."""
    known = {**short_range.damping_alpha, **differing}
    labels = [short_range.class_of(labels) for labels in species.atom_classes]
    own = zip(labels, species.elements, alpha.tolist(), strict=True)
    return _column([known.get(label, known.get(element, value)) for label, element, value in own]) ** (1 / 6)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
