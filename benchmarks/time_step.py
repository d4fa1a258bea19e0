"""Do steps of 1 fs and hydrogens of 3 amu change a liquid? Density and diffusion beside 0.5 fs, own masses.

    python benchmarks/time_step.py OUT [--solvent DMC] [--molecules 28] [--npt-ps 200] [--nvt-ps 400]

Two runs of the same box, one after the other, each in its folder of OUT; killed, the same command goes on.
Hydrogens weigh 3 amu in every phyff run, at the cost of their neighbours, and steps are 1 fs: averages of
positions do not depend on masses, dynamics might. The last column is the difference from the first row over
the combined error. Oscillators drain heat from light hydrogens, so the mean temperatures are printed too:
diffusion compares where they agree.
"""

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import openmm
from openmm.app import Topology

from phyff.formulation import Formulation
from phyff.md import Settings
from phyff.md.temperature import drude_pairs
from phyff.openmm.drude import DRUDE_MASS
from phyff.openmm.forcefield import ForceField
from phyff.properties import study
from phyff.properties.result import Property
from phyff.simulation import prepare


class OwnMasses(ForceField):
    """A force field whose hydrogens keep their own mass in a simulation."""

    def create_system(self, topology: Topology, *args: object, **kwargs: object) -> openmm.System:
        """As ForceField.create_system; an atom and its oscillator weigh what the element does."""
        system = super().create_system(topology, *args, **kwargs)  # type: ignore[arg-type]
        carriers = set(drude_pairs(system)[:, 1].tolist())
        for atom in topology.atoms():
            if atom.element is not None:
                moved = DRUDE_MASS if atom.index in carriers else 0.0
                system.setParticleMass(atom.index, atom.element.mass._value - moved)
        return system


@dataclass(frozen=True)
class Variant:
    """How one of the runs moves."""

    name: str
    timestep_fs: float
    own_masses: bool


VARIANTS = (
    Variant("0.5 fs, hydrogens of 1 amu", 0.5, True),
    Variant("1 fs, hydrogens of 3 amu (phyff run)", 1.0, False),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--solvent", default="DMC")
    parser.add_argument("--molecules", type=int, default=28)
    parser.add_argument("--npt-ps", type=float, default=200.0)
    parser.add_argument("--nvt-ps", type=float, default=400.0)
    options = parser.parse_args()
    formulation = Formulation.parse({"temperature_K": 298.15, "counts": {options.solvent: options.molecules}})
    rows = [_properties(variant, formulation, options) for variant in VARIANTS]
    for name in rows[0]:
        print(f"\n{name}, {rows[0][name].unit}")
        for variant, row in zip(VARIANTS, rows, strict=True):
            here, first = row[name], rows[0][name]
            apart = (here.value - first.value) / math.hypot(here.error, first.error)
            print(f"{variant.name:40s}{here.value:9.4f} ± {here.error:.4f}{apart:+7.1f}  {here.verdict}")
    print("\nmean temperature of atoms while density and diffusion were taken, K")
    for variant in VARIANTS:
        print(
            f"{variant.name:40s}", *(f"{kelvin:.1f}" for kelvin in _temperatures(_folder(variant, options)))
        )


def _properties(
    variant: Variant, formulation: Formulation, options: argparse.Namespace
) -> dict[str, Property]:
    out = _folder(variant, options)
    print(f"{variant.name}: {out}", flush=True)
    plain = prepare(formulation, "short", out, None, print)
    field = plain.forcefield
    assert isinstance(field, ForceField)
    if variant.own_masses:
        field = OwnMasses(field.species, field.short_range)
    settings = _settings(plain.settings, variant.timestep_fs, options)
    replace(plain, forcefield=field, settings=settings).run()
    found = study(out).properties
    return {name: found[name] for name in ("density", f"self_diffusion_{options.solvent}_box")}


def _folder(variant: Variant, options: argparse.Namespace) -> Path:
    folder: Path = options.out / variant.name.split(" (")[0].replace(",", "").replace(" ", "-")
    return folder


def _temperatures(run_dir: Path) -> list[float]:
    """Of the density and the transport stage."""
    rows = json.loads((run_dir / "run.json").read_text())["stages"]
    return [row["mean_temperature_K"] for row in rows if row["name"] in ("density", "transport")]


def _settings(settings: Settings, timestep_fs: float, options: argparse.Namespace) -> Settings:
    """Those of the preset with other lengths and steps."""
    lengths = {"density": options.npt_ps, "transport": options.nvt_ps}
    stages = tuple(
        replace(stage, ps=lengths.get(stage.name, stage.ps), timestep_fs=min(stage.timestep_fs, timestep_fs))
        for stage in settings.stages
    )
    return replace(settings, stages=stages)


if __name__ == "__main__":
    main()
