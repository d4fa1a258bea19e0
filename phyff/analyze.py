"""Properties of a trajectory that phyff did not make: any format MDAnalysis reads, one residue a molecule.

Molecules are made whole by the minimum image to their first atom, centres of mass unwrapped by adding up
minimum-image steps (von Buelow, Bullerjahn, Hummer, J. Chem. Phys. 153, 021101 (2020)), which is also right
where the box fluctuates. The box must be a cube and molecules smaller than half of it.
"""

import json
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import MDAnalysis
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

import phyff
from phyff.errors import InputError
from phyff.properties import Property, Study, study_of
from phyff.properties.dielectric import dipole_of_charges
from phyff.properties.result import not_converged
from phyff.properties.trajectory import (
    NptSeries,
    Production,
    Run,
    SpeciesInBox,
    barycentric,
    centres_of_mass,
)
from phyff.species import library
from phyff.species.molecule import Molecule
from phyff.units import AMU_NM3_TO_G_CM3, ANGSTROM_NM

Floats = NDArray[np.float64]
MAX_SNAPSHOTS = 500
CUBE_TOLERANCE = 0.01
"""Largest relative difference of box edges that still counts as a cube."""
FIXED_VOLUME = 1e-5
"""Relative fluctuation of the box edge below which the volume was held fixed."""
BOND_FACTOR = 1.3
"""Atoms closer than this times the sum of their covalent radii are bonded."""


@dataclass(frozen=True)
class Conditions:
    """What a trajectory file does not say.

    temperature in K; pressure in bar; frame_ps: time between frames, None for what the file says; skip_ps:
    left out at the start; viscosity_cp: for the finite-size correction, None if unknown; viscosity_error_cp:
    its standard error.
    """

    temperature: float = 298.15
    pressure: float = 1.0
    frame_ps: float | None = None
    skip_ps: float = 0.0
    viscosity_cp: float | None = None
    viscosity_error_cp: float = 0.0


def analyze(
    trajectory: Path,
    topology: Path,
    out: Path,
    smiles: Mapping[str, str],
    charges: Mapping[str, float | Sequence[float]],
    conditions: Conditions,
) -> Study:
    """Every property that the trajectory has data for; writes nothing, out is where a report would go.

    smiles: of residue names (a library name will do); charges: of residue names, a net charge (e) or one
    charge an atom, which also give the dielectric constant. Ions count with whole charges in conductivity.
    Residues in neither are looked up in the library by name. Raises InputError.
    """
    universe = _open(trajectory, topology, conditions.frame_ps)
    _edge_nm(universe.dimensions)
    species, order, atomic_charges = _species(universe, smiles, charges)
    series, production, notes = _read(universe, species, order, conditions)
    settings: dict[str, Any] = {
        "name": trajectory.name,
        "temperature_K": conditions.temperature,
        "pressure_bar": conditions.pressure,
        "warnings": notes,
        "provenance": {
            "phyff": phyff.__version__,
            "trajectory": str(trajectory),
            "topology": str(topology),
            "frames": len(production.centres),
            "frame_ps": production.frame_ps,
            "box_nm": production.box_nm,
        },
    }
    if conditions.viscosity_cp is not None:
        settings["viscosity_cP"] = conditions.viscosity_cp
        settings["viscosity_error_cP"] = conditions.viscosity_error_cp
    run = Run(out, settings, species)
    dipoles = {name: dipole_of_charges(values) for name, values in atomic_charges.items()}
    fixed = len(series.times) and np.ptp(series.densities) <= 3.0 * FIXED_VOLUME * series.densities[0]
    npt = NptSeries(np.empty(0), np.empty(0)) if fixed else series
    result = study_of(run, npt, [production], dipoles, induced=True)
    if fixed:
        verdict = not_converged("the volume was held fixed, so this is an input")
        result.properties["density"] = Property(float(series.densities[0]), 0.0, "g/cm3", verdict)
    return result


def read_charges(path: Path) -> dict[str, float | list[float]]:
    """Charges by residue name from JSON: {"LI": 0.8, "PF6": [-0.4, ...]}."""
    try:
        data = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"charges: {path} cannot be read as JSON ({error}).") from error
    if not isinstance(data, dict) or not all(
        _is_number(value) or (isinstance(value, list) and value and all(map(_is_number, value)))
        for value in data.values()
    ):
        raise InputError(f"charges: {path} must map residue names to a net charge or a list, one an atom.")
    return data


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _open(trajectory: Path, topology: Path, frame_ps: float | None) -> MDAnalysis.Universe:
    """frame_ps: between frames, if not as the trajectory has it."""
    for field, path in (("topology", topology), ("trajectory", trajectory)):
        if not path.is_file():
            raise InputError(f"{field}: there is no file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spacing = {} if frame_ps is None else {"dt": frame_ps}
            universe = MDAnalysis.Universe(str(topology), str(trajectory), **spacing)
            if not hasattr(universe.atoms, "elements") or not all(universe.atoms.elements):
                universe.guess_TopologyAttrs(force_guess=["elements"])
    except Exception as error:  # MDAnalysis raises whatever its format readers raise
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"trajectory: {trajectory} with the topology {topology} cannot be read ({why}); give the "
            "trajectory (XTC, DCD, ...) first and a topology of it (PDB, GRO, ...) after it."
        ) from error
    return universe


