"""A concentration scan as electrolyte parameters for PyBaMM: one Python file that stands on its own.

Conductivity, salt diffusivity and transference number of several results.json, interpolated linearly in the
salt concentration; the conductivity starts at zero without salt. The transference number is that relative to
the solvent, as the concentrated-solution model of PyBaMM (Newman) wants it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem.Descriptors import MolWt  # type: ignore[attr-defined]

from phyff.errors import InputError
from phyff.files import write_atomically

TEMPERATURE_TOLERANCE_K = 1.0
QUANTITIES = {
    "conductivity": ("conductivity", 0.1, "S.m-1"),
    "diffusivity": ("salt_diffusion", 1e-9, "m2.s-1"),
    "transference": ("transference_{cation}_solvent_frame", 1.0, "-"),
}
"""Quantity: property in results.json, factor from its unit to PyBaMM's, PyBaMM's unit."""
TEMPLATE = '''"""Electrolyte parameters for PyBaMM from PhyFF simulations: {names}.

At {temperature:g} K; linear between the simulated concentrations, beyond them diffusivity and transference
number stay constant. Errors are one standard error. The diffusivity is for a thermodynamic factor of 1, so
"Thermodynamic factor" = 1 belongs to it. No dependence on temperature: simulate each temperature of interest.

    parameters = pybamm.ParameterValues("Chen2020")
    parameters.update(get_parameter_values())
{warnings}"""

import numpy as np
import pybamm

CONCENTRATION = np.array({concentration})
"""mol.m-3"""
{tables}

def electrolyte_conductivity(c_e, T):
    """S.m-1; zero without salt."""
    return pybamm.Interpolant(np.append(0.0, CONCENTRATION), np.append(0.0, CONDUCTIVITY), c_e)


def electrolyte_diffusivity(c_e, T):
    """m2.s-1"""
    return pybamm.Interpolant(CONCENTRATION, DIFFUSIVITY, _within(c_e))


def cation_transference_number(c_e, T):
    """Relative to the solvent."""
    return pybamm.Interpolant(CONCENTRATION, TRANSFERENCE, _within(c_e))


def _within(c_e):
    return pybamm.maximum(pybamm.minimum(c_e, CONCENTRATION[-1]), CONCENTRATION[0])


def get_parameter_values():
    """For pybamm.ParameterValues.update."""
    return {{
        "Electrolyte conductivity [S.m-1]": electrolyte_conductivity,
        "Electrolyte diffusivity [m2.s-1]": electrolyte_diffusivity,
        "Cation transference number": cation_transference_number,
        "Thermodynamic factor": 1.0,
    }}
'''


@dataclass(frozen=True)
class Point:
    """One formulation: concentration in mol/m3, temperature in K, (value, error) of each of QUANTITIES.

    unsettled: the verdicts of properties that are not converged.
    """

    name: str
    concentration: float
    temperature: float
    values: dict[str, tuple[float, float]]
    unsettled: tuple[str, ...]


def export(paths: Sequence[Path], out: Path) -> list[Point]:
    """Write the PyBaMM file of two or more results.json (or run directories); returns the points in order.

    Raises InputError for results that are no scan of one salt at one temperature.
    """
    points = sorted((read_point(path) for path in paths), key=lambda point: point.concentration)
    if len(points) < 2:
        raise InputError("results: give at least two salt concentrations to interpolate between.")
    for before, after in zip(points, points[1:], strict=False):
        if after.concentration - before.concentration < 1e-3 * after.concentration:
            raise InputError(f"results: {before.name} and {after.name} have the same salt concentration.")
    temperatures = [point.temperature for point in points]
    if max(temperatures) - min(temperatures) > TEMPERATURE_TOLERANCE_K:
        raise InputError(
            f"results: temperatures run from {min(temperatures):g} to {max(temperatures):g} K; "
            "export each temperature on its own."
        )
    write_atomically(out, _file(points))
    return points


def read_point(path: Path) -> Point:
    """The transport properties in a results.json, which must be of one 1:1 salt in a solvent."""
    file = path / "results.json" if path.is_dir() else path
    try:
        results = json.loads(file.read_text())
        composition = [(row["smiles"], int(row["count"])) for row in results["composition"]]
        properties = results["properties"]
        name, temperature = str(results["name"]), float(results["temperature_K"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"results: {file} is no results.json of phyff ({error}); give files or folders that phyff run "
            "has written."
        ) from error
    concentration = _concentration(composition, _number(properties, "density", file)[0], file)
    cations = [
        key.removeprefix("transference_").removesuffix("_solvent_frame")
        for key in properties
        if key.startswith("transference_") and key.endswith("_solvent_frame")
    ]
    if len(cations) != 1:
        raise InputError(f"results: {file} has {len(cations)} cations; one salt in a solvent is needed.")
    values, unsettled = {}, []
    for quantity, (key, factor, _) in QUANTITIES.items():
        key = key.format(cation=cations[0])
        value, sigma = _number(properties, key, file)
        values[quantity] = (factor * value, factor * sigma)
        if properties[key]["verdict"] != "converged":
            unsettled.append(f"{name}: {quantity} {properties[key]['verdict']}")
    return Point(name, concentration, temperature, values, tuple(unsettled))


def _number(properties: dict[str, Any], key: str, file: Path) -> tuple[float, float]:
    found = properties.get(key, {})
    value, error = found.get("value"), found.get("error")
    if value is None:
        raise InputError(f"results: {file} has no {key}; simulate longer, or one 1:1 salt in a solvent.")
    return float(value), math.nan if error is None else float(error)


def _concentration(composition: Sequence[tuple[str, int]], density: float, file: Path) -> float:
    """mol/m3 of cations from counts and density in g/cm3."""
    mass = cations = 0.0
    for smiles, count in composition:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise InputError(
                f"results: {file} has no SMILES for {smiles!r}, so its concentration is unknown."
            )
        mass += count * MolWt(molecule)
        cations += count if Chem.GetFormalCharge(molecule) > 0 else 0
    return cations / mass * density * 1e6


def _file(points: Sequence[Point]) -> str:
    tables = []
    for quantity, (_, _, unit) in QUANTITIES.items():
        columns = zip(*(point.values[quantity] for point in points), strict=True)
        values, errors = ([float(f"{one:.6g}") for one in column] for column in columns)
        name = quantity.upper()
        tables.append(
            f'{name} = np.array({values})\n"""{unit}"""\n{name}_ERROR = np.array({_plain(errors)})\n'
        )
    unsettled = [line for point in points for line in point.unsettled]
    warnings = "".join(f"\nNot converged: {line}" for line in unsettled)
    return TEMPLATE.format(
        names=_harmless(", ".join(point.name for point in points)),
        temperature=points[0].temperature,
        concentration=[float(f"{point.concentration:.6g}") for point in points],
        tables="\n".join(tables),
        warnings=_harmless(f"{warnings}\n") if warnings else "",
    )


def _harmless(text: str) -> str:
    """Text that cannot end the docstring it goes into."""
    return text.replace("\\", "/").replace('"', "'")


def _plain(numbers: Sequence[float]) -> str:
    return "[" + ", ".join("np.nan" if math.isnan(n) else repr(n) for n in numbers) + "]"
