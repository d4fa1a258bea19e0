"""Measured values and the formulations they belong to, for benchmarks and reports; nothing here enters a fit.

They stand in benchmarks/suites/*.yaml of the repository, of which an installed package carries a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from phyff.errors import InputError
from phyff.formulation import Formulation
from phyff.formulation.recipe import load_yaml
from phyff.formulation.volumes import component_volume
from phyff.units import AVOGADRO

SAME_TEMPERATURE_K = 1.0
SAME_PRESSURE_BAR = 20.0
"""20 bar change the density of a liquid by about 0.2 %."""
SAME_COMPOSITION = 0.10
"""Largest relative difference in the mole fraction of any species. A box of 500 atoms holds three ion pairs,
so quick runs cannot meet much less; what the difference is stands beside the value."""


class Measurement(BaseModel):
    """One experimental number: the formulation it belongs to, the property's name in results.json, source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    recipe: str | dict[str, Any]
    property: str
    experiment: float
    unit: str
    source: str

    def formulation(self) -> Formulation:
        """Raises InputError when the recipe makes no sense."""
        return Formulation.parse(self.recipe)


class Suite(BaseModel):
    """Measurements, and the preset their simulations use.

    flow_ps: length (ps) of the driven flows, at each acceleration, that a viscosity comes from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str
    flow_ps: float = 500.0
    rows: list[Measurement]


@dataclass(frozen=True)
class Liquid:
    """What was simulated: molecules of each species by canonical SMILES, nm3, K, bar."""

    counts: Mapping[str, int]
    volume_nm3: float
    temperature: float
    pressure: float


@dataclass(frozen=True)
class Measured:
    """A measured value of the simulated formulation.

    species, difference: whose mole fraction in the box is farthest off, relative to the measured liquid's.
    """

    value: float
    unit: str
    source: str
    system: str
    species: str
    difference: float

    def to_json(self) -> dict[str, Any]:
        """The fields in the provenance of results.json."""
        return {
            "value": self.value,
            "unit": self.unit,
            "source": self.source,
            "system": self.system,
            "largest_composition_difference": {"species": self.species, "relative": self.difference},
        }


def measured_values(liquid: Liquid) -> dict[str, Measured]:
    """By property, the value of the nearest composition within SAME_COMPOSITION at the same temperature and
    pressure; what no suite knows is left out."""
    return nearest(liquid, (row for suite in _bundled() for row in suite.rows))


def nearest(liquid: Liquid, rows: Iterable[Measurement]) -> dict[str, Measured]:
    """measured_values of given rows."""
    found: dict[str, Measured] = {}
    for row in rows:
        formulation = row.formulation()
        if abs(formulation.temperature_K - liquid.temperature) > SAME_TEMPERATURE_K:
            continue
        if abs(formulation.pressure_bar - liquid.pressure) > SAME_PRESSURE_BAR:
            continue
        differences = _differences(formulation, liquid)
        if differences is None:
            continue
        species = max(differences, key=lambda name: abs(differences[name]))
        one = Measured(row.experiment, row.unit, row.source, row.system, species, differences[species])
        known = found.get(row.property)
        if abs(one.difference) <= SAME_COMPOSITION and (
            known is None or abs(one.difference) < abs(known.difference)
        ):
            found[row.property] = one
    return found


def _differences(formulation: Formulation, liquid: Liquid) -> dict[str, float] | None:
    """Relative difference of mole fractions, box less measured, by species name; None for other species.

    Molarities count at the simulated volume: molar volumes are scaled until they fill it.
    """
    names = {smiles: name for name, smiles in formulation.species}
    if set(names) != set(liquid.counts):
        return None
    volumes = {c.name: component_volume(c, {}) for c in formulation.components}
    units = {
        c.name: min(liquid.counts[smiles] / number for _, smiles, number in c.species)
        for c in formulation.components
    }
    filled = sum(units[name] * volumes[name] for name in volumes) * 1e21 / AVOGADRO
    scale = liquid.volume_nm3 / filled
    fractions = formulation.mole_fractions({name: scale * volume for name, volume in volumes.items()})
    wanted = dict.fromkeys(names, 0.0)
    for component, fraction in zip(formulation.components, fractions, strict=True):
        for _, smiles, number in component.species:
            wanted[smiles] += float(fraction) * number
    in_box, asked = sum(liquid.counts.values()), sum(wanted.values())
    return {
        name: liquid.counts[smiles] / in_box / (wanted[smiles] / asked) - 1.0
        for smiles, name in names.items()
    }


def load_suite(name: str, folder: Path) -> Suite:
    """Read folder/NAME.yaml.

    Raises:
        InputError: there is no such suite, or a field of it does not make sense.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise InputError(f"suite: {name!r} is unknown in {folder}; choose from: {known}.")
    try:
        return Suite.model_validate(load_yaml(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"suite {path}: {where}: {first['msg']}.") from error


def suites_directory() -> Path:
    """benchmarks/suites of the repository, or the copy in the installed package.

    Raises InputError when neither exists.
    """
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "benchmarks" / "suites", package / "suites"):
        if folder.is_dir():
            return folder
    raise InputError(f"suites: there are none beside {package}; reinstall phyff.")


def _bundled() -> Iterator[Suite]:
    folder = suites_directory()
    return (load_suite(path.stem, folder) for path in sorted(folder.glob("*.yaml")))
