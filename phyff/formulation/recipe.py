"""Recipe files: YAML (or JSON) text to validated fields, with the nearest valid key when one is misspelt."""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from phyff.errors import InputError
from phyff.formulation.oneline import parse_one_line

TEMPERATURE_RANGE = (150.0, 700.0)
"""K; outside it no electrolyte is a liquid."""
MAX_PRESSURE = 1e4
"""bar."""
DEFAULT_ATOMS = 2000
ATOM_RANGE = (10, 2_000_000)
BOX_RANGE = (1.0, 50.0)
"""nm."""


class Entry(BaseModel):
    """One component as written: a name, a SMILES or both, and an amount such as "1.0 M"."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: StrictStr | None = None
    smiles: StrictStr | None = None
    amount: StrictStr | StrictInt | StrictFloat | None = None


def _entries(value: object) -> object:
    """A list of entries from a list, a mapping {name: amount} or {name: {smiles, amount}}, or one name."""
    if value is None:
        return []
    if isinstance(value, str):
        return [{"name": value}]
    if isinstance(value, Mapping):
        return [_named_entry(name, given) for name, given in value.items()]
    if isinstance(value, list | tuple):
        return [{"name": item} if isinstance(item, str) else item for item in value]
    return value


def _named_entry(name: object, given: object) -> object:
    if not isinstance(name, str):
        raise InputError(f"recipe: component name {name!r} is not text; put it in quotes.")
    if isinstance(given, Mapping):
        return {"name": name, **given}
    return {"name": name, "amount": given}


Entries = Annotated[tuple[Entry, ...], BeforeValidator(_entries)]


class Recipe(BaseModel):
    """A recipe file: either composition (one line), or counts, or solvents with salts and additives."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: StrictStr | None = None
    temperature_K: StrictFloat | StrictInt = 298.15
    pressure_bar: StrictFloat | StrictInt = 1.0
    composition: StrictStr | None = None
    solvents: Entries = ()
    salts: Entries = ()
    additives: Entries = ()
    counts: Entries = ()
    atoms: StrictInt | None = None
    """Target number of atoms in the box."""
    box_nm: StrictFloat | StrictInt | None = None
    """Target edge of the cubic box, instead of atoms."""


_EXPECTED = {
    "name": "text",
    "temperature_K": "a number in kelvin, such as 298.15",
    "pressure_bar": "a number in bar, such as 1.0",
    "composition": "one line such as '1.0 M LiPF6 in EC:DMC 1:1 w/w'",
    "atoms": "a whole number such as 2000",
    "box_nm": "a number in nm, such as 3.0",
    "amount": "text such as '1.0 M' or '2 wt%'",
    "smiles": "text in quotes",
}
_LIST_EXPECTED = "species with amounts, such as {EC: 1 w/w, DMC: 1 w/w}"


def validated(fields: object) -> Recipe:
    """A Recipe from plain data; raises InputError that names the first bad field and the fix."""
    if not isinstance(fields, Mapping):
        raise InputError(
            f"recipe: the file holds {type(fields).__name__}, not fields; write lines like "
            f"'solvents: {{EC: 1 w/w}}'."
        )
    if not fields:
        raise InputError("recipe: it is empty; give at least solvents, such as 'solvents: {EC: 1 w/w}'.")
    try:
        recipe = Recipe.model_validate(dict(fields))
    except ValidationError as error:
        raise InputError(_sentence(error)) from error
    recipe = _with_one_line(recipe)
    _check_ranges(recipe)
    return recipe


