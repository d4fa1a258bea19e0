"""Quantum chemistry of one species: minima, Hessian, valence gradients, density with its MBIS partition and
electrostatic potential, polarizability and response.

`monomer_records` is the whole of it, stage by stage through the record store; every stage is made of jobs,
pure functions from a specification to a record, both plain JSON in atomic units. What a stage asks is
decided by stored records alone (conformers and displaced geometries are records too), so a finished species
is found again on any machine without computing anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from pyscf import dft, gto
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator

from phyff.errors import PhyffError
from phyff.qm import esp
from phyff.qm.executor import Job, run_jobs
from phyff.qm.gradient import nuclear_gradient
from phyff.qm.level import LevelOfTheory, build_mol
from phyff.qm.mbis import mbis
from phyff.qm.optimise import minimise
from phyff.qm.polarizability import frequency_quadrature, response, static_polarizability
from phyff.qm.scf import DenseBasis, DenseRKS, converge
from phyff.qm.store import RecordStore, record_key, rounded_geometry
from phyff.qm.symmetry import complete_hessian, operations, symmetrised, unique_atoms
from phyff.species.conformers import conformers, one_a_basin
from phyff.species.molecule import Molecule
from phyff.species.sampling import (
    normal_modes,
    skeleton_dihedrals,
    thermal_displacements,
    torsion_scan_geometries,
    twisted_geometries,
)
from phyff.units import BOHR_ANGSTROM, BOHR_NM, HARTREE_KJ, INVERSE_PS_CM

MAX_CONFORMERS, CONFORMER_ATOMS = 6, 110
"""Starts from GFN2-xTB, and atoms that all of them may have together: the work on each grows steeply with its
atoms."""
CONFORMER_WINDOW_KJ = 20.0
"""Conformers further above the lowest than this are not kept."""
SAME_ENERGY_KJ, SAME_DISTANCE_BOHR = 0.3, 0.15
"""Minima that agree within both are one conformer."""
HESSIAN_STEP = 0.015
"""Displacement of the central differences, bohr."""
SADDLE_WAVENUMBER = 40.0
"""An imaginary mode beyond this (cm^-1) means a saddle; it is left along that mode."""
THERMAL_SAMPLES, OTHER_CONFORMER_SAMPLES = 20, 6
"""Displaced geometries about the lowest conformer, and about each other one."""
THERMAL_SHAPES, TWISTED_SHAPES = 12, 6
"""So many of the displaced and of the twisted geometries have their density computed as well."""
SAMPLE_TEMPERATURE = 300.0
TORSION_POINTS = 12
TWISTED_SAMPLES, TWISTED_TRIALS, TWISTED_WINDOW_KJ = 16, 1500, 45.0
"""Geometries with all torsions of the skeleton turned at random: so many, of so many drawn at most, those
that GFN2-xTB puts less than this above the start.
"""
CLASH_RADII = 0.55
"""Turned geometries with atoms three or more bonds apart closer than this times their van der Waals radii are
left out.
"""
ESP_POINTS_PER_SHELL = 130
CONTACT_POTENTIAL = "contact_potential"
"""Kind of a ContactPotential's job."""
CONTACT_SCALES, CONTACT_POINTS_PER_SHELL = (1.2, 1.35, 1.6), 60
"""Van der Waals scales of the shells around a molecule that a cation touches; Li+ sits at 1.2 to 1.4."""
CONTACT_DENSITY_SCALES, CONTACT_DENSITY_POINTS_PER_SHELL = (0.9, 1.0, 1.1, 1.2, 1.35, 1.55), 120
"""The same of a ContactDensity, from where a bare cation is pressed into a molecule on."""
RESPONSE_POINTS_PER_SHELL = 60
FREQUENCY_POINTS = 60
"""Leading response points whose point-to-point matrix is kept at every imaginary frequency (all of them at
zero).
"""
ENERGY_TOLERANCE, GRADIENT_TOLERANCE_PER_ELECTRON = 1e-5, 5e-7
"""SCF: energy change (hartree; single precision makes it jitter by 1e-6) and orbital gradient, which
decides.
"""


class MonomerError(PhyffError):
    """The quantum chemistry of a species does not make sense."""


@dataclass(frozen=True)
class ValenceSample:
    """One gradient of the isolated species. `group` names what may not be split between training and test:
    "thermal-<conformer>-<n>", "torsion-<i>-<j>-<k>-<l>", "twisted-<n>" or "minimum-<conformer>"."""

    group: str
    xyz: np.ndarray
    """(N, 3) bohr."""
    energy: float
    """Hartree, total."""
    gradient: np.ndarray
    """(N, 3) hartree/bohr."""


