"""Radial distribution functions around cations and the coordination numbers they integrate to.

Every number comes with the spread of time blocks, and with how much of the first shell was exchanged in the
run: a shell that never let go of a neighbour shows where it started, however small its block error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from phyff.properties.contacts import find_contacts, residence_time
from phyff.properties.result import CONVERGED, Property, duration, not_converged, too_short
from phyff.properties.trajectory import Production, Run, SpeciesInBox

Floats = NDArray[np.float64]
BIN_NM = 0.005
SMOOTHING_NM = 0.01
MIN_SNAPSHOTS = 20
BLOCKS = 5
CONTACT_NM = 0.10
"""No two atoms of different molecules are closer; bins below hold noise."""
SHELL_SEARCH_NM = 0.25
"""The first minimum is looked for this far behind the first peak."""
TARGET_ERROR = 0.05
EXCHANGES = 3.0
"""Mean residence times a run must hold before its coordination number is trusted."""


@dataclass(frozen=True)
class RadialDistribution:
    """g(r) around a cation.

    r (n,) bin centres in nm; g and its block error (n,); running (n,) and running_blocks (BLOCKS, n):
    coordination number up to the outer edge of each bin; shell_nm: first minimum, NaN without a shell.
    """

    label: str
    r: Floats
    g: Floats
    g_error: Floats
    running: Floats
    running_blocks: Floats
    shell_nm: float


def structure(
    run: Run, replicas: Sequence[Production]
) -> tuple[dict[str, Property], tuple[RadialDistribution, ...]]:
    """Coordination of every cation by oxygen, carbonyl oxygen of neutral species, and fluorine of anions."""
    properties: dict[str, Property] = {}
    snapshots = sum(len(production.snapshots) for production in replicas)
    curves: list[RadialDistribution] = []
    for cation in (s for s in run.species if s.charge > 0):
        for partner, targets in _partners(run, cation).items():
            name = f"coordination_{cation.name}_{partner}"
            if snapshots < MIN_SNAPSHOTS:
                properties[name] = too_short("", f"only {snapshots} frames of production")
                continue
            centres = centre_atoms(cation)
            curve = radial_distribution(
                f"{cation.name}-{partner.replace('_', ' ')}", centres, targets, replicas
            )
            curves.append(curve)
            properties[name] = _coordination(curve, centres, targets, replicas)
    return properties, tuple(curves)


def radial_distribution(
    label: str, centres: NDArray[np.int64], targets: NDArray[np.int64], replicas: Sequence[Production]
) -> RadialDistribution:
    """g(r) of target atoms around centre atoms (box-wide indices), minimum image, up to half the box edge."""
    box_nm = replicas[0].box_nm
    edges = np.arange(0.0, box_nm / 2.0, BIN_NM)
    counts = np.zeros((BLOCKS, len(edges) - 1))
    weights = np.zeros(BLOCKS)
    n = sum(len(production.snapshots) for production in replicas)
    for index, xyz in enumerate(chain.from_iterable(production.snapshots for production in replicas)):
        block = index * BLOCKS // n
        distances = _distances(xyz, centres, targets, box_nm)
        counts[block] += np.histogram(distances, edges)[0]
        weights[block] += len(centres)
    per_centre = counts / weights[:, None]
    shell_volumes = 4.0 / 3.0 * math.pi * np.diff(edges**3)
    n_targets = len(targets) - len(np.intersect1d(targets, centres)) / len(centres)
    blocks = per_centre / (shell_volumes * n_targets / box_nm**3)
    r = 0.5 * (edges[1:] + edges[:-1])
    g = np.average(blocks, axis=0, weights=weights)
    running_blocks = np.cumsum(per_centre, axis=1)
    return RadialDistribution(
        label=label,
        r=r,
        g=g,
        g_error=blocks.std(axis=0, ddof=1) / math.sqrt(BLOCKS),
        running=np.average(running_blocks, axis=0, weights=weights),
        running_blocks=running_blocks,
        shell_nm=first_minimum(r, g),
    )


def first_minimum(r: Floats, g: Floats) -> float:
    """Where the first shell ends (nm): the first minimum behind the first peak above 1; NaN without a peak.

    r (n,), g (n,); g is smoothed first. A flat floor (an empty gap between shells) gives its middle.
    """
    width = math.ceil(3.0 * SMOOTHING_NM / BIN_NM)
    kernel = np.exp(-0.5 * (np.arange(-width, width + 1) * BIN_NM / SMOOTHING_NM) ** 2)
    smooth = np.convolve(g, kernel / kernel.sum(), mode="same")[: len(g) - width]
    tall = max(1.2, 0.3 * float(smooth.max(initial=0.0)))
    inner = smooth[1:-1]
    is_peak = (
        (inner >= smooth[:-2]) & (inner > smooth[2:]) & (inner > tall) & (r[1 : len(inner) + 1] > CONTACT_NM)
    )
    peaks = np.flatnonzero(is_peak) + 1
    if not len(peaks):
        return math.nan
    peak = int(peaks[0])
    behind = smooth[peak : peak + round(SHELL_SEARCH_NM / BIN_NM)]
    low = behind[: _first_rise(behind) + 1]
    floor = np.flatnonzero(low <= low.min() + 1e-3 * behind[0])
    return float(r[peak + round(float(np.mean(floor)))])


def _first_rise(curve: Floats) -> int:
    """Index where a curve has risen a tenth of its start above its lowest point so far, or the last."""
    risen = np.flatnonzero(curve > np.minimum.accumulate(curve) + 0.1 * curve[0])
    return int(risen[0]) if len(risen) else len(curve) - 1


def _partners(run: Run, cation: SpeciesInBox) -> dict[str, NDArray[np.int64]]:
    """Atoms to count around a cation, by the name they get in the results."""
    others = [s for s in run.species if s.name != cation.name]
    partners = {
        "O": [s.atoms_of("O") for s in others],
        "carbonyl_O": [s.atoms(s.carbonyl) for s in others if s.charge == 0],
        "F": [s.atoms_of("F") for s in others if s.charge < 0],
    }
    joined = {name: np.concatenate(parts) for name, parts in partners.items() if parts}
    return {name: atoms for name, atoms in joined.items() if len(atoms)}


def centre_atoms(species: SpeciesInBox) -> NDArray[np.int64]:
    """The heaviest atom of every molecule (box-wide indices), which stands for a cation."""
    return species.atoms(np.arange(species.n_atoms) == int(np.argmax(species.masses)))


def _distances(
    xyz: NDArray[np.float32], centres: NDArray[np.int64], targets: NDArray[np.int64], box_nm: float
) -> NDArray[np.float32]:
    """Minimum-image distances (n_centres, n_targets), nm; an atom is infinitely far from itself."""
    difference = xyz[centres][:, None, :] - xyz[targets][None, :, :]
    difference -= np.float32(box_nm) * np.round(difference / np.float32(box_nm))
    distances = np.sqrt(np.einsum("ctd,ctd->ct", difference, difference))
    distances[centres[:, None] == targets[None, :]] = np.inf
    return distances


def _coordination(
    curve: RadialDistribution,
    centres: NDArray[np.int64],
    targets: NDArray[np.int64],
    replicas: Sequence[Production],
) -> Property:
    if math.isnan(curve.shell_nm):
        return too_short("", "no first shell in the radial distribution")
    shell = int(np.searchsorted(curve.r, curve.shell_nm))
    blocks = curve.running_blocks[:, shell]
    value, error = float(curve.running[shell]), float(blocks.std(ddof=1)) / math.sqrt(BLOCKS)
    length_ps = sum(production.length_ps for production in replicas)
    stays = residence_time([find_contacts(centres, targets, 1, curve.shell_nm, p) for p in replicas])
    wanted = TARGET_ERROR * max(value, 1.0)
    verdict = exchange_verdict(stays, length_ps)
    if verdict == CONVERGED and error > wanted:
        verdict = not_converged(f"error {error:.2g}, wanted {wanted:.2g}", length_ps * (error / wanted) ** 2)
    details = {
        "shell_nm": curve.shell_nm,
        "residence_time_ps": stays if math.isfinite(stays) else None,
        "method": f"integral of g(r) to its first minimum; error from {BLOCKS} time blocks",
    }
    return Property(value, error, "", verdict, details)


def exchange_verdict(residence_ps: float, length_ps: float) -> str:
    """Whether a run holds enough residence times for its neighbours not to be those it started with."""
    if residence_ps * EXCHANGES <= length_ps:
        return CONVERGED
    if math.isinf(residence_ps):
        return not_converged("no first neighbour left its cation", 10.0 * length_ps)
    why = f"neighbours stay about {duration(residence_ps)}, the run is {duration(length_ps)}"
    return not_converged(why, EXCHANGES * residence_ps)