def read_recipe(path: Path) -> Recipe:
    """Read a YAML or JSON recipe; its name defaults to the file's. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"recipe: file {str(path)!r} does not exist; {_nearby(path)}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"recipe: file {str(path)!r} is not UTF-8 text; save it as a plain YAML text file."
        ) from error
    except OSError as error:
        raise InputError(
            f"recipe: file {str(path)!r} cannot be read ({error.strerror}); check the path."
        ) from error
    recipe = validated(load_yaml(text))
    return recipe if recipe.name else recipe.model_copy(update={"name": path.stem})


def load_yaml(text: str) -> object:
    """Plain data of YAML text (empty: an empty mapping); raises InputError on bad syntax or repeated keys."""
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or "bad syntax").split())
        raise InputError(
            f"recipe: the YAML does not parse{where} ({problem}); check indentation and colons, and "
            "put SMILES in quotes."
        ) from error
    return {} if data is None else data


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise InputError(
                    f"recipe: a key on line {key_node.start_mark.line + 1} is not text; put it in quotes."
                )
            if key in seen:
                raise InputError(
                    f"recipe: {key!r} is given twice (again on line "
                    f"{key_node.start_mark.line + 1}); keep one of them."
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if isinstance(part, int) or str(part) in _all_keys()]
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        key, parents = str(first["loc"][-1]), first["loc"][:-1]
        keys = list(Entry.model_fields if parents else Recipe.model_fields)
        near = get_close_matches(key, keys, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys are {', '.join(keys)}."
        return f"recipe: key {'.'.join(map(str, first['loc']))!r} is not known; {hint}"
    field = next((part for part in reversed(path) if not part.isdigit()), where)
    expected = _EXPECTED.get(field, _LIST_EXPECTED)
    return f"{where}: {_short(first['input'])} cannot be used; give {expected}."


def _all_keys() -> set[str]:
    return {*Recipe.model_fields, *Entry.model_fields}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _with_one_line(recipe: Recipe) -> Recipe:
    """Fields of `composition` moved to their places; raises InputError when both forms are given."""
    detailed = [key for key in ("solvents", "salts", "additives") if getattr(recipe, key)]
    given = (["composition"] if recipe.composition is not None else []) + (
        ["counts"] if recipe.counts else []
    )
    given += detailed[:1]
    if len(given) > 1:
        raise InputError(f"recipe: {given[0]} and {given[1]} both give the composition; keep one of them.")
    if not given:
        raise InputError(
            "recipe: it names no species; give at least solvents, such as 'solvents: {EC: 1 w/w}'."
        )
    if recipe.composition is None:
        return recipe
    fields = parse_one_line(recipe.composition)
    if "temperature_K" in fields and "temperature_K" in recipe.model_fields_set:
        raise InputError("recipe: composition and temperature_K both give a temperature; keep one of them.")
    kept = recipe.model_dump(
        exclude={"composition", "solvents", "salts", "additives", "counts"}, exclude_unset=True
    )
    return Recipe.model_validate({**fields, **kept})


def _check_ranges(recipe: Recipe) -> None:
    low, high = TEMPERATURE_RANGE
    if not low <= recipe.temperature_K <= high:
        celsius = " (is it in Celsius? add 273.15)" if -80.0 <= recipe.temperature_K < low else ""
        raise InputError(
            f"temperature_K: {recipe.temperature_K:g} is outside {low:g} to {high:g} K{celsius}; "
            "give it in kelvin."
        )
    if not (math.isfinite(recipe.pressure_bar) and 0.0 < recipe.pressure_bar <= MAX_PRESSURE):
        raise InputError(
            f"pressure_bar: {recipe.pressure_bar:g} is outside 0 to {MAX_PRESSURE:g} bar; give it "
            "in bar, such as 1.0."
        )
    if recipe.atoms is not None and recipe.box_nm is not None:
        raise InputError("box_nm: atoms and box_nm both give the box size; keep one of them.")
    if recipe.counts and (recipe.atoms is not None or recipe.box_nm is not None):
        raise InputError(
            "atoms: counts already fix the box, so atoms or box_nm cannot be set too; keep one of them."
        )
    if recipe.atoms is not None:
        check_atoms(recipe.atoms)
    if recipe.box_nm is not None and not BOX_RANGE[0] <= recipe.box_nm <= BOX_RANGE[1]:
        raise InputError(
            f"box_nm: {recipe.box_nm:g} is outside {BOX_RANGE[0]:g} to {BOX_RANGE[1]:g} nm; give "
            "the edge in nm, such as 3.0."
        )
    if recipe.name is not None and not recipe.name.strip():
        raise InputError("name: it is blank; give the formulation a name or leave the key out.")


def check_atoms(atoms: int) -> None:
    """Raises InputError when a target number of atoms is out of range."""
    if not ATOM_RANGE[0] <= atoms <= ATOM_RANGE[1]:
        raise InputError(
            f"atoms: {atoms} is outside {ATOM_RANGE[0]} to {ATOM_RANGE[1]}; give the box size in "
            "atoms, such as 2000."
        )


def _nearby(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("recipes")
    there = [str(file) for file in sorted(folder.glob("*.y*ml"))] if folder.is_dir() else []
    near = [file for file in there if get_close_matches(path.stem, [Path(file).stem], n=1, cutoff=0.6)]
    return f"did you mean {near[0]!r}?" if near else "check the path."
