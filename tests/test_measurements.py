"""Measured values meet the simulations of the same liquid, and no others."""

import numpy as np
import pytest

from phyff.measurements import Liquid, Measurement, measured_values, nearest, suites_directory
from phyff.units import AVOGADRO

EC, DMC, LI, PF6 = "O=C1OCCO1", "COC(=O)OC", "[Li+]", "F[P-](F)(F)(F)(F)F"
MASSES = np.array([88.06, 90.08, 6.94, 144.96])


def lp30(pairs: int, temperature: float = 298.15, density: float = 1.3) -> Liquid:
    """EC and DMC 1:1 by weight with so many ion pairs per 9008 + 8806 molecules, at a density in g/cm3."""
    counts = np.array([9008, 8806, pairs, pairs])
    volume = float(counts @ MASSES) / density * 1e21 / AVOGADRO
    return Liquid(dict(zip((EC, DMC, LI, PF6), counts.tolist(), strict=True)), volume, temperature, 1.0)


def pairs_at(molarity: float, density: float) -> int:
    """Pairs that make a molarity: n / (volume) with the mass of the solution counted."""
    solvent, salt = 9008 * MASSES[0] + 8806 * MASSES[1], MASSES[2] + MASSES[3]
    return round(molarity * solvent / (1000.0 * density - molarity * salt))


def test_a_molarity_counts_at_the_simulated_volume() -> None:
    found = measured_values(lp30(pairs_at(1.0, 1.3)))["conductivity"]
    assert found.value == 11.82 and found.system == "LP30-1.0M"
    assert abs(found.difference) < 1e-3
    dilute = measured_values(lp30(pairs_at(0.93, 1.3)))["conductivity"]
    assert dilute.value == 11.82
    assert (dilute.species, dilute.difference) == ("Li+", pytest.approx(-0.066, abs=0.005))


def test_another_concentration_temperature_pressure_or_species_is_another_liquid() -> None:
    assert "conductivity" not in measured_values(lp30(pairs_at(0.75, 1.3)))
    assert measured_values(lp30(pairs_at(1.0, 1.3), temperature=313.15)) == {}
    pure = Liquid({DMC: 100}, 14.0, 298.15, 1.0)
    assert measured_values(pure)["density"].value == 1.063
    assert measured_values(Liquid({DMC: 100}, 14.0, 298.15, 1000.0)) == {}
    assert measured_values(Liquid({DMC: 50, EC: 50}, 13.0, 298.15, 1.0)) == {}
    assert measured_values(Liquid({"CCO": 100}, 10.0, 298.15, 1.0)) == {}


def test_the_nearest_of_several_compositions_is_taken() -> None:
    rows = [
        Measurement(
            system=name,
            recipe=f"{molality} m LiPF6 in EC:DMC 1:1 w/w",
            property="density",
            experiment=1.3,
            unit="g/cm3",
            source="none",
        )
        for name, molality in (("far", 1.05), ("near", 1.01), ("farther", 0.93))
    ]
    pairs = round(1.0 * (9008 * MASSES[0] + 8806 * MASSES[1]) / 1000.0)
    assert nearest(lp30(pairs), rows)["density"].system == "near"


def test_the_suites_are_the_repositorys() -> None:
    assert {"density.yaml", "conductivity.yaml"} <= {path.name for path in suites_directory().iterdir()}
