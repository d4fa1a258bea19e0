"""Static dielectric constant from the fluctuations of the molecules' dipoles.

Neumann, Mol. Phys. 50, 841 (1983), conducting boundary: eps = eps_inf + (<M^2> - <M>^2) / (3 eps0 V k T), M
being the sum of molecular dipoles about centres of mass, so that ions add dipoles but not their currents.
Runs log M with its induced part. Cold oscillators follow the atoms and do not fluctuate on their own, so what
they add at fixed atoms, eps_inf, is estimated (Lamoureux and Roux, J. Chem. Phys. 119, 3025 (2003)).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
FORCE_FIELD = "forcefield.json"
Dipole = Callable[[Floats], Floats]
"""(n, n_atoms, 3) positions of whole molecules, nm -> (n, 3) dipoles, e nm, about the origin."""


def force_field_dipoles(run: Run) -> dict[str, Dipole]:
    """Permanent dipoles by species, from the charges and sites of forcefield.json; empty without the file."""
    try:
        members = [m for m in _members(run) if "drude_charges" in m]
        return {m["name"]: _dipole_of_sites(DrudeCharges.model_validate(m["drude_charges"])) for m in members}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run.directory / FORCE_FIELD} is not a PhyFF force field: {error}.") from error


def _members(run: Run) -> list[dict[str, Any]]:
    """The species of forcefield.json; none without the file."""
    path = run.directory / FORCE_FIELD
    if not path.is_file():
        return []
    try:
        members: list[dict[str, Any]] = json.loads(path.read_text())["species"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a PhyFF force field: {error}.") from error
    return members


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
    run: Run,
    replicas: Sequence[Production],
    dipoles: Mapping[str, Dipole],
    induced: bool,
    conformers: str | None = None,
) -> dict[str, Property]:
    """The static dielectric constant; without a logged series of dipoles it is empty unless every species of
    more than one atom has a dipole.

    dipoles: by species name; induced: whether the charges stand for all polarization (as in fixed-charge
    models). Otherwise the logged series is needed, or the value is too small and the verdict says so.
    conformers: why the molecules may not have the dipoles they have in the liquid.
    """
    molecules = [s for s in run.species if s.n_atoms > 1]
    logged = [production.dipoles for production in replicas if production.dipoles is not None]
    complete = len(logged) == len(replicas)
    if not molecules or (not complete and any(s.name not in dipoles for s in molecules)):
        return {}
    series = logged if complete else [_total_dipole(molecules, dipoles, p) for p in replicas]
    total = np.concatenate(series)
    if len(total) < MIN_SNAPSHOTS:
        return {"dielectric_constant": too_short("", f"only {len(total)} frames of production")}
    box_nm = replicas[0].box_nm
    electronic = high_frequency(run, box_nm**3) if complete else 1.0
    squares = series_mean(np.sum((total - total.mean(axis=0)) ** 2, axis=1), cut_start=False)
    scale = 4.0 * math.pi * COULOMB / (3.0 * box_nm**3 * GAS_CONSTANT * run.temperature)
    scale *= squares.independent / (squares.independent - 1.0)
    value, error = (electronic or 1.0) + scale * squares.mean, scale * squares.error
    method = "fluctuations of the sum of molecular dipoles about centres of mass, conducting boundary"
    if any(s.charge for s in run.species):
        method += ", ion currents left out"
    missing = None
    if complete and electronic is not None:
        method += f"; induced dipoles included, electronic part {electronic:.3f} by Clausius and Mossotti"
    elif complete:
        missing = "the electronic part is unknown, as a species has no polarizability"
    elif not induced:
        method += "; permanent dipoles only, because the trajectory holds no induced ones: a lower bound"
        missing = "induced dipoles are not in the trajectory"
    missing = missing or conformers
    # M relaxes more slowly than its square, and a run shorter than that sees only part of its fluctuation.
    independent = min(
        squares.independent, *(series_mean(total[:, k], cut_start=False).independent for k in range(3))
    )
    details = {"independent_samples": independent, "method": method}
    length_ps = sum(production.length_ps for production in replicas)
    verdict = _verdict(error / value, independent, length_ps, missing)
    return {"dielectric_constant": Property(value, error, "", verdict, details)}


def _verdict(relative: float, independent: float, length_ps: float, missing: str | None) -> str:
    """relative error; missing: what is wrong with the value however long the run is."""
    if independent < MIN_INDEPENDENT:
        needed = length_ps * MIN_INDEPENDENT / independent
        return not_converged(f"only {independent:.0f} independent samples", needed)
    if relative > TARGET_RELATIVE_ERROR:
        needed = length_ps * (relative / TARGET_RELATIVE_ERROR) ** 2
        return not_converged(f"error {100 * relative:.0f} %", needed)
    return CONVERGED if missing is None else not_converged(missing)


def high_frequency(run: Run, volume_nm3: float) -> float | None:
    """The dielectric constant of the oscillators alone, by Clausius and Mossotti: (eps - 1)/(eps + 2) =
    4 pi/(3 V) sum of molecular polarizabilities. None when the force field does not tell one of them."""
    found = {m.get("name"): m.get("quality", {}).get("response", {}) for m in _members(run)}
    total = 0.0
    for s in run.species:
        own = found.get(s.name, {})
        if "polarizability_qm_A3" not in own:
            return None
        fitted = own["polarizability_qm_A3"] * (1.0 + own.get("polarizability_trace_relative_error", 0.0))
        total += s.count * fitted * 1e-3
    share = 4.0 * math.pi * total / (3.0 * volume_nm3)
    return (1.0 + 2.0 * share) / (1.0 - share)


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