@dataclass(frozen=True)
class MonomerDensity:
    """Density of one geometry at the density level; N atoms, G potential points. Origin: the coordinates'
    own.
    """

    xyz: np.ndarray
    """(N, 3) bohr."""
    energy: float
    """Hartree, without VV10."""
    dipole: np.ndarray
    """(3,) e bohr."""
    quadrupole: np.ndarray
    """(3, 3) e bohr^2, Buckingham traceless."""
    charges: np.ndarray
    """(N,) MBIS, e."""
    dipoles: np.ndarray
    """(N, 3) MBIS, e bohr."""
    quadrupoles: np.ndarray
    """(N, 3, 3) MBIS, e bohr^2, Buckingham traceless: potential r.Theta.r/r^5."""
    valence_populations: np.ndarray
    """(N,) electrons in the outermost MBIS shell."""
    valence_widths: np.ndarray
    """(N,) bohr, density of that shell ~ exp(-r/width)."""
    shell_populations: list[list[float]]
    shell_widths: list[list[float]]
    esp_points: np.ndarray
    """(G, 3) bohr."""
    esp_values: np.ndarray
    """(G,) hartree/e."""


@dataclass(frozen=True)
class ContactPotential:
    """Potential of a molecule in the shape it has beside bare cations; atomic units."""

    xyz: np.ndarray
    """(N, 3)."""
    cations: np.ndarray
    """(C, 3) where they sit."""
    at_cations: np.ndarray
    """(C,) hartree/e."""
    points: np.ndarray
    """(S, G, 3) on the shells of CONTACT_SCALES."""
    values: np.ndarray
    """(S, G) hartree/e."""


@dataclass(frozen=True)
class ContactDensity:
    """Electrons and potential around a minimum where bare cations touch it, and closer; atomic units."""

    xyz: np.ndarray
    """(N, 3)."""
    points: np.ndarray
    """(G, 3) on the shells of CONTACT_DENSITY_SCALES, one after the other."""
    density: np.ndarray
    """(G,) electrons/bohr^3."""
    potential: np.ndarray
    """(G,) hartree/e."""


@dataclass(frozen=True)
class MonomerResponse:
    """Linear response of the lowest conformer, scaled to its static polarizability by s.

    The scaled response is s alpha(i w sqrt(s)): the static limit is multiplied by s and the high-frequency
    limit, the number of electrons, is kept.
    """

    points: np.ndarray
    """(P, 3) bohr."""
    frequencies: np.ndarray
    """(F,) imaginary, hartree; the first is 0."""
    weights: np.ndarray
    """(F,) quadrature over frequency."""
    tensors: np.ndarray
    """(F, 3, 3) bohr^3."""
    static: np.ndarray
    """(P, P) hartree/e^2: minus the potential induced at point l by a unit charge at point k."""
    dynamic: np.ndarray
    """(F, Q, Q): the same for the first Q points at every frequency."""
    c6: float
    """Isotropic molecular, hartree bohr^6."""


@dataclass(frozen=True)
class MonomerData:
    """Everything quantum chemistry says about a species. Conformer 0 is the lowest; atomic units."""

    molecule: Molecule
    level: LevelOfTheory
    conformers: list[np.ndarray]
    """(N, 3) bohr each, ordered by energy."""
    energies: np.ndarray
    """(n_conformers,) hartree at the geometry level."""
    hessian: np.ndarray
    """(3N, 3N) hartree/bohr^2 of conformer 0."""
    samples: list[ValenceSample]
    densities: list[MonomerDensity]
    """One a conformer."""
    shapes: list[MonomerDensity]
    """Of some of the samples: a molecule as it moves."""
    contact_densities: list[ContactDensity]
    """One a conformer; none of a bare cation."""
    polarizability: np.ndarray
    """(3, 3) bohr^3, conformer 0, static."""
    response: MonomerResponse


