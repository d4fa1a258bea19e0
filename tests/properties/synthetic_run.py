"""Writes run directories with known answers: Brownian molecules, autoregressive density, solvated cations."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import MDAnalysis
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import AllChem
from scipy.signal import lfilter

Floats = NDArray[np.float64]
LI = "[Li+:1]"
PF6 = "[F:1][P-:2]([F:3])([F:4])([F:5])([F:6])[F:7]"
EC = "[O:1]=[C:2]1[O:3][C:4]([H:7])([H:8])[C:5]([H:9])([H:10])[O:6]1"


@dataclass
class BrownianSpecies:
    """A species whose rigid molecules walk at random with a known diffusion coefficient (nm2/ps).

    cage_nm: amplitude of an added Ornstein-Uhlenbeck rattling of cage_ps correlation time: sub-diffusion that
    ends where it is known to.
    """

    name: str
    mapped_smiles: str
    charge: int
    count: int
    diffusion: float
    cage_nm: float = 0.0
    cage_ps: float = 1.0


ELECTROLYTE = (
    BrownianSpecies("Li", LI, 1, 30, 0.0003),
    BrownianSpecies("PF6", PF6, -1, 30, 0.0005),
    BrownianSpecies("EC", EC, 0, 60, 0.0008),
)


@dataclass
class SyntheticRun:
    """What a run directory is made from; write() makes it. Its numbers are roughly an electrolyte's."""

    species: tuple[BrownianSpecies, ...] = ELECTROLYTE
    n_frames: int = 1500
    frame_ps: float = 1.0
    box_nm: float = 2.5
    temperature: float = 298.15
    density: float = 1.30
    seed: int = 7
    settings: dict[str, Any] = field(default_factory=dict)
    production: bool = True
    shell: int = 0
    """So many solvent molecules (species 3) follow each cation (species 1), their first atom 0.2 nm away."""

    def write(self, directory: Path) -> Path:
        """Write the directory and return it."""
        directory.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(self.seed)
        run = {
            "name": "1 M LiPF6 in EC (synthetic)",
            "temperature_K": self.temperature,
            "pressure_bar": 1.0,
            "preset": "quick",
            "provenance": {"phyff": "0.1.0", "level_of_theory": "wB97M-V/def2-SVPD", "engine": "drude"},
            "warnings": ["The short range between Li and F leans on a coarser atom class."],
            "nvt": {"frame_ps": self.frame_ps, "box_nm": self.box_nm},
        } | self.settings
        (directory / "run.json").write_text(json.dumps(run))
        molecules = [molecule(s.mapped_smiles) for s in self.species]
        rows = [
            {
                "name": s.name,
                "smiles": Chem.MolToSmiles(Chem.MolFromSmiles(unmapped(s.mapped_smiles))),
                "count": s.count,
                "charge": s.charge,
                "n_atoms": len(xyz),
                "mapped_smiles": s.mapped_smiles,
            }
            for s, xyz in zip(self.species, molecules, strict=True)
        ]
        (directory / "composition.json").write_text(json.dumps(rows))
        write_npt(
            directory, self.density + 0.012 * ar1(rng, 3000, 15.0) - 0.2 * np.exp(-np.arange(3000) / 60.0)
        )
        if self.production:
            write_dcd(directory / "nvt.dcd", self._trajectory(rng, molecules), self.box_nm)
        return directory

    def _trajectory(self, rng: np.random.Generator, molecules: list[Floats]) -> Floats:
        parts = []
        walks = [brownian(rng, s, self.n_frames, self.frame_ps, self.box_nm) for s in self.species]
        if self.shell:
            bound = self.shell * self.species[0].count
            directions = rng.normal(size=(1, bound, 3))
            directions /= np.linalg.norm(directions, axis=2, keepdims=True)
            distances = rng.normal(0.2, 0.012, size=(self.n_frames, bound, 1))
            cations = np.repeat(walks[0], self.shell, axis=1)
            walks[2][:, :bound] = cations + distances * directions - molecules[2][0]
        for centres, shape in zip(walks, molecules, strict=True):
            parts.append((centres[:, :, None, :] + shape).reshape(self.n_frames, -1, 3))
        return np.concatenate(parts, axis=1)


def brownian(
    rng: np.random.Generator, s: BrownianSpecies, n_frames: int, frame_ps: float, box_nm: float
) -> Floats:
    """Random walks (n_frames, count, 3), nm."""
    steps = rng.normal(scale=np.sqrt(2.0 * s.diffusion * frame_ps), size=(n_frames, s.count, 3))
    walk = np.cumsum(steps, axis=0) + rng.uniform(0.0, box_nm, size=(1, s.count, 3))
    if s.cage_nm:
        tau = s.cage_ps / frame_ps
        walk += s.cage_nm * ar1(rng, (n_frames, s.count, 3), tau)
    return walk


def ar1(rng: np.random.Generator, shape: int | tuple[int, ...], tau: float) -> Floats:
    """Stationary autoregressive series of unit variance along axis 0, correlation exp(-t / tau)."""
    decay = np.exp(-1.0 / tau)
    noise = rng.normal(size=shape)
    noise[1:] *= np.sqrt(1.0 - decay**2)
    return lfilter([1.0], [1.0, -decay], noise, axis=0)


def write_npt(directory: Path, densities: Floats, interval_ps: float = 0.1) -> None:
    """npt.csv with the contract's columns."""
    header = "time_ps,density_g_cm3,volume_nm3,potential_kJ_mol,temperature_K,drude_temperature_K"
    lines = [f"{(k + 1) * interval_ps:.3f},{d:.6f},15.6,-1000,298,1" for k, d in enumerate(densities)]
    (directory / "npt.csv").write_text("\n".join([header, *lines]) + "\n")


def write_dcd(path: Path, xyz: Floats, box_nm: float) -> None:
    """A DCD of (n_frames, n_atoms, 3) nm in a cubic box."""
    universe = MDAnalysis.Universe.empty(xyz.shape[1], trajectory=True)
    with MDAnalysis.Writer(str(path), n_atoms=xyz.shape[1]) as writer:
        for frame in xyz:
            universe.atoms.positions = 10.0 * frame
            universe.dimensions = [10.0 * box_nm] * 3 + [90.0] * 3
            writer.write(universe.atoms)


def molecule(mapped_smiles: str) -> Floats:
    """A rigid geometry (n_atoms, 3) in nm, map order, centre of mass at zero."""
    options = Chem.SmilesParserParams()
    options.removeHs = False
    mol = Chem.MolFromSmiles(mapped_smiles, options)
    order = np.argsort([atom.GetAtomMapNum() for atom in mol.GetAtoms()])
    if mol.GetNumAtoms() == 1:
        return np.zeros((1, 3))
    if "P" in mapped_smiles:
        arms = 0.16 * np.concatenate([np.eye(3), -np.eye(3)])
        return np.concatenate([arms[:1], np.zeros((1, 3)), arms[1:]])
    AllChem.EmbedMolecule(mol, randomSeed=1)
    xyz = 0.1 * mol.GetConformer().GetPositions()[order]
    masses = np.array([mol.GetAtomWithIdx(int(i)).GetMass() for i in order])
    return xyz - np.average(xyz, axis=0, weights=masses)


def unmapped(mapped_smiles: str) -> str:
    """The SMILES without atom maps."""
    options = Chem.SmilesParserParams()
    options.removeHs = False
    mol = Chem.MolFromSmiles(mapped_smiles, options)
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return str(Chem.MolToSmiles(Chem.RemoveHs(mol)))
