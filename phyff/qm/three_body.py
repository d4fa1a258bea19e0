"""Three-body energies: what the interaction energy of a trimer holds beyond the sum over its pairs.

E3 = E(ABC) - E(AB) - E(AC) - E(BC) + E(A) + E(B) + E(C), every energy in the basis and on the grid of the
whole trimer (the counterpoise correction of Wells and Wilson 1983, doi 10.1016/0009-2614(83)87275-4). Two
parts: the Heitler-London energy of antisymmetrised products ("exchange"; the Coulomb energy of unperturbed
densities is pairwise additive and drops out) and their relaxation ("induction"), which is where the
polarization of a model belongs.

VV10 is left out: of the 31.9 kJ/mol of a Li+ with two EC it is 0.006 (a finer DFT grid moves that by 0.003).
It holds no three-body dispersion of the Axilrod-Teller kind. Atomic units inside, kJ/mol in the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from phyff.qm.clusters import CutCluster, placed
from phyff.qm.dimers import level_of
from phyff.qm.eda import Fragments, Monomer, ghosted, heitler_london_density
from phyff.qm.executor import Job
from phyff.qm.level import LevelOfTheory
from phyff.qm.scf import DenseRKS, converge
from phyff.units import HARTREE_KJ

KIND = "three_body"
CONVERGENCE = (5e-6, 1e-3)
"""Hartree between cycles, orbital gradient: seven energies whose errors add up make one small number."""


def three_body_job_of(trimer: CutCluster, level: LevelOfTheory) -> Job:
    """The job of one trimer."""
    spec = {
        "monomers": [placed(s, xyz) for s, xyz in zip(trimer.species, trimer.xyz, strict=True)],
        "source": trimer.source,
        "level": level.density_key(),
    }
    return Job(KIND, spec, three_body_job, f"{' + '.join(s.name for s in trimer.species)} {trimer.source}")


def three_body_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Record of one trimer: what `three_body_energies` returns."""
    monomers = [
        Monomer(tuple(m["elements"]), m["charge"], np.array(m["xyz_angstrom"])) for m in spec["monomers"]
    ]
    energies = three_body_energies(monomers, level_of(spec["level"]))
    return {
        name: [round(v, 5) for v in value] if isinstance(value, list) else round(value, 5)
        for name, value in energies.items()
    }


def three_body_energies(monomers: Sequence[Monomer], level: LevelOfTheory) -> dict[str, Any]:
    """kJ/mol: "total" E3 and its parts "exchange" and "induction"; beside them the counterpoise-corrected
    interaction energies of the pairs 01, 02 and 12 in the trimer's basis ("pairs") and of the trimer
    ("interaction"), all without VV10.

    Raises:
        RuntimeError: an SCF does not converge.
    """
    fragments = Fragments.of(monomers, level, CONVERGENCE)
    alone = np.array([mf.e_tot for mf in fragments.separate])
    densities = [mf.make_rdm1() for mf in fragments.separate]
    overlap = fragments.whole.mol.intor_symmetric("int1e_ovlp")
    pairs = []
    for i, j in combinations(range(len(monomers)), 2):
        product = heitler_london_density(overlap, [densities[i], densities[j]])
        pair = DenseRKS(ghosted(monomers, level, (i, j)), level.functional, fragments.whole.dense)
        pair.conv_tol, pair.conv_tol_grad = CONVERGENCE
        pairs.append(_Relaxed.of(pair, product, product, alone[i] + alone[j]))
    deformed = sum((pair.density for pair in pairs), -sum(densities))
    whole = _Relaxed.of(fragments.whole, fragments.product, deformed, alone.sum())
    exchange = whole.product - sum(pair.product for pair in pairs)
    total = whole.relaxed - sum(pair.relaxed for pair in pairs)
    return {
        "exchange": exchange * HARTREE_KJ,
        "induction": (total - exchange) * HARTREE_KJ,
        "total": total * HARTREE_KJ,
        "pairs": [pair.relaxed * HARTREE_KJ for pair in pairs],
        "interaction": whole.relaxed * HARTREE_KJ,
    }


@dataclass(frozen=True)
class _Relaxed:
    """Interaction energies (hartree) of some of the monomers as their antisymmetrised product and converged,
    and the converged density matrix."""

    product: float
    relaxed: float
    density: np.ndarray

    @classmethod
    def of(cls, mf: DenseRKS, product: np.ndarray, guess: np.ndarray, alone: float) -> _Relaxed:
        frozen = mf.energy_tot(product)
        converge(mf, guess)
        return cls(float(frozen - alone), float(mf.e_tot - alone), mf.make_rdm1())
