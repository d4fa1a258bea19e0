"""A formulation: components with roles and amounts, temperature and pressure; from text, file or fields."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phyff.errors import InputError
from phyff.formulation import box as boxes
from phyff.formulation import composition
from phyff.formulation.amounts import PERCENT_UNITS, RATIO_UNITS, Amount, parse_amount, split_number
from phyff.formulation.components import ROLES, Component, composition_key, field_of, make_component
from phyff.formulation.oneline import parse_one_line
from phyff.formulation.recipe import Entry, Recipe, load_yaml, read_recipe, validated
from phyff.formulation.volumes import component_volume
from phyff.species import library

RECIPE_SUFFIXES = (".yaml", ".yml", ".json")


_YAML = re.compile(rf"({'|'.join(Recipe.model_fields)})\s*:(\s|$)")
"""A recipe that stands in one line."""


@dataclass(frozen=True)
class Formulation:
    """What is in the liquid and at which conditions; immutable, equal when every field is equal."""

    name: str
    components: tuple[Component, ...]
    """Solvents, then additives, then salts; or the counted species in their order."""
    temperature_K: float = 298.15
    pressure_bar: float = 1.0
    atoms: int | None = None
    """Target number of atoms of the box, when the recipe gives one."""
    box_nm: float | None = None
    """Target edge of the cubic box, when the recipe gives one."""

    @classmethod
    def parse(cls, source: str | Path | Mapping) -> "Formulation":
        """Read a one-line formulation, a recipe file's path, a recipe's YAML text or its fields.

        Text ending in .yaml, .yml or .json, and text naming an existing file, is a path. Raises InputError.
        """
        if isinstance(source, Mapping):
            return cls._from_recipe(validated(source))
        if isinstance(source, Path):
            return cls._from_recipe(read_recipe(source))
        if not isinstance(source, str):
            raise InputError(
                f"recipe: {source!r} is not a formulation; give text, a path or a mapping of fields."
            )
        text = source.strip()
        if "\n" in text or _YAML.match(text):
            return cls._from_recipe(validated(load_yaml(text)))
        if text.lower().endswith(RECIPE_SUFFIXES) or _is_file(text):
            return cls._from_recipe(read_recipe(Path(text)))
        if text.endswith("/") or ("/" in text and Path(text).is_dir()):
            raise InputError(f"recipe: {text!r} is a folder; name a recipe file in it.")
        return cls._from_recipe(validated(parse_one_line(text)))

    @classmethod
    def _from_recipe(cls, recipe: Recipe) -> "Formulation":
        components = tuple(
            _component(entry, field, len(getattr(recipe, field)))
            for field in ("solvents", "additives", "salts", "counts")
            for entry in getattr(recipe, field)
        )
        _check_together(components)
        return cls(
            name=(recipe.name or ", ".join(component.name for component in components)).strip(),
            components=components,
            temperature_K=float(recipe.temperature_K),
            pressure_bar=float(recipe.pressure_bar),
            atoms=recipe.atoms,
            box_nm=None if recipe.box_nm is None else float(recipe.box_nm),
        )

    def to_dict(self) -> dict:
        """Fields of a recipe that parses to this formulation; plain data for YAML or JSON."""
        fields: dict = {
            "name": self.name,
            "temperature_K": self.temperature_K,
            "pressure_bar": self.pressure_bar,
        }
        fields |= {key: getattr(self, key) for key in ("atoms", "box_nm") if getattr(self, key) is not None}
        for field, role in ROLES.items():
            entries = [
                {"name": c.name, "smiles": c.smiles, "amount": f"{c.amount.value!r} {c.amount.unit}"}
                for c in self.components
                if c.role == role
            ]
            fields |= {field: entries} if entries else {}
        return fields

    @property
    def has_size(self) -> bool:
        """Whether the recipe itself fixes the box (atoms, box_nm or explicit counts)."""
        return self.atoms is not None or self.box_nm is not None or self.components[0].role == "counted"

    @property
    def species(self) -> list[tuple[str, str]]:
        """(file-safe name, SMILES) of every molecule and ion, each once: molecules, cations, anions."""
        return boxes.ordered_species(self.components)

    def mole_fractions(self, molar_volumes: dict[str, float] | None = None) -> np.ndarray:
        """Requested mole fraction of each component, counted in formula units; shape (n_components,).

        `molar_volumes` in cm3/mol as in `box`. Raises InputError when the amounts cannot all hold at once.
        """
        volumes = np.array([component_volume(c, molar_volumes or {}) for c in self.components])
        return composition.mole_fractions(self.components, volumes)

    def box(
        self,
        n_atoms: int | None = None,
        molar_volumes: dict[str, float] | None = None,
        cutoff_nm: float | None = 0.8,
    ) -> boxes.Box:
        """Whole numbers of molecules and ions for a cubic box.

        n_atoms: target size; without it the recipe's atoms or box_nm, else 2000. Explicit counts stay.
        molar_volumes: cm3/mol by component or species name or SMILES; the rest is estimated (see notes).
        cutoff_nm: the estimated edge must be at least twice this; None skips the check.
        Raises InputError when a component does not fit once, or the box is smaller than the cut-off allows.
        """
        return boxes.fill(self, n_atoms, molar_volumes or {}, cutoff_nm)


def _component(entry: Entry, field: str, n_entries: int) -> Component:
    label = entry.name if entry.name is not None else entry.smiles
    where = f"{field}.{label}" if label else field
    if entry.amount is None and field == "solvents" and n_entries == 1:
        amount = Amount(1.0, "mol")
    elif entry.amount is None:
        example = {"solvents": "1 w/w", "salts": "1.0 M", "additives": "2 wt%", "counts": "30"}[field]
        raise InputError(f"{where}: the amount is missing; add one, such as '{example}'.")
    else:
        text = entry.amount
        bare = field == "counts" and not isinstance(text, bool) and not split_number(str(text))[1]
        amount = parse_amount(f"{text} count" if bare else text, where)
    allowed = {
        "solvents": (*RATIO_UNITS, *PERCENT_UNITS),
        "salts": ("M", "m", "wt%", "mol%", "x", "w/w", "mol"),
        "additives": ("M", "m", *PERCENT_UNITS, *RATIO_UNITS),
        "counts": ("count",),
    }[field]
    if amount.unit not in allowed:
        raise InputError(
            f"{where}: unit {amount.unit!r} cannot be used in {field}; use {', '.join(allowed)}."
        )
    return make_component(entry.name, entry.smiles, amount, field)


def _check_together(components: tuple[Component, ...]) -> None:
    """Raises InputError for repeated components, clashing units, unequal charge or a missing solvent."""
    seen: dict[tuple, Component] = {}
    for component in components:
        first = seen.setdefault(composition_key(component), component)
        if first is not component:
            raise InputError(
                f"{field_of(component)}: {component.name} is given twice; merge it with "
                f"{first.name} in {field_of(first)}."
            )
    names = [component.name for component in components]
    for component in components:
        if names.count(component.name) > 1:
            raise InputError(
                f"{field_of(component)}: two components are named {component.name}; rename one of them."
            )
    charge = sum(round(c.amount.value) * c.charge for c in components if c.role == "counted")
    if charge:
        raise InputError(
            f"counts: the ions add up to charge {charge:+d}; change the counts until the box is neutral."
        )
    if not any(c.role == "solvent" or (c.role == "counted" and c.is_molecular) for c in components):
        others = ", ".join(names)
        raise InputError(f"solvents: no solvent stands beside {others}; add one, such as '1 M LiPF6 in EC'.")
    if components[0].role == "counted":
        return
    units = {c.amount.unit for c in components if c.role == "solvent"}
    if len(units) > 1:
        raise InputError(
            f"solvents: amounts mix the units {' and '.join(sorted(units))}; give all solvents in one unit."
        )
    for component in components:
        unit = component.amount.unit
        if unit in RATIO_UNITS and {unit} != units:
            raise InputError(
                f"{field_of(component)}.{component.name}: '{component.amount}' is a part of a "
                "ratio, but the solvents are "
                "not in that unit; use M, m or wt%."
            )
        if unit in ("vol%", "v/v") and not component.is_molecular:
            raise InputError(
                f"{field_of(component)}.{component.name}: a salt has no liquid volume to take "
                f"{unit} of; use wt%, M or m."
            )
    composition.parts(components)


def _is_file(text: str) -> bool:
    """Whether the text is the path of a file; a known species' name never is."""
    if text.casefold() in {name.casefold() for name in (*library.known_names(), *library.known_salts())}:
        return False
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False
