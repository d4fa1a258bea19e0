"""How long molecules keep their conformers: how often their rotatable bonds turn in a trajectory.

A run shorter than that keeps the mixture of conformers that its box was packed with, and no error bar knows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from MDAnalysis.lib.distances import calc_dihedrals
from numpy.typing import NDArray

from phyff.properties.result import CONVERGED, Property, duration, not_converged, too_short
from phyff.properties.structure import EXCHANGES, MIN_SNAPSHOTS
from phyff.properties.trajectory import Production, Run, SpeciesInBox
from phyff.species.rotors import Rotor, rotors

Floats = NDArray[np.float64]
PREFIX = "conformer_lifetime_"
WINDOW = 4
"""Snapshots over which an angle is averaged before it is compared with the one before: what vibrates, or
comes straight back, has not turned."""
TURNED = math.radians(60.0)
"""Between windows; half of what parts gauche from trans, a third of cis from trans."""
TRANS = math.radians(120.0)
"""Angles beyond it count as trans."""


def conformer_lifetimes(run: Run, replicas: Sequence[Production]) -> dict[str, Property]:
    """Of every species with rotatable bonds how long the slowest kind of them keeps its angle, ps."""
    snapshots = min(len(production.snapshots) for production in replicas)
    found = {}
    for species in run.species:
        own = rotors(species.mapped_smiles) if species.mapped_smiles and species.count else ()
        if own and snapshots < MIN_SNAPSHOTS:
            found[PREFIX + species.name] = too_short("ps", "too few frames of production")
        elif own:
            found[PREFIX + species.name] = _lifetime(species, own, replicas)
    return found


def _lifetime(species: SpeciesInBox, own: Sequence[Rotor], replicas: Sequence[Production]) -> Property:
    """The error counts turns: each bond makes one every lifetime."""
    shown, slowest, fewest = [], 0.0, math.inf
    for rotor in own:
        angles = [_angles(species, rotor, production) for production in replicas]
        turns = sum(map(_turns, angles))
        watched_ps = sum(
            (len(part) // WINDOW - 1)
            * WINDOW
            * production.snapshot_stride
            * production.frame_ps
            * part.shape[1]
            for part, production in zip(angles, replicas, strict=True)
        )
        lifetime = watched_ps / turns if turns else math.inf
        trans = float(np.mean(np.abs(np.concatenate(angles)) > TRANS))
        shown.append(f"{rotor.label} {100 * trans:.0f} % trans, {turns} turns")
        if lifetime > slowest:
            slowest, fewest = lifetime, turns
    length_ps = min(production.length_ps for production in replicas)
    details = {
        "rotatable_bonds": "; ".join(shown),
        "method": "time between turns of the bonds that turn least; trans: more than 120 degrees",
    }
    if math.isinf(slowest):
        why = f"no such bond turned in {duration(length_ps)}"
        return replace(too_short("ps", why), details=details)
    verdict = CONVERGED
    if slowest * EXCHANGES > length_ps:
        why = f"bonds turn every {duration(slowest)}, the run is {duration(length_ps)}"
        verdict = not_converged(why, EXCHANGES * slowest)
    return Property(slowest, slowest / math.sqrt(fewest), "ps", verdict, details)


def _angles(species: SpeciesInBox, rotor: Rotor, production: Production) -> Floats:
    """(n_snapshots, molecules times torsions), radians."""
    last = species.first_atom + species.count * species.n_atoms
    xyz = production.snapshots[:, species.first_atom : last].reshape(-1, species.n_atoms, 3)
    return torsion_angles(xyz, rotor).reshape(len(production.snapshots), -1)


def torsion_angles(xyz: NDArray[np.floating], rotor: Rotor) -> Floats:
    """(n, torsions) radians of molecules at xyz (n, n_atoms, 3)."""
    return np.stack([calc_dihedrals(*(xyz[:, i] for i in torsion)) for torsion in rotor.torsions], axis=-1)


def _turns(angles: Floats) -> int:
    """How often angles (n_snapshots, n) differ between windows that follow one another."""
    whole = angles[: len(angles) // WINDOW * WINDOW].reshape(-1, WINDOW, angles.shape[1])
    means = np.angle(np.exp(1j * whole).mean(axis=1))
    steps = np.angle(np.exp(1j * np.diff(means, axis=0)))
    return int(np.sum(np.abs(steps) > TURNED))


def still(lifetimes: Mapping[str, Property]) -> list[str]:
    """Species whose conformers a run of that length hardly changes."""
    return [name.removeprefix(PREFIX) for name, p in lifetimes.items() if not p.converged]


def not_of_the_liquid(packed: Sequence[str], drawn: Sequence[str], n_replicas: int) -> str | None:
    """Why shares of conformers in a run may not be those of the liquid; None where they are.

    packed: species that keep the conformers they were packed with; drawn: those that keep the conformers that
    a stage with lowered barriers ended with, of which every replica has its own.
    """
    if packed:
        return f"conformers of {', '.join(packed)} keep the shares the box was packed with"
    if drawn and n_replicas == 1:
        return f"conformers of {', '.join(drawn)} keep the shares of one draw; --replicas makes more"
    return None
