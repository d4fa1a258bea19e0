"""Whole numbers of molecules and ions that reproduce a composition best, and a report of what was reached."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from phyff.errors import InputError
from phyff.formulation.amounts import PERCENT_UNITS
from phyff.formulation.components import Component, molecule
from phyff.formulation.composition import mole_fractions, parts
from phyff.formulation.recipe import DEFAULT_ATOMS, check_atoms
from phyff.formulation.volumes import ASSUMPTION, component_volume, is_given
from phyff.units import AMU_NM3_TO_G_CM3, AVOGADRO

if TYPE_CHECKING:
    from phyff.formulation.formulation import Formulation

SIZE_WINDOW = 0.05
"""Relative range around the target size that is searched for the best counts."""
NOTABLE_ERROR = 0.03
"""Relative error of a component's amount above which the notes mention it."""

_NM3_PER_CM3_MOL = 1e21 / AVOGADRO


@dataclass(frozen=True)
class CompositionRow:
    """Requested beside achieved composition of one component (formula units)."""

    name: str
    smiles: str
    role: str
    count: int
    requested: str
    """Amount as asked for."""
    achieved: str
    """Amount in the box, in the same unit."""
    mole_fraction_requested: float
    mole_fraction: float
    mass_fraction_requested: float
    mass_fraction: float
    molarity: float
    """mol/L at the box's assumed density."""
    molality: float
    """mol per kg of all neutral molecules."""


@dataclass(frozen=True)
class Box:
    """Counts for a cubic, neutral box and the composition they make."""

    counts: tuple[tuple[str, str, int], ...]
    """(file-safe name, SMILES, count) of each molecule and ion: molecules, cations, anions."""
    n_atoms: int
    density: float
    """g/cm3; an assumption, see notes."""
    edge_nm: float
    rows: tuple[CompositionRow, ...]
    notes: tuple[str, ...]
    """What was assumed, in plain words."""

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        return asdict(self)


def fill(
    formulation: "Formulation", n_atoms: int | None, given: dict[str, float], cutoff_nm: float | None
) -> Box:
    """Box of a formulation; see Formulation.box for the arguments and errors."""
    components = formulation.components
    _check_given(components, given)
    volumes = np.array([component_volume(c, given) for c in components])
    fractions = mole_fractions(components, volumes)
    atoms = np.array([c.n_atoms for c in components])
    if fractions @ volumes <= 0.0:
        raise InputError("molar_volumes: the mixture's volume is not positive; give larger molar volumes.")
    explicit = components[0].role == "counted"
    if explicit:
        counts = np.array([round(c.amount.value) for c in components])
    else:
        counts = _best_counts(
            components, fractions, atoms, _target_atoms(formulation, n_atoms, fractions, atoms, volumes)
        )
    masses = np.array([c.molar_mass for c in components])
    volume = float(counts @ volumes) * _NM3_PER_CM3_MOL
    density = float(counts @ masses) / volume * AMU_NM3_TO_G_CM3
    edge = volume ** (1.0 / 3.0)
    if cutoff_nm is not None and edge < 2.0 * cutoff_nm:
        needed = math.ceil(1.05 * (2.0 * cutoff_nm) ** 3 / volume * float(counts @ atoms) / 10.0) * 10
        by_edge = formulation.box_nm is not None and n_atoms is None
        field = "counts" if explicit else "box_nm" if by_edge else "atoms"
        raise InputError(
            f"{field}: the box of {int(counts @ atoms)} atoms is {edge:.2f} nm wide, less than twice "
            f"the cut-off of {cutoff_nm:g} nm; use at least {needed} atoms."
        )
    rows = _rows(components, fractions, counts, masses, volumes)
    return Box(
        counts=_species_counts(components, counts),
        n_atoms=int(counts @ atoms),
        density=density,
        edge_nm=edge,
        rows=rows,
        notes=_notes(formulation, rows, given, volumes, density, explicit and n_atoms is not None),
    )


def ordered_species(components: tuple[Component, ...]) -> list[tuple[str, str]]:
    """(name, SMILES) of every species once, in order of appearance: neutral molecules, cations, anions."""
    found = dict.fromkeys((name, smiles) for c in components for name, smiles, _ in c.species)
    return sorted(found, key=lambda species: _rank(molecule(species[1]).charge))


def _rank(charge: int) -> int:
    return 0 if charge == 0 else 1 if charge > 0 else 2


def _check_given(components: tuple[Component, ...], given: dict[str, float]) -> None:
    known = {key for c in components for key in (c.name, c.smiles)}
    known |= {key for c in components for name, smiles, _ in c.species for key in (name, smiles)}
    for key, value in given.items():
        if key not in known:
            raise InputError(
                f"molar_volumes: {key!r} is not in the formulation; it holds {', '.join(sorted(known))}."
            )
        if not math.isfinite(value):
            raise InputError(f"molar_volumes.{key}: {value} is not a finite number; give cm3/mol.")
    for component in components:
        if component.is_molecular and component_volume(component, given) <= 0.0:
            raise InputError(f"molar_volumes.{component.name}: it is not positive; give cm3/mol.")


def _target_atoms(
    formulation: "Formulation",
    n_atoms: int | None,
    fractions: np.ndarray,
    atoms: np.ndarray,
    volumes: np.ndarray,
) -> float:
    if n_atoms is not None:
        check_atoms(n_atoms)
        return float(n_atoms)
    if formulation.box_nm is not None:
        units = formulation.box_nm**3 / (fractions @ volumes * _NM3_PER_CM3_MOL)
        return float(units * (fractions @ atoms))
    return float(formulation.atoms or DEFAULT_ATOMS)


