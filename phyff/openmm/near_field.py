"""phyff/model/near_field.py as a stock OpenMM force, which both engines share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import openmm
import torch

from phyff.model.near_field import CUTOFF, SWITCH_START, TERMS
from phyff.model.pairs import COMPONENTS, MAX_ARGUMENT, slater_overlap_expression
from phyff.model.switch import SWITCH, switch_argument

if TYPE_CHECKING:
    from phyff.openmm.drude import Placed

NAME = "near field"
DONOR_PARAMETERS = (
    *("axd", "bxd", "apd", "bpd", "b", "n0"),
    *(f"{letter}{k}" for letter in "ng" for k in range(1, TERMS + 1)),
)
ACCEPTOR_PARAMETERS = ("axa", "bxa", "apa", "bpa", "q")
_OVERLAP = f"({slater_overlap_expression('{0}', '{1}')})"
_TERMS = {
    "exchange": f"axd*axa*{_OVERLAP.format('x', 'bxr')}*excess",
    "penetration": f"q*potential*{_OVERLAP.format('w', 'br')} - apd*apa*{_OVERLAP.format('v', 'bpr')}*excess",
}
_ARGUMENTS = (
    "potential = n0 + n1*c1 + n2*c2 + n3*c1*c1 + n4*c1*c2 + n5*c2*c2; "
    "excess = exp(g1*c1 + g2*c2 + g3*c1*c1 + g4*c1*c2 + g5*c2*c2) - 1; "
    f"x = min({MAX_ARGUMENT}, bxr); v = min({MAX_ARGUMENT}, bpr); w = min({MAX_ARGUMENT}, br); "
    "bxr = bxd*bxa*r; bpr = bpd*bpa*r; br = b*r; "
    # cosines by way of distances, which have derivatives everywhere
    "c1 = (r*r + one*one - distance(a1, d2)^2)/(2*r*one); one = distance(d1, d2); "
    "c2 = (r*r + other*other - distance(a1, d3)^2)/(2*r*other); other = distance(d1, d3); "
    f"t = {switch_argument('r', SWITCH_START, CUTOFF)}; r = distance(a1, d1)"
)


def _expression(components: Sequence[str]) -> str:
    return f"({' + '.join(_TERMS[name] for name in components)})*({SWITCH}); {_ARGUMENTS}"


EXPRESSION = _expression(tuple(_TERMS))
"""Of all components."""


def near_field_force(
    molecules: Sequence[Placed], cutoff: float | None, components: Sequence[str]
) -> openmm.CustomHbondForce | None:
    """What bare cations feel of the near fields of other molecules, of those of the components that have any;
    None where there is no such pair. cutoff: of the System's charges, nm, None in vacuum."""
    own = [name for name in components if name in _TERMS]
    if not own:
        return None
    force = openmm.CustomHbondForce(_expression(own))
    for name in DONOR_PARAMETERS:
        force.addPerDonorParameter(name)
    for name in ACCEPTOR_PARAMETERS:
        force.addPerAcceptorParameter(name)
    if cutoff is not None:
        force.setNonbondedMethod(openmm.CustomHbondForce.CutoffPeriodic)
        force.setCutoffDistance(CUTOFF)
    exchange, penetration = (COMPONENTS.index(name) for name in ("exchange", "penetration"))
    for molecule in molecules:
        s, near = molecule.species, molecule.species.near_field
        spheres = [
            s.contact_amplitudes[exchange],
            s.contact_exponents,
            s.contact_amplitudes[penetration],
            s.contact_attraction_exponents,
        ]
        if s.is_bare_cation:
            row = torch.stack([*spheres, s.charges[:1]], dim=1)[0].tolist()
            force.addAcceptor(molecule.atoms[0], -1, -1, row)
            continue
        rows = torch.cat([torch.stack([*spheres, near.exponents], 1), near.potentials, near.shapes], dim=1)
        for i, row in enumerate(rows.tolist()):
            if near.exponents[i] == 0.0:
                continue
            # an atom without directions counts them from a partner, with coefficients of zero
            one, other = near.references[i].tolist() if near.directed[i] else [_partner(molecule, i)] * 2
            force.addDonor(*(molecule.atoms[k] for k in (i, one, other)), row)
    return force if force.getNumAcceptors() and force.getNumDonors() else None


def _partner(molecule: Placed, atom: int) -> int:
    """An atom bonded to that one."""
    one, other = molecule.species.bonds
    return int(torch.cat([other[one == atom], one[other == atom]])[0])
