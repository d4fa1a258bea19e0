"""phyff/model/charge_flow.py as a stock OpenMM force, which both engines share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import openmm
import torch

from phyff.model.charge_flow import CUTOFF, SWITCH_START
from phyff.model.switch import SWITCH, switch_argument
from phyff.units import COULOMB

if TYPE_CHECKING:
    from phyff.openmm.drude import Placed

NAME = "charge flow"
LONGEST_BOND = 0.2
"""nm. OpenMM cuts off by the distance of atom i, at most half of this beyond the mean that the switch has."""
DONOR_PARAMETERS = ("bond", "nextbond", "bend", "through", "atrest")
EXPRESSION = (
    f"{COULOMB}*q*(bond*distance(d1, d2) + nextbond*distance(d2, d3) + bend*angle(d1, d2, d3)"
    f" + through/distance(d1, d3) - atrest)*(1/near - 1/far)*({SWITCH}); "
    f"t = {switch_argument('0.5*(near + far)', SWITCH_START, CUTOFF)}; "
    "near = distance(a1, d1); far = distance(a1, d2)"
)


def charge_flow_forces(molecules: Sequence[Placed], cutoff: float | None) -> list[tuple[openmm.Force, str]]:
    """The bare cations' energy with charge that flows in other molecules, with its group; none where there is
    no such pair. cutoff: of the System's charges, nm, None in vacuum."""
    force = openmm.CustomHbondForce(EXPRESSION)
    force.setName(NAME)
    force.addPerAcceptorParameter("q")
    for name in DONOR_PARAMETERS:
        force.addPerDonorParameter(name)
    if cutoff is not None:
        force.setNonbondedMethod(openmm.CustomHbondForce.CutoffPeriodic)
        force.setCutoffDistance(CUTOFF + 0.5 * LONGEST_BOND)
    for molecule in molecules:
        species, flows = molecule.species, molecule.species.flows
        if species.is_bare_cation:
            force.addAcceptor(molecule.atoms[0], -1, -1, [float(species.charges[0])])
        columns = [flows.bond, flows.next_bond, flows.bend, flows.through, flows.at_rest]
        rows = torch.stack(columns, dim=1).tolist()
        for triple, row in zip(flows.atoms.tolist(), rows, strict=True):
            force.addDonor(*(molecule.atoms[atom] for atom in triple), row)
    return [(force, NAME)] if force.getNumAcceptors() and force.getNumDonors() else []