def _best_counts(
    components: tuple[Component, ...], fractions: np.ndarray, atoms: np.ndarray, target: float
) -> np.ndarray:
    """Counts of formula units near `target` atoms with the least sum of relative mole-fraction errors."""
    ideal = target / (fractions @ atoms) * fractions
    rarest = int(np.argmin(ideal))
    if ideal[rarest] < 0.5:
        needed = math.ceil(target / ideal[rarest] / 10.0) * 10
        raise InputError(
            f"atoms: {components[rarest].amount} {components[rarest].name} is only "
            f"{ideal[rarest]:.2f} molecules in a box "
            f"of {target:.0f} atoms; write a recipe file with 'atoms: {needed}', take a larger preset, or "
            "drop the component."
        )
    scales = np.linspace(1.0 - SIZE_WINDOW, 1.0 + SIZE_WINDOW, 2001)
    candidates = np.unique(np.maximum(np.rint(scales[:, None] * ideal), 1).astype(int), axis=0)
    reached = candidates / candidates.sum(axis=1, keepdims=True)
    error = np.abs(reached / fractions - 1.0).sum(axis=1)
    size = np.abs(candidates @ atoms / target - 1.0)
    return candidates[np.argmin(error + 0.1 * size)]


def _species_counts(
    components: tuple[Component, ...], counts: np.ndarray
) -> tuple[tuple[str, str, int], ...]:
    totals = dict.fromkeys(ordered_species(components), 0)
    for component, units in zip(components, counts, strict=True):
        for name, smiles, number in component.species:
            totals[name, smiles] += int(units) * number
    return tuple((name, smiles, total) for (name, smiles), total in totals.items())


def _rows(
    components: tuple[Component, ...],
    fractions: np.ndarray,
    counts: np.ndarray,
    masses: np.ndarray,
    volumes: np.ndarray,
) -> tuple[CompositionRow, ...]:
    reached = counts / counts.sum()
    molecular = np.array([c.is_molecular for c in components])
    molarity = 1000.0 * counts / (counts @ volumes)
    molality = 1000.0 * counts / (counts @ (masses * molecular))
    shares = {
        "w/w": counts * masses,
        "v/v": counts * volumes,
        "mol": counts.astype(float),
        "wt%": counts * masses,
        "vol%": counts * volumes,
        "mol%": counts.astype(float),
        "x": counts.astype(float),
    }
    group = parts(components)
    rows = []
    for i, component in enumerate(components):
        unit = component.amount.unit
        if unit == "M":
            achieved = molarity[i]
        elif unit == "m":
            achieved = molality[i]
        elif unit == "count":
            achieved = float(counts[i])
        elif i in group:
            achieved = (
                shares[unit][i] / shares[unit][group].sum() * sum(components[k].amount.value for k in group)
            )
        else:
            achieved = shares[unit][i] / shares[unit].sum() * PERCENT_UNITS[unit]
        rows.append(
            CompositionRow(
                name=component.name,
                smiles=component.smiles,
                role=component.role,
                count=int(counts[i]),
                requested=str(component.amount),
                achieved=f"{achieved:.4g} {unit}",
                mole_fraction_requested=float(fractions[i]),
                mole_fraction=float(reached[i]),
                mass_fraction_requested=float(fractions[i] * masses[i] / (fractions @ masses)),
                mass_fraction=float(reached[i] * masses[i] / (reached @ masses)),
                molarity=float(molarity[i]),
                molality=float(molality[i]),
            )
        )
    return tuple(rows)


def _notes(
    formulation: "Formulation",
    rows: tuple[CompositionRow, ...],
    given: dict[str, float],
    volumes: np.ndarray,
    density: float,
    size_ignored: bool,
) -> tuple[str, ...]:
    components = formulation.components
    units = {c.amount.unit for c in components}
    known = [f"{c.name} {v:.1f}" for c, v in zip(components, volumes, strict=True) if is_given(c, given)]
    guessed = [
        f"{c.name} {v:.1f}" for c, v in zip(components, volumes, strict=True) if not is_given(c, given)
    ]
    notes = []
    if guessed:
        notes.append(f"Molar volumes in cm3/mol: {', '.join(guessed)}, {ASSUMPTION}.")
    if known:
        notes.append(f"Molar volumes in cm3/mol: {', '.join(known)}, as given by the caller.")
    notes.append(
        f"Volumes are taken to add up, which makes the starting density {density:.3f} g/cm3; it "
        "sets the starting box "
        "only, the simulation finds its own."
    )
    if "M" in units:
        notes.append(
            "Molarities (mol per litre of solution) are turned into counts with this density; if "
            "the real density is "
            f"d, the real molarity is the listed one times d / {density:.3f}."
        )
    if units & {"v/v", "vol%"}:
        notes.append("Volume ratios are of the pure liquids before mixing, with the molar volumes above.")
    if "m" in units:
        notes.append("Molality is per kg of all neutral molecules, solvents and additives together.")
    group = parts(components)
    shares = [
        f"{c.amount} {c.name}"
        for i, c in enumerate(components)
        if i not in group and c.amount.unit in PERCENT_UNITS
    ]
    if shares:
        notes.append(f"{', '.join(shares)}: a share of the whole solution, salts included.")
    for row in rows:
        error = abs(row.mole_fraction / row.mole_fraction_requested - 1.0)
        if error > NOTABLE_ERROR:
            notes.append(
                f"{row.name}: {row.count} formula units give {row.achieved} instead of {row.requested}; "
                "a larger box comes closer."
            )
    if size_ignored:
        notes.append("The box size follows the explicit counts; the number of atoms asked for was not used.")
    return tuple(notes)
