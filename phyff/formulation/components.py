"""One line of a recipe: a molecule or salt with its role and amount, checked against chemistry."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from phyff.errors import InputError
from phyff.formulation.amounts import Amount
from phyff.species import library
from phyff.species.molecule import Molecule

ROLES = {"solvents": "solvent", "salts": "salt", "additives": "additive", "counts": "counted"}
"""Field of a recipe -> role of its components."""


@dataclass(frozen=True)
class Component:
    """A formula unit (one molecule, or the ions of a salt) in a formulation."""

    name: str
    smiles: str
    """SMILES of the formula unit; the ions of a salt are separated by dots."""
    role: str
    """"solvent", "salt", "additive" or "counted" (given by explicit count)."""
    amount: Amount
    species: tuple[tuple[str, str, int], ...]
    """(file-safe name, SMILES, number in one formula unit) of each molecule or ion."""

    @property
    def n_atoms(self) -> int:
        """Atoms of one formula unit, hydrogens included."""
        return sum(count * molecule(smiles).n_atoms for _, smiles, count in self.species)

    @property
    def molar_mass(self) -> float:
        """g/mol of formula units."""
        return float(sum(count * molecule(smiles).masses.sum() for _, smiles, count in self.species))

    @property
    def charge(self) -> int:
        """Net charge of one formula unit (e)."""
        return sum(count * molecule(smiles).charge for _, smiles, count in self.species)

    @property
    def is_molecular(self) -> bool:
        """Whether the unit is one neutral molecule; if not, it is a salt or an ion."""
        return len(self.species) == 1 and self.species[0][2] == 1 and self.charge == 0


def make_component(name: str | None, smiles: str | None, amount: Amount, field: str) -> Component:
    """Look up one entry of a recipe field (solvents, salts, additives or counts) and check its chemistry.

    Raises InputError for unknown names, bad SMILES, charged salts and species in the wrong field.
    """
    text = smiles if smiles is not None else name
    if text is None or not text.strip():
        raise InputError(
            f"{field}: a component has neither name nor SMILES; give one, such as EC or O=C1OCCO1."
        )
    text = text.strip()
    species = _look_up(text, field)
    label = name.strip() if name is not None and name.strip() and smiles is not None else None
    if label is not None and _is_known(label) and _key(_look_up(label, field)) != _key(species):
        raise InputError(
            f"{field}.{label}: SMILES {smiles!r} is not the library's {label}; choose another name "
            "or drop the SMILES."
        )
    component = Component(
        name=label or _plain_name(text, species),
        smiles=".".join(smiles for _, smiles, count in species for _ in range(count)),
        role=ROLES[field],
        amount=amount,
        species=species,
    )
    _check_chemistry(component, text, field)
    return component


def field_of(component: Component) -> str:
    """The recipe field that a component stands in."""
    return next(field for field, role in ROLES.items() if role == component.role)


def composition_key(component: Component) -> tuple:
    """Equal for components that are the same substance, however they were written."""
    return _key(component.species)


@lru_cache(maxsize=256)
def molecule(smiles: str) -> Molecule:
    """Molecule of a SMILES that has been checked before."""
    return Molecule.from_smiles(smiles)


def _look_up(text: str, field: str) -> tuple[tuple[str, str, int], ...]:
    try:
        return tuple(library.ions_of(text))
    except InputError as error:
        if "neither a known name" not in str(error) and not any(letter.isspace() for letter in text):
            raise InputError(f"{field}: {error}") from error
        names = {name.casefold(): name for name in (*library.known_names(), *library.known_salts())}
        near = [names[key] for key in get_close_matches(text.casefold(), names, n=3, cutoff=0.5)]
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "check the spelling, or a SMILES' brackets, ring numbers and valences."
        )
        raise InputError(f"{field}: {text!r} is neither a known name nor a valid SMILES; {hint}") from error


def _is_known(name: str) -> bool:
    if library.is_salt(name):
        return True
    known = (*library.known_names(), *(alias for species in library.SPECIES for alias in species.aliases))
    return name.casefold() in {entry.casefold() for entry in known}


def _key(species: tuple[tuple[str, str, int], ...]) -> tuple:
    return tuple(sorted((name, count) for name, _, count in species))


def _plain_name(text: str, species: tuple[tuple[str, str, int], ...]) -> str:
    """Library name of a molecule, ion or salt; the text as written for a salt without a name."""
    if len(species) == 1 and species[0][2] == 1:
        return species[0][0]
    known = _salt_names()
    if text.casefold() in known:
        return known[text.casefold()]
    same = [name for name in known.values() if _key(tuple(library.ions_of(name))) == _key(species)]
    preferred = [
        name for name in same if any(ion.rstrip("-") in name for ion, _, _ in species if ion.endswith("-"))
    ]
    return (preferred or same or [text])[0]


@lru_cache(maxsize=1)
def _salt_names() -> dict[str, str]:
    return {name.casefold(): name for name in library.known_salts()}


def _check_chemistry(component: Component, text: str, field: str) -> None:
    charge = component.charge
    if field == "counts":
        return
    if charge != 0 and len(component.species) == 1:
        raise InputError(
            f"{field}: {text!r} is an ion with charge {charge:+d}; give a neutral salt under salts, "
            "such as LiPF6 or "
            "'[Li+].F[P-](F)(F)(F)(F)F'."
        )
    if charge != 0:
        raise InputError(
            f"{field}: salt {text!r} is not neutral, its ions add up to {charge:+d}; repeat ions "
            "until the charges "
            "cancel, as in '[Na+].[Na+].[O-]C(=O)C(=O)[O-]'."
        )
    if field == "solvents" and not component.is_molecular:
        raise InputError(
            f"solvents: {text!r} is not one molecule; list salts under salts and solvents one by one."
        )
    if field == "salts" and component.is_molecular:
        raise InputError(f"salts: {text!r} is a neutral molecule; list it under solvents or additives.")
    neutral = [smiles for _, smiles, _ in component.species if molecule(smiles).charge == 0]
    if neutral and len(component.species) > 1:
        raise InputError(
            f"{field}: {text!r} holds the neutral molecule {neutral[0]!r} beside other species; "
            "list it on its own."
        )