def _species(
    universe: MDAnalysis.Universe,
    smiles: Mapping[str, str],
    charges: Mapping[str, float | Sequence[float]],
) -> tuple[tuple[SpeciesInBox, ...], NDArray[np.int64], dict[str, Floats]]:
    """Species, the atoms' order that makes each contiguous, and the atomic charges that are known."""
    names = list(dict.fromkeys(str(residue.resname) for residue in universe.residues))
    unknown = (set(smiles) | set(charges)) - set(names)
    if unknown:
        raise InputError(f"species: {sorted(unknown)[0]} is no residue of the topology ({', '.join(names)}).")
    species: list[SpeciesInBox] = []
    order: list[NDArray[np.int64]] = []
    atomic: dict[str, Floats] = {}
    first_atom = first_molecule = 0
    for name in names:
        residues = [residue for residue in universe.residues if residue.resname == name]
        elements = tuple(str(e).capitalize() for e in residues[0].atoms.elements)
        for residue in residues:
            if tuple(str(e).capitalize() for e in residue.atoms.elements) != elements:
                raise InputError(
                    f"topology: residues {name} differ in their atoms (residue {residue.resid} from the "
                    "first); give every kind of molecule a residue name of its own."
                )
        drawn, charge = _identity(name, elements, smiles.get(name), charges.get(name))
        if isinstance(charges.get(name), Sequence):
            atomic[name] = np.array(charges[name], dtype=np.float64)
        table = Chem.GetPeriodicTable()
        species.append(
            SpeciesInBox(
                name=name,
                smiles=drawn,
                count=len(residues),
                charge=charge,
                elements=elements,
                masses=np.array([table.GetAtomicWeight(e) for e in elements]),
                vdw_radii=np.array([table.GetRvdw(e) * ANGSTROM_NM for e in elements]),
                carbonyl=_carbonyl(elements, _whole(residues[0].atoms.positions, universe.dimensions[:3])),
                first_atom=first_atom,
                first_molecule=first_molecule,
            )
        )
        order += [residue.atoms.indices for residue in residues]
        first_atom += len(residues) * len(elements)
        first_molecule += len(residues)
    net = sum(s.charge * s.count for s in species)
    if net:
        raise InputError(f"charges: the box has a net charge of {net:+d} e; check SMILES and charges.")
    return tuple(species), np.concatenate(order), atomic


def _identity(
    name: str, elements: tuple[str, ...], smiles: str | None, charge: float | Sequence[float] | None
) -> tuple[str, int]:
    """SMILES (or the residue's name where none is known) and net charge of a residue."""
    if smiles is None and charge is None:
        try:
            smiles = library.find(name)[1]
        except InputError as error:
            raise InputError(
                f"species: {name} ({_formula(elements)}) is not known; give --species {name}=SMILES or its "
                "charge in --charges."
            ) from error
    if smiles is not None:
        molecule = Molecule.from_smiles(library.find(smiles)[1])
        if Counter(molecule.elements) != Counter(elements):
            raise InputError(
                f"species: {name} is {_formula(elements)} in the topology but its SMILES "
                f"{molecule.smiles} is {_formula(molecule.elements)}."
            )
    if charge is None:
        return molecule.smiles, molecule.charge
    total = float(np.sum(charge))
    if isinstance(charge, Sequence) and len(charge) != len(elements):
        raise InputError(f"charges: {name} has {len(elements)} atoms but {len(charge)} charges.")
    # Scaled-charge models carry 0.7-0.9 e an ion; it still is an ion of the next whole charge.
    whole = int(math.copysign(math.ceil(abs(total) - 0.05), total))
    return (molecule.smiles if smiles is not None else name), whole


def _formula(elements: Sequence[str]) -> str:
    return "".join(f"{e}{n if n > 1 else ''}" for e, n in sorted(Counter(elements).items()))


def _whole(positions: NDArray[np.floating], box: NDArray[np.floating]) -> Floats:
    """Positions (n, 3) at the minimum image to the first one, in the unit of the box."""
    shift = positions - positions[0]
    return np.asarray(positions[0] + shift - box * np.round(shift / box), dtype=np.float64)


