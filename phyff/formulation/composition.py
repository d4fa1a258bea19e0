"""From amounts to mole fractions.

Every way to give an amount is linear in the moles once each component has a molar volume (volumes taken to
add up), so molarities are made self-consistent with the solution's own volume by one linear solve.
"""

import numpy as np

from phyff.errors import InputError
from phyff.formulation.amounts import PERCENT_UNITS
from phyff.formulation.components import Component, field_of

_SHARE_TOLERANCE = 0.002
"""How far percentages may miss the whole, relative to it (33.3 three times adds up)."""


def mole_fractions(components: tuple[Component, ...], volumes: np.ndarray) -> np.ndarray:
    """Mole fraction of each component (formula units) for molar `volumes` in cm3/mol; shapes (n_components,).

    The solvent mixture's parts set the scale. Raises InputError when the amounts cannot all hold at once.
    """
    masses = np.array([c.molar_mass for c in components])
    molecular = np.array([c.is_molecular for c in components])
    matrix, right = np.eye(len(components)), np.zeros(len(components))
    group = parts(components)
    for i, component in enumerate(components):
        value, unit = component.amount.value, component.amount.unit
        if i in group:
            right[i] = (
                value
                / {"w/w": masses, "wt%": masses, "v/v": volumes, "vol%": volumes}.get(
                    unit, np.ones_like(masses)
                )[i]
            )
        elif unit == "M":
            matrix[i] -= value * volumes / 1000.0
        elif unit == "m":
            matrix[i] -= value * masses * molecular / 1000.0
        elif unit == "wt%":
            matrix[i] -= value / 100.0 * masses / masses[i]
        elif unit == "vol%":
            matrix[i] -= value / 100.0 * volumes / volumes[i]
        else:
            matrix[i] -= value / PERCENT_UNITS[unit]
    try:
        moles = np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        moles = np.full(len(components), -1.0)
    if not np.all(moles > 0.0) or not np.isfinite(moles).all():
        amounts = " + ".join(f"{c.amount} {c.name}" for i, c in enumerate(components) if i not in group)
        raise InputError(
            f"{field_of(components[-1])}: {amounts} leaves no room for the solvent; lower these amounts."
        )
    return moles / moles.sum()


def parts(components: tuple[Component, ...]) -> list[int]:
    """Indices of the components whose amounts are parts of one ratio that sets the solvent mixture.

    These are the solvents; with percentages, also the additives, or everything, if only together they make
    the whole. Raises InputError when percentages do not make a whole.
    """
    solvents = [i for i, c in enumerate(components) if c.role in ("solvent", "counted")]
    unit = components[solvents[0]].amount.unit
    same = [i for i, c in enumerate(components) if c.amount.unit == unit]
    whole = PERCENT_UNITS.get(unit)
    if whole is None:
        return same
    groups = [solvents, [i for i in same if components[i].is_molecular], same]
    for group in groups:
        if abs(sum(components[i].amount.value for i in group) - whole) <= _SHARE_TOLERANCE * whole:
            return group
    total = sum(components[i].amount.value for i in same)
    raise InputError(
        f"solvents: amounts in {unit} add up to {total:g}, not {whole:g}; correct them or use a ratio (w/w)."
    )