def monomer_records(
    molecule: Molecule, level: LevelOfTheory, store: RecordStore, workers: int = 2
) -> MonomerData:
    """All records of a species, computed where the store lacks them.

    Raises:
        JobError: a calculation failed; run again to repeat only what is missing.
        MonomerError: no true minimum is found.
    """

    def stage(jobs: list[Job], label: str) -> list[dict[str, Any]]:
        return run_jobs(jobs, store, workers, f"{molecule.smiles} {label}")

    minima, hessian, rows = _minima(molecule, level, stage)
    geometries = [xyz for _, xyz in minima]
    samples = _valence_samples(molecule, level, minima, hessian, rows, stage)
    shapes = _shapes(samples)
    places = {f"{i}": xyz for i, xyz in enumerate(geometries)} | {s.group: s.xyz for s in shapes}
    spec = [_spec(molecule, xyz, _density_level(level)) for xyz in places.values()]
    probes = _spec(molecule, geometries[0], level.response_key())
    name = molecule.smiles
    jobs = [
        Job("density", s, density_job, f"{name} density, {place}")
        for place, s in zip(places, spec, strict=True)
    ]
    static = _spec(molecule, geometries[0], level.density_key())
    jobs.append(Job("polarizability", static, polarizability_job, f"{name} polarizability"))
    jobs.append(Job("response", probes, response_job, f"{name} response"))
    bare_cation = molecule.n_atoms == 1 and molecule.charge > 0
    touched = [] if bare_cation else [_spec(molecule, xyz, level.density_key()) for xyz in geometries]
    jobs += [
        Job("contact_density", s, contact_density_job, f"{name} density at contact, {i}")
        for i, s in enumerate(touched)
    ]
    records = stage(jobs, "density and response")
    of_density, (of_static, of_response), of_contact = (
        records[: len(spec)],
        records[len(spec) : len(spec) + 2],
        records[len(spec) + 2 :],
    )
    tensor = np.array(of_static["polarizability_bohr3"])
    densities = [density_from_record(s, r) for s, r in zip(spec, of_density, strict=True)]
    return MonomerData(
        molecule=molecule,
        level=level,
        conformers=geometries,
        energies=np.array([energy for energy, _ in minima]),
        hessian=hessian,
        samples=samples,
        densities=densities[: len(geometries)],
        shapes=densities[len(geometries) :],
        contact_densities=[
            contact_density_from_record(s, r) for s, r in zip(touched, of_contact, strict=True)
        ],
        polarizability=tensor,
        response=response_from_record(of_response, tensor),
    )


def contact_potential_job_of(
    molecule: Molecule, xyz: np.ndarray, cations: np.ndarray, level: LevelOfTheory
) -> Job:
    """The job of a ContactPotential: xyz (N, 3) and cations (C, 3), bohr; the origin moves to the molecule's
    centre."""
    centre = xyz.mean(axis=0)
    spec = _spec(molecule, xyz - centre, level.density_key())
    spec["cations_bohr"] = rounded_geometry(cations - centre)
    return Job(CONTACT_POTENTIAL, spec, contact_potential_job, f"{molecule.smiles} beside a cation")


def contact_potential_from_record(spec: dict[str, Any], record: dict[str, Any]) -> ContactPotential:
    """Arrays of a stored potential."""
    shells = len(CONTACT_SCALES)
    return ContactPotential(
        xyz=np.array(spec["xyz_bohr"]),
        cations=np.array(spec["cations_bohr"]),
        at_cations=np.array(record["at_cations_hartree"]),
        points=np.array(record["points_bohr"]).reshape(shells, -1, 3),
        values=np.array(record["values_hartree"]).reshape(shells, -1),
    )


def contact_density_from_record(spec: dict[str, Any], record: dict[str, Any]) -> ContactDensity:
    """Arrays of a stored density at contact."""
    return ContactDensity(
        xyz=np.array(spec["xyz_bohr"]),
        points=np.array(record["points_bohr"]),
        density=np.array(record["density_bohr3"]),
        potential=np.array(record["potential_hartree"]),
    )


Stage = Callable[[list[Job], str], list[dict[str, Any]]]