def _carbonyl(elements: tuple[str, ...], xyz_angstrom: Floats) -> NDArray[np.bool_]:
    """Oxygens bonded to one carbon and nothing else."""
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(e) for e in elements])
    distances = np.linalg.norm(xyz_angstrom[:, None] - xyz_angstrom[None], axis=2)
    bonded = (distances < BOND_FACTOR * (radii[:, None] + radii[None])) & ~np.eye(len(elements), dtype=bool)
    return np.array(
        [
            element == "O" and bonded[i].sum() == 1 and elements[int(np.flatnonzero(bonded[i])[0])] == "C"
            for i, element in enumerate(elements)
        ],
        dtype=bool,
    )


def _read(
    universe: MDAnalysis.Universe,
    species: tuple[SpeciesInBox, ...],
    order: NDArray[np.int64],
    conditions: Conditions,
) -> tuple[NptSeries, Production, list[str]]:
    """Box series, production trajectory and warnings."""
    if len(universe.trajectory) < 2:
        raise InputError("trajectory: it has a single frame; there must be at least two.")
    frame_ps = _frame_ps(universe)
    skip = math.ceil(conditions.skip_ps / frame_ps)
    n_frames = len(universe.trajectory) - skip
    if n_frames < 2:
        raise InputError(
            f"trajectory: {n_frames} frames are left after --skip-ps; there must be at least two."
        )
    stride = max(1, -(-n_frames // MAX_SNAPSHOTS))
    edges = np.empty(n_frames)
    centres = np.empty((n_frames, sum(s.count for s in species), 3))
    snapshots = np.empty((len(range(0, n_frames, stride)), len(order), 3), np.float32)
    first_atoms = np.repeat(
        np.concatenate([s.first_atom + s.n_atoms * np.arange(s.count) for s in species]),
        np.concatenate([np.full(s.count, s.n_atoms) for s in species]),
    )
    wrapped_before = None
    for index, frame in enumerate(universe.trajectory[skip:]):
        edges[index] = edge = _edge_nm(frame.dimensions)
        xyz = frame.positions[order].astype(np.float64) * ANGSTROM_NM
        shift = xyz - xyz[first_atoms]
        xyz -= edge * np.round(shift / edge)
        wrapped = centres_of_mass(species, xyz)
        if wrapped_before is None:
            centres[0] = wrapped
        else:
            step = wrapped - wrapped_before
            centres[index] = centres[index - 1] + step - edge * np.round(step / edge)
        wrapped_before = wrapped
        if index % stride == 0:
            snapshots[index // stride] = xyz
    mass = sum(s.count * float(s.masses.sum()) for s in species)
    densities = mass * AMU_NM3_TO_G_CM3 / edges**3
    times = frame_ps * np.arange(1, n_frames + 1, dtype=np.float64)
    notes = []
    if np.ptp(edges) > FIXED_VOLUME * edges[0]:
        notes.append("The box fluctuates; transport and structure are computed with its mean edge.")
    largest = float(np.abs(np.diff(centres, axis=0)).max())
    if largest > 0.35 * edges.min():
        notes.append(
            f"Molecules move up to {largest:.2f} nm between frames ({frame_ps:g} ps apart), so unwrapping is "
            "unsure; write frames more often."
        )
    box_nm = float(edges.mean())
    production = Production(barycentric(species, centres), snapshots, stride, frame_ps, box_nm)
    return NptSeries(times, densities, edges**3), production, notes


def _frame_ps(universe: MDAnalysis.Universe) -> float:
    """Time between frames; where it is not known MDAnalysis would assume 1 ps."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        frame_ps = float(universe.trajectory.dt)
    if any("no dt information" in str(one.message) for one in said) or frame_ps <= 0.0:
        raise InputError("trajectory: it does not say how far its frames are apart; give --frame-ps.")
    return frame_ps


def _edge_nm(dimensions: NDArray[np.floating] | None) -> float:
    """Edge of a cubic box; InputError for any other, or none."""
    if dimensions is None or not dimensions[:3].all():
        raise InputError("trajectory: it has no periodic box; write one with the frames.")
    lengths, angles = dimensions[:3], dimensions[3:]
    if np.ptp(lengths) > CUBE_TOLERANCE * lengths.mean() or np.abs(angles - 90.0).max() > 0.1:
        shape = ", ".join(f"{one:.2f}" for one in dimensions)
        raise InputError(
            f"trajectory: only cubic boxes can be analysed, this one is {shape} (angstrom, deg)."
        )
    return float(lengths.mean()) * ANGSTROM_NM
