"""Static dielectric constant from the fluctuations of the molecules' dipoles.

Neumann, Mol. Phys. 50, 841 (1983), conducting boundary: eps = 1 + (<M^2> - <M>^2) / (3 eps0 V k T), M being
the sum of molecular dipoles about centres of mass, so that ions add their dipoles but not their currents.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from phyff.errors import InputError
from phyff.properties.density import MIN_INDEPENDENT, series_mean
from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.structure import MIN_SNAPSHOTS
from phyff.properties.trajectory import Production, Run, SpeciesInBox
from phyff.species.parameters import DrudeCharges
from phyff.units import COULOMB, GAS_CONSTANT

Floats = NDArray[np.float64]
TARGET_RELATIVE_ERROR = 0.10
Dipole = Callable[[Floats], Floats]
"""(n, n_atoms, 3) positions of whole molecules, nm -> (n, 3) dipoles, e nm, about the origin."""


def force_field_dipoles(run: Run) -> dict[str, Dipole]:
    """Permanent dipoles by species, from the charges and sites of forcefield.json; empty without the file."""
    path = run.directory / "forcefield.json"
    if not path.is_file():
        return {}
    try:
        members = [m for m in json.loads(path.read_text())["species"] if "drude_charges" in m]
        return {m["name"]: _dipole_of_sites(DrudeCharges.model_validate(m["drude_charges"])) for m in members}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a PhyFF force field: {error}.") from error


def _dipole_of_sites(charges: DrudeCharges) -> Dipole:
    def dipole(xyz: Floats) -> Floats:
        total = dipole_of_charges(np.array(charges.atoms))(xyz)
        for site in charges.sites:
            corners = xyz[:, list(site.atoms)]
            if site.kind == "average":
                where = np.einsum("mkd,k->md", corners, np.array(site.weights))
            else:
                first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
                a, b, c = site.weights
                where = corners[:, 0] + a * first + b * second + c * np.cross(first, second)
            total += site.charge * where
        return total

    return dipole


def dipole_of_charges(charges: Floats) -> Dipole:
    """The dipole of atomic point charges (n_atoms,), e."""
    return lambda xyz: np.einsum("mad,a->md", xyz, charges)


def dielectric(
    run: Run, replicas: Sequence[Production], dipoles: Mapping[str, Dipole], induced: bool
) -> dict[str, Property]:
    """The static dielectric constant; empty unless every species with more than one atom has a dipole.

    dipoles: by species name; induced: whether the charges stand for all polarization (as in fixed-charge
    models); otherwise induced dipoles are missing, the value is too small, and the verdict says so.
    """
    molecules = [s for s in run.species if s.n_atoms > 1]
    if not molecules or any(s.name not in dipoles for s in molecules):
        return {}
    n = sum(len(production.snapshots) for production in replicas)
    if n < MIN_SNAPSHOTS:
        return {"dielectric_constant": too_short("", f"only {n} frames of production")}
    box_nm = replicas[0].box_nm
    total = np.concatenate([_total_dipole(molecules, dipoles, production) for production in replicas])
    squares = series_mean(np.sum((total - total.mean(axis=0)) ** 2, axis=1), cut_start=False)
    scale = 4.0 * math.pi * COULOMB / (3.0 * box_nm**3 * GAS_CONSTANT * run.temperature)
    scale *= squares.independent / (squares.independent - 1.0)
    value, error = 1.0 + scale * squares.mean, scale * squares.error
    length_ps = sum(production.length_ps for production in replicas)
    method = "fluctuations of the sum of molecular dipoles about centres of mass, conducting boundary"
    if any(s.charge for s in run.species):
        method += ", ion currents left out"
    if not induced:
        method += "; permanent dipoles only, because the trajectory holds no induced ones: a lower bound"
    details = {"independent_samples": squares.independent, "method": method}
    relative = error / value
    if squares.independent < MIN_INDEPENDENT:
        needed = length_ps * MIN_INDEPENDENT / squares.independent
        verdict = not_converged(f"only {squares.independent:.0f} independent samples", needed)
    elif relative > TARGET_RELATIVE_ERROR:
        needed = length_ps * (relative / TARGET_RELATIVE_ERROR) ** 2
        verdict = not_converged(f"error {100 * relative:.0f} %", needed)
    else:
        verdict = CONVERGED if induced else not_converged("induced dipoles are not in the trajectory")
    return {"dielectric_constant": Property(value, error, "", verdict, details)}


def _total_dipole(
    molecules: Sequence[SpeciesInBox], dipoles: Mapping[str, Dipole], production: Production
) -> Floats:
    """M of every snapshot, (n_snapshots, 3), e nm."""
    rows = np.zeros((len(production.snapshots), 3))
    for index, snapshot in enumerate(production.snapshots):
        for s in molecules:
            atoms = snapshot[s.first_atom : s.first_atom + s.count * s.n_atoms].astype(np.float64)
            xyz = atoms.reshape(s.count, s.n_atoms, 3)
            xyz -= np.einsum("mad,a->md", xyz, s.masses / s.masses.sum())[:, None, :]
            rows[index] += dipoles[s.name](xyz).sum(axis=0)
    return rows