def _minima(
    molecule: Molecule, level: LevelOfTheory, stage: Stage
) -> tuple[list[tuple[float, np.ndarray]], np.ndarray, list[str]]:
    """Minima as (energy, (N, 3) bohr), lowest first, the Hessian of the lowest, which is checked to be a
    minimum, and the keys of the records that it is made of.
    """
    name, key = molecule.smiles, level.geometry_key()
    guess = {
        "mapped_smiles": molecule.mapped_smiles,
        "max_count": min(MAX_CONFORMERS, max(CONFORMER_ATOMS // molecule.n_atoms, 1)),
        "window_kj": 2 * CONFORMER_WINDOW_KJ,
    }
    found = stage([Job("conformers", guess, conformers_job, f"{name} conformers")], "conformers")[0][
        "xyz_bohr"
    ]
    starts = [found[i] for i in one_a_basin(molecule, [np.array(xyz) * BOHR_ANGSTROM for xyz in found])]

    def optimised(geometries: list[Any]) -> list[tuple[float, np.ndarray]]:
        jobs = [
            Job("optimise", _spec(molecule, xyz, key), optimise_job, f"{name} minimum {i}")
            for i, xyz in enumerate(geometries)
        ]
        records = stage(jobs, "minima")
        return [(record["energy_hartree"], np.array(record["xyz_bohr"])) for record in records]

    minima = _distinct(molecule, optimised(starts))
    if molecule.n_atoms == 1:
        return minima, np.zeros((3, 3)), []
    for _ in range(3):
        lowest = symmetrised(molecule.elements, minima[0][1])
        minima[0] = (minima[0][0], lowest)
        symmetry = operations(molecule.elements, lowest)
        atoms = unique_atoms(symmetry)
        spec = _spec(molecule, lowest, key)
        jobs = [
            Job("hessian", {**spec, "atom": atom}, hessian_job, f"{name} Hessian, atom {atom}")
            for atom in atoms
        ]
        rows = [np.array(record["rows_hartree_bohr2"]) for record in stage(jobs, "Hessian")]
        hessian = complete_hessian(symmetry, dict(zip(atoms, rows, strict=True)))
        downhill = _saddle_mode(molecule, lowest, hessian)
        if downhill is None:
            return minima, hessian, [record_key(job.kind, job.spec) for job in jobs]
        escaped = optimised([lowest + sign * 0.4 * downhill for sign in (1.0, -1.0)])
        minima = _distinct(molecule, escaped + minima[1:])
    raise MonomerError(f"{name}: no true minimum found; the geometry keeps an imaginary vibration.")


def _saddle_mode(molecule: Molecule, xyz: np.ndarray, hessian: np.ndarray) -> np.ndarray | None:
    """(N, 3) displacement with largest component 1 along the most imaginary mode, None at a minimum."""
    to_md = HARTREE_KJ / BOHR_NM**2
    squared, modes = normal_modes(xyz * BOHR_NM, hessian * to_md, molecule.masses)
    if squared[0] > -((SADDLE_WAVENUMBER / INVERSE_PS_CM) ** 2):
        return None
    pattern = (modes[:, 0] / np.sqrt(np.repeat(molecule.masses, 3))).reshape(-1, 3)
    return np.asarray(pattern / np.abs(pattern).max())


def _distinct(molecule: Molecule, minima: list[tuple[float, np.ndarray]]) -> list[tuple[float, np.ndarray]]:
    """Minima ordered by energy, without copies and without those above the window."""
    kept: list[tuple[float, np.ndarray]] = []
    for energy, xyz in sorted(minima, key=lambda pair: pair[0]):
        above = (energy - kept[0][0]) * HARTREE_KJ if kept else 0.0
        copy = any(
            abs(energy - other) * HARTREE_KJ < SAME_ENERGY_KJ
            and np.abs(_sorted_distances(molecule, xyz) - _sorted_distances(molecule, shape)).max()
            < SAME_DISTANCE_BOHR
            for other, shape in kept
        )
        if above <= CONFORMER_WINDOW_KJ and not copy:
            kept.append((energy, xyz))
    return kept


def _sorted_distances(molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
    rows, columns = np.triu_indices(molecule.n_atoms, 1)
    classes = np.array(molecule.symmetry_classes)
    low, high = np.minimum(classes[rows], classes[columns]), np.maximum(classes[rows], classes[columns])
    lengths = np.linalg.norm(xyz[rows] - xyz[columns], axis=1)
    return np.concatenate([lengths[np.lexsort((lengths, high, low))], [0.0]])


def _valence_samples(
    molecule: Molecule,
    level: LevelOfTheory,
    minima: list[tuple[float, np.ndarray]],
    hessian: np.ndarray,
    hessian_records: Sequence[str],
    stage: Stage,
) -> list[ValenceSample]:
    """Gradients at thermal displacements of every conformer, on rigid torsion scans of the lowest, at the
    minima, and where several torsions are turned at once. The Hessian is that of the lowest, and made of
    `hessian_records`.
    """
    if molecule.n_atoms == 1:
        return []
    name, key = molecule.smiles, level.geometry_key()
    jobs = []
    for i, (_, xyz) in enumerate(minima):
        spec = {
            **_spec(molecule, xyz, {"hessian": "level" if i == 0 else "GFN2-xTB"}),
            "count": THERMAL_SAMPLES if i == 0 else OTHER_CONFORMER_SAMPLES,
            "temperature_K": SAMPLE_TEMPERATURE,
            "torsion_points": TORSION_POINTS if i == 0 else 0,
            "hessian_records": list(hessian_records) if i == 0 else [],
        }
        given = {"hessian_hartree_bohr2": hessian.tolist()} if i == 0 else {}
        title = f"{name} displacements {i}"
        jobs.append(Job("valence_geometries", spec, valence_geometries_job, title, given))
    lowest = minima[0][1]
    turning = skeleton_dihedrals(molecule, lowest * BOHR_NM)
    groups: list[str] = []
    geometries: list[Any] = []
    if len(turning) > 1:
        spec = {
            **_spec(molecule, lowest, {"energy": "GFN2-xTB"}),
            "dihedrals": [list(dihedral) for dihedral in turning],
            "count": TWISTED_SAMPLES,
            "trials": TWISTED_TRIALS,
            "window_kj": TWISTED_WINDOW_KJ,
        }
        job = Job("twisted_geometries", spec, twisted_geometries_job, f"{name} twisted")
        (record,) = stage([job], "twisted geometries")
        geometries += record["xyz_bohr"]
        groups += [f"twisted-{n}" for n in range(len(geometries))]
    for i, record in enumerate(stage(jobs, "displaced geometries")):
        groups += [f"minimum-{i}"] + [group.replace("thermal", f"thermal-{i}") for group in record["groups"]]
        geometries += [minima[i][1].tolist(), *record["xyz_bohr"]]
    gradients = stage(
        [
            Job("gradient", _spec(molecule, xyz, key), gradient_job, f"{name} gradient, {group}")
            for group, xyz in zip(groups, geometries, strict=True)
        ],
        "gradients",
    )
    return [
        ValenceSample(group, np.array(xyz), g["energy_hartree"], np.array(g["gradient_hartree_bohr"]))
        for group, xyz, g in zip(groups, geometries, gradients, strict=True)
    ]


def _shapes(samples: list[ValenceSample]) -> list[ValenceSample]:
    """Thermal and twisted samples, evenly picked from all there are."""
    picked = []
    for kind, most in (("thermal", THERMAL_SHAPES), ("twisted", TWISTED_SHAPES)):
        own = [s for s in samples if s.group.startswith(kind)]
        picked += [own[int(k)] for k in np.linspace(0, len(own) - 1, min(most, len(own)))]
    return picked


def density_from_record(spec: dict[str, Any], record: dict[str, Any]) -> MonomerDensity:
    """Arrays of a stored density."""
    return MonomerDensity(
        xyz=np.array(spec["xyz_bohr"]),
        energy=record["energy_hartree"],
        dipole=np.array(record["dipole_e_bohr"]),
        quadrupole=np.array(record["quadrupole_e_bohr2"]),
        charges=np.array(record["mbis"]["charges_e"]),
        dipoles=np.array(record["mbis"]["dipoles_e_bohr"]),
        quadrupoles=np.array(record["mbis"]["quadrupoles_e_bohr2"]),
        valence_populations=np.array([shells[-1] for shells in record["mbis"]["shell_populations_e"]]),
        valence_widths=np.array([shells[-1] for shells in record["mbis"]["shell_widths_bohr"]]),
        shell_populations=record["mbis"]["shell_populations_e"],
        shell_widths=record["mbis"]["shell_widths_bohr"],
        esp_points=np.array(record["esp"]["points_bohr"]),
        esp_values=np.array(record["esp"]["values_hartree"]),
    )


def response_from_record(record: dict[str, Any], polarizability: np.ndarray) -> MonomerResponse:
    """Arrays of a stored response, scaled as `MonomerResponse` says to the trace of `polarizability`."""
    tensors = np.array(record["tensors_bohr3"])
    scale = float(np.trace(polarizability) / np.trace(tensors[0]))
    weights = np.array(record["weights_hartree"]) / scale**0.5
    isotropic = scale * np.trace(tensors, axis1=1, axis2=2) / 3.0
    return MonomerResponse(
        points=np.array(record["points_bohr"]),
        frequencies=np.array(record["frequencies_hartree"]) / scale**0.5,
        weights=weights,
        tensors=scale * tensors,
        static=scale * _square(record["static_hartree"]),
        dynamic=scale * np.array([_square(packed) for packed in record["dynamic_hartree"]]),
        c6=float(3.0 / np.pi * weights @ isotropic**2),
    )


# --- jobs: specification -> record


def conformers_job(spec: dict[str, Any]) -> dict[str, Any]:
    """GFN2-xTB conformers: `xyz_bohr` (n, N, 3) and `energies_kj` above the lowest."""
    found = conformers(Molecule.from_smiles(spec["mapped_smiles"]), spec["max_count"], spec["window_kj"])
    return {
        "xyz_bohr": [rounded_geometry(conformer.xyz / BOHR_ANGSTROM) for conformer in found],
        "energies_kj": [round(conformer.energy, 4) for conformer in found],
    }


def optimise_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Minimum of the geometry level nearest to the given geometry, atoms centred on their mean."""
    start = np.array(spec["xyz_bohr"])
    if len(start) == 1:
        energy = float(_scf(spec).e_tot)
        return {"xyz_bohr": [[0.0, 0.0, 0.0]], "energy_hartree": round(energy, 8), "evaluations": 1}
    density: np.ndarray | None = None

    def surface(xyz: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal density
        mf = _scf(spec, xyz, density)
        density = np.asarray(mf.make_rdm1())
        return float(mf.e_tot), nuclear_gradient(mf, spec["level"]["auxbasis"])

    found = minimise(surface, start, spec["elements"])
    return {
        "xyz_bohr": rounded_geometry(found.xyz - found.xyz.mean(axis=0)),
        "energy_hartree": round(found.energy, 8),
        "gradient_hartree_bohr": np.round(found.gradient, 7),
        "evaluations": found.evaluations,
    }


def hessian_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Three rows (3, N, 3) of the Hessian, for one atom, by central differences of the gradient."""
    reference = np.array(spec["xyz_bohr"])
    density = np.asarray(_scf(spec).make_rdm1())
    rows = []
    for axis in range(3):
        gradients, guess = [], density
        for sign in (1.0, -1.0):
            xyz = reference.copy()
            xyz[spec["atom"], axis] += sign * HESSIAN_STEP
            mf = _scf(spec, xyz, guess)
            guess = 2.0 * density - np.asarray(mf.make_rdm1())  # linear in the displacement
            gradients.append(nuclear_gradient(mf, spec["level"]["auxbasis"]))
        rows.append((gradients[0] - gradients[1]) / (2.0 * HESSIAN_STEP))
    return {"rows_hartree_bohr2": np.round(np.array(rows), 7)}


def gradient_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Energy and gradient of the geometry level."""
    mf = _scf(spec)
    return {
        "energy_hartree": round(float(mf.e_tot), 8),
        "gradient_hartree_bohr": np.round(nuclear_gradient(mf, spec["level"]["auxbasis"]), 7),
    }


def valence_geometries_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Thermal displacements and rigid torsion scans of a minimum: `xyz_bohr` (n, N, 3) and their `groups`."""
    molecule, xyz = Molecule.from_smiles(spec["mapped_smiles"]), np.array(spec["xyz_bohr"])
    if spec["hessian_records"]:
        hessian = np.array(spec["hessian_hartree_bohr2"])
    else:
        hessian = gfn2_hessian(spec["elements"], xyz, spec["charge"])
    displaced = thermal_displacements(
        xyz * BOHR_NM,
        hessian * HARTREE_KJ / BOHR_NM**2,
        molecule.masses,
        spec["temperature_K"],
        spec["count"],
        seed=1,
    )
    groups, geometries = [f"thermal-{n}" for n in range(len(displaced))], list(displaced / BOHR_NM)
    if spec["torsion_points"]:
        for scan in torsion_scan_geometries(molecule, xyz * BOHR_NM, spec["torsion_points"]):
            step = (scan.angles[1] - scan.angles[0]) % (2.0 * np.pi)
            stride = 2 if step * len(scan.angles) < 0.99 * 2.0 * np.pi else 1
            for points in scan.xyz[stride::stride] / BOHR_NM:
                if not _clashes(molecule, points):
                    groups.append("torsion-" + "-".join(map(str, scan.atoms)))
                    geometries.append(points)
    return {"groups": groups, "xyz_bohr": [rounded_geometry(geometry) for geometry in geometries]}


def twisted_geometries_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Random rotations about several bonds that do not clash and stay below the window: `xyz_bohr`
    (n, N, 3)."""
    molecule, xyz = Molecule.from_smiles(spec["mapped_smiles"]), np.array(spec["xyz_bohr"])
    numbers = np.array([gto.charge(element) for element in spec["elements"]])
    calculator = Calculator("GFN2-xTB", numbers, xyz, float(spec["charge"]))
    calculator.set("verbosity", 0)
    most = float(calculator.singlepoint().get("energy")) + spec["window_kj"] / HARTREE_KJ
    drawn = twisted_geometries(molecule, xyz * BOHR_NM, spec["dihedrals"], np.random.default_rng(1))
    kept: list[np.ndarray] = []
    for turned in islice(drawn, spec["trials"]):
        geometry = turned / BOHR_NM
        if not _clashes(molecule, geometry):
            calculator.update(geometry)
            try:
                energy = float(calculator.singlepoint().get("energy"))
            except TBLiteRuntimeError:  # no convergence: too strained
                continue
            if energy < most:
                kept.append(geometry)
        if len(kept) == spec["count"]:
            break
    return {"xyz_bohr": [rounded_geometry(geometry) for geometry in kept]}


def density_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Density of the level: energy, moments, MBIS partition, electrostatic potential on four surfaces."""
    mf = _scf(spec)
    mol, dm, xyz = mf.mol, np.asarray(mf.make_rdm1()), np.array(spec["xyz_bohr"])
    grids = dft.gen_grid.Grids(mol)
    grids.level = spec["level"]["partition_grid_level"]
    grids.build(with_non0tab=True)
    rho = dft.numint.NumInt().get_rho(mol, dm, grids)
    part = mbis(mol.atom_charges(), xyz, spec["charge"], grids.coords, grids.weights, rho)
    dipole, quadrupole = molecular_moments(mol, dm)
    points, scales = esp.shell_points(spec["elements"], xyz, esp.ESP_SCALES, ESP_POINTS_PER_SHELL)
    points = np.round(points, 4)
    return {
        "energy_hartree": round(float(mf.e_tot), 8),
        "homo_hartree": round(float(mf.mo_energy[mf.mo_occ > 0].max()), 6),
        "dipole_e_bohr": np.round(dipole, 7),
        "quadrupole_e_bohr2": np.round(quadrupole, 6),
        "mbis": {
            "charges_e": _neutral(np.round(part.charges, 8), spec["charge"]),
            "dipoles_e_bohr": np.round(part.dipoles, 7),
            "quadrupoles_e_bohr2": np.round(part.quadrupoles, 6),
            "radial_moments_bohr": np.round(part.radial_moments, 5),
            "shell_populations_e": [np.round(shells, 7) for shells in part.shell_populations],
            "shell_widths_bohr": [np.round(shells, 7) for shells in part.shell_widths],
            "charge_defect_e": round(part.charge_defect, 7),
            "iterations": part.iterations,
        },
        "esp": {
            "points_bohr": points,
            "scales": scales,
            "values_hartree": np.round(esp.electrostatic_potential(mol, dm, points), 7),
        },
    }


def contact_potential_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Electrostatic potential at `cations_bohr` and on close shells, one shell after the other."""
    mf, xyz = _scf(spec), np.array(spec["xyz_bohr"])
    shells = [
        esp.surface_points(spec["elements"], xyz, scale, CONTACT_POINTS_PER_SHELL) for scale in CONTACT_SCALES
    ]
    points, cations = np.round(np.concatenate(shells), 3), np.array(spec["cations_bohr"])
    values = esp.electrostatic_potential(
        mf.mol, np.asarray(mf.make_rdm1()), np.concatenate([cations, points])
    )
    return {
        "at_cations_hartree": np.round(values[: len(cations)], 6),
        "points_bohr": points,
        "values_hartree": np.round(values[len(cations) :], 6),
    }


def contact_density_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Density and electrostatic potential on close shells, one shell after the other."""
    mf, xyz = _scf(spec), np.array(spec["xyz_bohr"])
    dm = np.asarray(mf.make_rdm1())
    shells = [
        esp.surface_points(spec["elements"], xyz, scale, CONTACT_DENSITY_POINTS_PER_SHELL)
        for scale in CONTACT_DENSITY_SCALES
    ]
    points = np.round(np.concatenate(shells), 3)
    density = dft.numint.eval_rho(mf.mol, dft.numint.eval_ao(mf.mol, points), dm)
    return {
        "points_bohr": points,
        "density_bohr3": _significant(density, 5),
        "potential_hartree": np.round(esp.electrostatic_potential(mf.mol, dm, points), 6),
    }


def polarizability_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Static polarizability tensor of the level."""
    return {"polarizability_bohr3": np.round(static_polarizability(_scf(spec)), 5)}


def response_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Bare (unscaled) RPA + ALDA response: tensors and point-to-point matrices, upper triangles by rows."""
    xyz = np.array(spec["xyz_bohr"])
    points, _ = esp.shell_points(spec["elements"], xyz, esp.RESPONSE_SCALES, RESPONSE_POINTS_PER_SHELL)
    points = np.round(points, 4)
    frequencies, weights = frequency_quadrature()
    answer = response(_scf(spec), spec["level"]["auxbasis"], points, frequencies)
    few = answer.point_to_point[:, :FREQUENCY_POINTS, :FREQUENCY_POINTS]
    return {
        "points_bohr": points,
        "frequencies_hartree": frequencies,
        "weights_hartree": weights,
        "tensors_bohr3": _significant(answer.tensors, 7),
        "static_hartree": _significant(_packed(answer.point_to_point[0]), 6),
        "dynamic_hartree": [_significant(_packed(matrix), 5) for matrix in few],
    }


# --- shared by the jobs


def _spec(molecule: Molecule, xyz_bohr: Any, level_key: dict[str, Any]) -> dict[str, Any]:
    return {
        "mapped_smiles": molecule.mapped_smiles,
        "elements": list(molecule.elements),
        "charge": molecule.charge,
        "xyz_bohr": rounded_geometry(xyz_bohr),
        "level": level_key,
    }


def _density_level(level: LevelOfTheory) -> dict[str, Any]:
    return {**level.density_key(), "partition_grid_level": level.partition_grid_level}


def _scf(spec: dict[str, Any], xyz: np.ndarray | None = None, dm0: np.ndarray | None = None) -> DenseRKS:
    """Tightly converged SCF at the spec's level, at its own geometry unless another is given."""
    key = spec["level"]
    mol = build_mol(spec["elements"], spec["xyz_bohr"] if xyz is None else xyz, spec["charge"], key)
    basis = DenseBasis.build(mol, key["functional"], key["auxbasis"], key["grid_level"])
    mf = DenseRKS(mol, key["functional"], basis)
    mf.conv_tol, mf.conv_tol_grad = ENERGY_TOLERANCE, GRADIENT_TOLERANCE_PER_ELECTRON * mol.nelectron
    return converge(mf, dm0)


def gfn2_hessian(elements: list[str], xyz: np.ndarray, charge: int, step: float = 0.01) -> np.ndarray:
    """(3N, 3N) GFN2-xTB Hessian (hartree/bohr^2) by central differences."""
    calculator = Calculator(
        "GFN2-xTB", np.array([gto.charge(element) for element in elements]), xyz, float(charge)
    )
    calculator.set("verbosity", 0)
    calculator.set("accuracy", 0.1)
    result = calculator.singlepoint()
    rows = []
    for k in range(xyz.size):
        gradients = []
        for sign in (1.0, -1.0):
            moved = xyz.copy()
            moved.flat[k] += sign * step
            calculator.update(moved)
            result = calculator.singlepoint(result)
            gradients.append(np.array(result.get("gradient")).ravel())
        rows.append((gradients[0] - gradients[1]) / (2.0 * step))
    hessian = np.array(rows)
    return np.asarray(0.5 * (hessian + hessian.T))


def molecular_moments(mol: gto.Mole, dm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dipole (3,) e bohr and Buckingham quadrupole (3, 3) e bohr^2 about the coordinate origin."""
    charges, xyz = mol.atom_charges(), mol.atom_coords()
    dipole = charges @ xyz - np.einsum("xmn,mn->x", mol.intor_symmetric("int1e_r"), dm)
    second = (xyz * charges[:, None]).T @ xyz
    second -= np.einsum("xmn,mn->x", mol.intor_symmetric("int1e_rr"), dm).reshape(3, 3)
    return dipole, 1.5 * second - 0.5 * np.trace(second) * np.eye(3)


def _clashes(molecule: Molecule, xyz: np.ndarray) -> bool:
    radii = esp.vdw_radii(molecule.elements)
    distances = np.linalg.norm(xyz[:, None] - xyz, axis=2)
    apart = molecule.distance_matrix() > 2
    return bool(np.any(apart & (distances < CLASH_RADII * (radii[:, None] + radii))))


def _neutral(charges: np.ndarray, total: int) -> np.ndarray:
    charges[-1] += total - charges.sum()
    return charges


def _packed(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.triu_indices(len(matrix))]


def _square(packed: list[float]) -> np.ndarray:
    size = int((8 * len(packed) + 1) ** 0.5 - 1) // 2
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size)] = packed
    return matrix + np.triu(matrix, 1).T


def _significant(values: np.ndarray, digits: int) -> list[Any]:
    """Nested lists with so many significant digits."""
    flat = [float(f"{value:.{digits}g}") for value in np.asarray(values).ravel()]
    nested: list[Any] = np.array(flat).reshape(np.shape(values)).tolist()
    return nested
