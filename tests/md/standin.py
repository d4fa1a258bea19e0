"""A small polarizable force field with the interface of `phyff.ForceField`: flexible SWM4-NDP water and neon.

Independent of any fit, so that tests of `phyff.md` stay fast. Run as a script it is one `simulate`
call, for tests that kill it: `python standin.py RUN_DIR`.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openmm
from openmm import app

import phyff.md as md

WATER = {"O": (15.59943, 1.71636), "H": (1.007947, 0.55733), "M": (0.0, -1.11466), "D": (0.4, -1.71636)}


@dataclass(frozen=True)
class Conformer:
    xyz_nm: list
    weight: float


@dataclass(frozen=True)
class Species:
    name: str
    smiles: str
    mapped_smiles: str
    charge: int
    elements: tuple
    conformers: tuple


SPECIES = (
    Species(
        "WATER",
        "O",
        "[O:1]([H:2])[H:3]",
        0,
        ("O", "H", "H"),
        (
            Conformer([[0, 0, 0], [0.09572, 0, 0], [-0.023999, 0.092663, 0]], 0.7),
            Conformer([[0, 0, 0], [0, 0.09572, 0], [0.092663, -0.023999, 0]], 0.3),
        ),
    ),
    Species("NEON", "[Ne]", "[Ne:1]", 0, ("Ne",), (Conformer([[0, 0, 0]], 1.0),)),
)


class StandIn:
    """`fragile` names a molecule (from 0) whose first O-H bond is too stiff for any time step."""

    def __init__(self, fragile: int | None = None) -> None:
        self.species = SPECIES
        self.fragile = fragile

    def topology(self, counts, box_nm):
        topology = app.Topology()
        chain = topology.addChain()
        known = {s.name: s for s in SPECIES}
        number = 0
        for name, count in counts:
            for _ in range(count):
                number += 1
                residue = topology.addResidue(name[:4], chain, str(number))
                atoms = [
                    topology.addAtom(f"{e}{i + 1}", app.Element.getBySymbol(e), residue)
                    for i, e in enumerate(known[name].elements)
                ]
                for atom in atoms[1:]:
                    topology.addBond(atoms[0], atom)
                if name == "WATER":
                    topology.addAtom("D1", None, residue)
                    topology.addAtom("M1", None, residue)
        if box_nm is not None:
            topology.setPeriodicBoxVectors(np.eye(3) * box_nm)
        return topology

    def create_system(self, topology, cutoff_nm=0.8):
        system = openmm.System()
        nonbonded = openmm.NonbondedForce()
        if cutoff_nm is None:
            nonbonded.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
        else:
            nonbonded.setNonbondedMethod(openmm.NonbondedForce.PME)
            nonbonded.setCutoffDistance(cutoff_nm)
            system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
        bonds, angles, drudes = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce(), openmm.DrudeForce()
        for residue in topology.residues():
            first = system.getNumParticles()
            if residue.name == "NEON":
                system.addParticle(20.18)
                nonbonded.addParticle(0.0, 0.278, 0.29)
                continue
            for kind in ("O", "H", "H", "D", "M"):
                mass, charge = WATER[kind]
                system.addParticle(mass)
                nonbonded.addParticle(charge, *((0.318395, 0.882573) if kind == "O" else (1.0, 0.0)))
            stiff = 1e9 if residue.index == self.fragile else 462750.4
            bonds.addBond(first, first + 1, 0.09572, stiff)
            bonds.addBond(first, first + 2, 0.09572, 462750.4)
            angles.addAngle(first + 1, first, first + 2, 1.82421813418, 836.8)
            weights = (0.589781071, 0.2051094645, 0.2051094645)
            system.setVirtualSite(
                first + 4, openmm.ThreeParticleAverageSite(first, first + 1, first + 2, *weights)
            )
            drudes.addParticle(first + 3, first, -1, -1, -1, WATER["D"][1], 0.000978253, 1, 1)
            for i in range(5):
                for j in range(i):
                    nonbonded.addException(first + i, first + j, 0, 1, 0)
        for force in (nonbonded, bonds, angles, drudes, openmm.CMMotionRemover()):
            system.addForce(force)
        return system

    def place(self, topology, atom_xyz_nm):
        positions, start = [], 0
        for residue in topology.residues():
            size = 1 if residue.name == "NEON" else 3
            xyz = np.asarray(atom_xyz_nm[start : start + size])
            positions.append(xyz)
            if size == 3:
                positions += [xyz[:1], np.array([[0.589781071, 0.2051094645, 0.2051094645]]) @ xyz]
            start += size
        return np.concatenate(positions)

    def integrator(self, temperature, timestep_fs=1.0, friction=1.0):
        integrator = openmm.DrudeLangevinIntegrator(temperature, friction, 1.0, 20.0, timestep_fs / 1000)
        integrator.setMaxDrudeDistance(0.02)
        return integrator

    def atom_indices(self, topology):
        return np.array([atom.index for atom in topology.atoms() if atom.element is not None])

    def save(self, path):
        path.write_text(json.dumps({"standin": self.fragile, "species": []}))


COUNTS = [("WATER", 36), ("NEON", 2)]
DENSITY = 1.0


def tiny(**changes) -> md.Settings:
    """The quick preset on a box of 36 waters, a few hundred steps a stage, a checkpoint every 30 ms."""
    length = {"warmup": 0.1, "mix": 0.2, "equilibrate": 0.2, "density": 0.4, "settle": 0.1, "transport": 0.4}
    settings = md.preset("quick")
    stages = tuple(replace(s, ps=length[s.name]) for s in settings.stages)
    fast = {"stages": stages, "cutoff_nm": 0.45, "minimise_iterations": 30, "log_ps": 0.02, "frame_ps": 0.01}
    return replace(settings, **(fast | {"guard_ps": 0.2, "checkpoint_s": 0.03} | changes))


if __name__ == "__main__":
    md.simulate(StandIn(), COUNTS, DENSITY, tiny(), Path(sys.argv[1]), platform="CPU")
