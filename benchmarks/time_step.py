"""Do steps of 1 fs and hydrogens of 3 amu change a liquid? Density and diffusion beside 0.5 fs, own masses.

    python benchmarks/time_step.py OUT [--solvent DMC] [--molecules 28] [--npt-ps 200] [--nvt-ps 400]
        [--variant 1:0.5 --variant 3:1 ...] [--seed 1]

Runs of the same box, one after the other, each in its folder of OUT; killed, the same command goes on. A
variant is the mass of a hydrogen (amu) and the step (fs). Hydrogens weigh 3 amu in every phyff run, at the
cost of their neighbours, and steps are 1 fs: averages of positions do not depend on masses, dynamics might.
The last column is the difference from the first row over the combined error. Oscillators drain heat from
light hydrogens, so the mean temperatures are printed too: diffusion compares where they agree.
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
from phyff.openmm.drude import HYDROGEN_MASS
from phyff.openmm.forcefield import ForceField
from phyff.properties import study
from phyff.properties.result import Property
from phyff.simulation import prepare


@dataclass(frozen=True)
class OtherMasses(ForceField):
    """A force field whose hydrogens have another mass in a simulation."""

    hydrogen_amu: float = HYDROGEN_MASS

    def create_system(self, topology: Topology, *args: object, **kwargs: object) -> openmm.System:
        """As ForceField.create_system; what hydrogens gain or lose comes from their neighbours."""
        system = super().create_system(topology, *args, **kwargs)  # type: ignore[arg-type]
        for pair in topology.bonds():
            for hydrogen, heavy in (pair, (pair[1], pair[0])):
                if hydrogen.element.symbol == "H" and heavy.element.symbol != "H":
                    gained = self.hydrogen_amu - HYDROGEN_MASS
                    for atom, more in ((hydrogen, gained), (heavy, -gained)):
                        mass = system.getParticleMass(atom.index)._value
                        system.setParticleMass(atom.index, mass + more)
        return system


@dataclass(frozen=True)
class Variant:
    """How one of the runs moves."""

    hydrogen_amu: float
    timestep_fs: float

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """Of "3:1", hydrogens of 3 amu and steps of 1 fs."""
        mass, step = text.split(":")
        return cls(float(mass), float(step))

    @property
    def name(self) -> str:
        """For tables and folders."""
        return f"{self.timestep_fs:g} fs, hydrogens of {self.hydrogen_amu:g} amu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--solvent", default="DMC")
    parser.add_argument("--molecules", type=int, default=28)
    parser.add_argument("--npt-ps", type=float, default=200.0)
    parser.add_argument("--nvt-ps", type=float, default=400.0)
    parser.add_argument("--variant", action="append", type=Variant.parse, help="amu:fs; 1.008:0.5 and 3:1")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    variants = options.variant or [Variant.parse("1.008:0.5"), Variant.parse("3:1")]
    formulation = Formulation.parse({"temperature_K": 298.15, "counts": {options.solvent: options.molecules}})
    rows = [_properties(variant, formulation, options) for variant in variants]
    for name in rows[0]:
        print(f"\n{name}, {rows[0][name].unit}")
        for variant, row in zip(variants, rows, strict=True):
            here, first = row[name], rows[0][name]
            apart = (here.value - first.value) / math.hypot(here.error, first.error)
            print(f"{variant.name:40s}{here.value:9.4f} ± {here.error:.4f}{apart:+7.1f}  {here.verdict}")
    print("\nmean temperature of atoms while density and diffusion were taken, K")
    for variant in variants:
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
    if variant.hydrogen_amu != HYDROGEN_MASS:
        field = OtherMasses(field.species, field.short_range, hydrogen_amu=variant.hydrogen_amu)
    settings = _settings(plain.settings, variant.timestep_fs, options)
    replace(plain, forcefield=field, settings=settings).run()
    found = study(out).properties
    return {name: found[name] for name in ("density", f"self_diffusion_{options.solvent}_box")}


def _folder(variant: Variant, options: argparse.Namespace) -> Path:
    folder: Path = options.out / variant.name.replace(",", "").replace(" ", "-")
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
    return replace(settings, stages=stages, seed=options.seed)


if __name__ == "__main__":
    main()
