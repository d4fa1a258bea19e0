"""Reads a run directory: settings, composition, NPT series, production trajectory. Changes nothing."""

import csv
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from MDAnalysis.coordinates.DCD import DCDReader  # type: ignore[import-untyped]
from numpy.typing import NDArray
from rdkit import Chem

from phyff.errors import InputError
from phyff.species.molecule import parse_smiles
from phyff.units import ANGSTROM_NM

Floats = NDArray[np.float64]
NPT_COLUMNS = ("time_ps", "density_g_cm3")
NPT_EXTRA_COLUMNS = ("volume_nm3", "potential_kJ_mol", "drude_temperature_K")


@dataclass(frozen=True)
class SpeciesInBox:
    """One species of the box, its molecules contiguous in the trajectory.

    first_atom and first_molecule are indices into the real atoms and molecules of the whole box; elements,
    masses (amu), vdw_radii (nm) and carbonyl (True for =O on C) have one entry per atom, in map order.
    """

    name: str
    smiles: str
    count: int
    charge: int
    elements: tuple[str, ...]
    masses: Floats
    vdw_radii: Floats
    carbonyl: NDArray[np.bool_]
    first_atom: int
    first_molecule: int
    mapped_smiles: str = ""
    """Numbers the atoms in their order here; empty where nothing does."""

    @property
    def n_atoms(self) -> int:
        """Atoms in one molecule."""
        return len(self.elements)

    @property
    def molecules(self) -> slice:
        """This species among all molecules."""
        return slice(self.first_molecule, self.first_molecule + self.count)

    def atoms(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Box-wide indices of the atoms that mask (n_atoms of one molecule) picks, in every molecule."""
        picked = np.flatnonzero(mask)
        starts = self.first_atom + self.n_atoms * np.arange(self.count)
        return (starts[:, None] + picked[None, :]).ravel()

    def atoms_of(self, element: str) -> NDArray[np.int64]:
        """Box-wide indices of every atom of an element."""
        return self.atoms(np.array([symbol == element for symbol in self.elements]))


@dataclass(frozen=True)
class Run:
    """The run directory's settings (run.json) and composition."""

    directory: Path
    settings: dict[str, Any]
    species: tuple[SpeciesInBox, ...]

    @property
    def temperature(self) -> float:
        """K."""
        return float(self._setting("temperature_K"))

    @property
    def pressure(self) -> float:
        """bar."""
        return float(self._setting("pressure_bar"))

    @property
    def name(self) -> str:
        """The formulation's name."""
        return str(self._setting("name"))

    @property
    def ions(self) -> tuple[SpeciesInBox, ...]:
        """The charged species."""
        return tuple(s for s in self.species if s.charge != 0)

    @property
    def trajectories(self) -> tuple[Path, ...]:
        """The production trajectories that exist, one a replica."""
        nvt = self.settings.get("nvt")
        replicas = nvt.get("replicas", []) if isinstance(nvt, dict) else []
        names = [str(replica["trajectory"]) for replica in replicas] or ["nvt.dcd"]
        return tuple(self.directory / name for name in names if (self.directory / name).is_file())

    def _setting(self, key: str) -> Any:
        if key not in self.settings:
            path = self.directory / "run.json"
            raise InputError(f"{path} has no {key!r}; is it a directory written by phyff run?")
        return self.settings[key]


@dataclass(frozen=True)
class Production:
    """The production trajectory at constant volume.

    centres: molecular centres of mass, unwrapped, in the frame of the whole box's centre of mass
    (n_frames, n_molecules, 3), nm. snapshots: atoms of every snapshot_stride-th frame (n, n_atoms, 3), nm.
    dipoles: sum of molecular dipoles with the induced ones (n_rows, 3), e nm, where the run logged it.
    """

    centres: Floats
    snapshots: NDArray[np.float32]
    snapshot_stride: int
    frame_ps: float
    box_nm: float
    dipoles: Floats | None = None

    @property
    def length_ps(self) -> float:
        """From the first frame to the last."""
        return (len(self.centres) - 1) * self.frame_ps


@dataclass(frozen=True)
class NptSeries:
    """The constant-pressure stage, each (n,): ps, g/cm3, nm3, kJ/mol, K."""

    times: Floats
    densities: Floats
    volumes: Floats | None = None
    potentials: Floats | None = None
    drude_temperatures: Floats | None = None


def read_run(run_dir: str | Path) -> Run:
    """Read run.json and composition.json; InputError names the file and the field that is missing."""
    directory = Path(run_dir)
    settings = _read_json(directory / "run.json")
    if not isinstance(settings, dict):
        raise InputError(f"{directory / 'run.json'} must hold one JSON object.")
    return Run(directory, settings, _read_composition(directory / "composition.json"))


def read_npt(run: Run) -> NptSeries:
    """The series of npt.csv. A last line cut off by a kill is left out."""
    path = run.directory / "npt.csv"
    if not path.is_file():
        raise InputError(f"{path} is missing: the run has not reached its constant-pressure stage yet.")
    with path.open(newline="") as handle:
        rows = csv.reader(handle)
        header = [column.strip().lstrip("#").strip() for column in next(rows, [])]
        missing = [column for column in NPT_COLUMNS if column not in header]
        if missing:
            raise InputError(f"{path} has no column {missing[0]!r}; its header is {','.join(header)!r}.")
        complete = [row for row in rows if len(row) == len(header)]
    known = [column for column in (*NPT_COLUMNS, *NPT_EXTRA_COLUMNS) if column in header]
    try:
        series = {name: np.array([float(row[header.index(name)]) for row in complete]) for name in known}
    except ValueError as error:
        raise InputError(f"{path} holds something that is not a number: {error}.") from error
    times, densities = (series[name] for name in NPT_COLUMNS)
    if not all(np.isfinite(column).all() for column in series.values()):
        raise InputError(f"{path} holds a value that is not finite; the run itself went wrong.")
    if not (np.diff(times) > 0).all():
        raise InputError(f"{path}: time_ps does not strictly increase; did two runs write to it at once?")
    return NptSeries(times, densities, *(series.get(name) for name in NPT_EXTRA_COLUMNS))


def read_replicas(run: Run, max_snapshots: int = 500) -> tuple[Production, ...]:
    """Every production trajectory of the run, at most max_snapshots whole frames of all together."""
    paths = run.trajectories
    return tuple(read_production(run, path, max(1, max_snapshots // len(paths))) for path in paths)


def read_production(run: Run, path: Path, max_snapshots: int = 500) -> Production:
    """Read a trajectory once, keep molecular centres of all frames and at most max_snapshots whole frames."""
    nvt = run.settings.get("nvt")
    if not isinstance(nvt, dict) or "frame_ps" not in nvt or "box_nm" not in nvt:
        raise InputError(
            f"{run.directory / 'run.json'} must give nvt.frame_ps and nvt.box_nm to read {path.name}."
        )
    box_nm = nvt["box_nm"]
    box_nm = float(box_nm[0] if isinstance(box_nm, list) else box_nm)
    n_atoms = sum(s.count * s.n_atoms for s in run.species)
    n_molecules = sum(s.count for s in run.species)
    with open_dcd(path) as reader:
        if reader.n_frames == 0:
            raise InputError(f"{path} holds no frames; let the run write some.")
        if reader.n_atoms != n_atoms:
            raise InputError(f"{path} holds {reader.n_atoms} atoms but composition.json describes {n_atoms}.")
        n_frames = reader.n_frames
        stride = max(1, -(-n_frames // max_snapshots))
        centres = np.empty((n_frames, n_molecules, 3))
        snapshots = np.empty((len(range(0, n_frames, stride)), n_atoms, 3), np.float32)
        for index, frame in enumerate(reader):
            xyz = frame.positions * np.float32(ANGSTROM_NM)
            if index % stride == 0:
                snapshots[index // stride] = xyz
            centres[index] = centres_of_mass(run.species, xyz)
    if not np.isfinite(centres).all():
        raise InputError(f"{path} holds coordinates that are not finite; the run itself went wrong.")
    frame_ps, dipoles = float(nvt["frame_ps"]), _read_dipoles(run, nvt, path)
    return Production(barycentric(run.species, centres), snapshots, stride, frame_ps, box_nm, dipoles)


def open_dcd(path: Path) -> DCDReader:
    """A trajectory that phyff has written, angstrom."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "DCDReader currently makes independent timesteps", DeprecationWarning
        )
        return DCDReader(str(path))


def _read_dipoles(run: Run, nvt: Mapping[str, Any], trajectory: Path) -> Floats | None:
    """The dipole series logged beside a trajectory, as far as its last whole row; None without one."""
    names = [
        str(r["dipoles"])
        for r in nvt.get("replicas", [])
        if r["trajectory"] == trajectory.name and "dipoles" in r
    ]
    if not names or not (run.directory / names[0]).is_file():
        return None
    path = run.directory / names[0]
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    try:
        return np.array([[float(x) for x in row[1:]] for row in rows if len(row) == 4]).reshape(-1, 3)
    except ValueError as error:
        raise InputError(f"{path} holds something that is not a number: {error}.") from error


def barycentric(species: Sequence[SpeciesInBox], centres: Floats) -> Floats:
    """Molecular centres (n_frames, n_molecules, 3) less the centre of mass of all of them."""
    weights = np.concatenate([np.full(s.count, s.masses.sum()) for s in species])
    return centres - np.average(centres, axis=1, weights=weights)[:, None, :]


def centres_of_mass(species: Sequence[SpeciesInBox], xyz: NDArray[np.float32]) -> Floats:
    """Centres of mass (n_molecules, 3) of one frame (n_atoms, 3)."""
    parts = []
    for s in species:
        atoms = xyz[s.first_atom : s.first_atom + s.count * s.n_atoms].reshape(s.count, s.n_atoms, 3)
        parts.append(np.einsum("mad,a->md", atoms.astype(np.float64), s.masses / s.masses.sum()))
    return np.concatenate(parts)


def _read_composition(path: Path) -> tuple[SpeciesInBox, ...]:
    rows = _read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path} must hold a list of at least one species.")
    species: list[SpeciesInBox] = []
    first_atom = first_molecule = 0
    for row in rows:
        for key in ("name", "smiles", "count", "charge", "n_atoms", "mapped_smiles"):
            if key not in row:
                raise InputError(f"{path}: species {row.get('name', '?')!r} has no {key!r}.")
        atoms = _atoms_in_map_order(row["mapped_smiles"], path)
        if len(atoms) != row["n_atoms"]:
            said = f"{row['name']} says n_atoms {row['n_atoms']}"
            raise InputError(f"{path}: {said}, but its mapped_smiles has {len(atoms)}.")
        table = Chem.GetPeriodicTable()
        species.append(
            SpeciesInBox(
                name=row["name"],
                smiles=row["smiles"],
                count=int(row["count"]),
                charge=int(row["charge"]),
                elements=tuple(atom.GetSymbol() for atom in atoms),
                masses=np.array([table.GetAtomicWeight(atom.GetAtomicNum()) for atom in atoms]),
                vdw_radii=np.array([table.GetRvdw(atom.GetAtomicNum()) * ANGSTROM_NM for atom in atoms]),
                carbonyl=np.array([_is_carbonyl_oxygen(atom) for atom in atoms], dtype=bool),
                first_atom=first_atom,
                first_molecule=first_molecule,
                mapped_smiles=row["mapped_smiles"],
            )
        )
        first_atom += species[-1].count * species[-1].n_atoms
        first_molecule += species[-1].count
    return tuple(species)


def _atoms_in_map_order(mapped_smiles: str, path: Path) -> list[Chem.Atom]:
    try:
        molecule = parse_smiles(mapped_smiles)
    except InputError as problem:
        raise InputError(f"{path}: mapped_smiles: {problem}") from None
    atoms = sorted(molecule.GetAtoms(), key=lambda atom: int(atom.GetAtomMapNum()))
    if [atom.GetAtomMapNum() for atom in atoms] != list(range(1, len(atoms) + 1)):
        raise InputError(f"{path}: mapped_smiles {mapped_smiles!r} must number its atoms 1 to {len(atoms)}.")
    return atoms


def _is_carbonyl_oxygen(atom: Chem.Atom) -> bool:
    return atom.GetSymbol() == "O" and any(
        bond.GetBondType() == Chem.BondType.DOUBLE and bond.GetOtherAtom(atom).GetSymbol() == "C"
        for bond in atom.GetBonds()
    )


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} is missing; give a directory that phyff run has written.")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}"
        raise InputError(
            f"{path} is not valid JSON ({where}); was the run killed while writing it?"
        ) from error
