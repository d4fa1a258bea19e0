"""From a formulation to a finished run directory: what `phyff run` and `phyff bench` share."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import phyff
from phyff import builder, md
from phyff.errors import InputError
from phyff.formulation import Box, Formulation
from phyff.openmm.forcefield import ForceField
from phyff.openmm.platforms import platform_named
from phyff.parallel import on_cluster
from phyff.side_by_side import Simulation, simulate_side_by_side


def run_formulation(
    formulation: Formulation,
    preset: str,
    out: Path,
    platform: str | None,
    say: Callable[[str], None],
    neural: bool = False,
    spread_threshold: float | None = None,
    longer: float = 1.0,
) -> None:
    """Simulate, or go on simulating, a formulation at its temperature and pressure in the folder `out`.

    Raises:
        InputError: the formulation does not fit the preset, `out` is a file.
        SimulationError: the platform is missing, or the simulation failed; the last good state stays in
            `out`.
    """
    simulation = prepare(formulation, preset, out, platform, say, neural, spread_threshold, longer=longer)
    if on_cluster():
        for _ in simulate_side_by_side([simulation], 1):
            pass
    else:
        simulation.run()


def prepare(
    formulation: Formulation,
    preset: str,
    out: Path,
    platform: str | None,
    say: Callable[[str], None],
    neural: bool = False,
    spread_threshold: float | None = None,
    flow_ps: float = 0.0,
    longer: float = 1.0,
) -> Simulation:
    """The simulation of a formulation, its force field built where it is not in the library, with the
    library's neural term if asked, whose committee is then watched.

    flow_ps: see Simulation. longer: see Settings.longer; a run that was shorter goes on.
    spread_threshold: of md.CommitteeCheck, kJ/mol/nm; None for its default.
    Raises:
        InputError: the formulation does not fit the preset, `out` is a file, there is a threshold but nothing
            to watch. SimulationError: the platform is missing.
    """
    committee = md.CommitteeCheck() if neural else None
    if spread_threshold is not None:
        if committee is None:
            raise InputError("spread-threshold: without --neural there is nothing to watch; add --neural.")
        committee = replace(committee, threshold=spread_threshold)
    settings = md.preset(
        preset,
        temperature_K=formulation.temperature_K,
        pressure_bar=formulation.pressure_bar,
        committee=committee,
    ).longer(longer)
    box = formulation.box(None if formulation.has_size else settings.atoms, cutoff_nm=settings.cutoff_nm)
    platform_named(platform)
    check_folder(out)
    describe(formulation, box, say)
    forcefield = builder.force_field(
        formulation.species, out / builder.SPECIES_FOLDER, say=say, neural=neural
    )
    return Simulation(
        forcefield,
        tuple((name, count) for name, _, count in box.counts),
        box.density,
        settings,
        out,
        platform,
        _about(formulation, box, forcefield),
        flow_ps,
    )


def describe(formulation: Formulation, box: Box, say: Callable[[str], None]) -> None:
    """Say what is in the box beside what was asked."""
    say(
        f"{formulation.name}: "
        + ", ".join(f"{count} {name}" for name, _, count in box.counts)
        + f"; {box.n_atoms} atoms, box about {box.edge_nm:.2f} nm"
    )
    for row in box.rows:
        say(f"  {row.name}: asked {row.requested}, in the box {row.achieved}")


def check_folder(out: Path) -> None:
    """Raises InputError when results cannot go there; makes nothing."""
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise InputError(f"out: {existing} is a file; give a folder.")


def check_file(option: str, path: Path | None) -> None:
    """Raises InputError, before long work, when a file that an option names has no folder to stand in."""
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"{option}: there is no folder {path.parent}; make it, or name a file elsewhere.")


def command_line() -> str:
    """The command that started this process, as a user would type it."""
    return shlex.join(["phyff", *sys.argv[1:]])


def _about(formulation: Formulation, box: Box, forcefield: ForceField) -> md.About:
    levels = {s.provenance.get("level_of_theory", {}).get("name", "unknown") for s in forcefield.species}
    return md.About(
        name=formulation.name,
        provenance={
            "phyff": phyff.__version__,
            "command": command_line(),
            "recipe": formulation.to_dict(),
            "engine": "drude" if forcefield.neural is None else "drude+neural",
            "level_of_theory": ", ".join(sorted(levels)),
            "experimental_input": "none",
        },
        warnings=[*forcefield.notes(), *box.notes],
        composition_report=[asdict(row) for row in box.rows],
    )
