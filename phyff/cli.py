"""The `phyff` command: parse, call, print. Bad input is one sentence on stderr and exit code 2."""

import functools
import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

import phyff
from phyff.errors import InputError, PhyffError
from phyff.parallel import PARSL_VARIABLE, use_cluster

HEADLINE = ("density", "viscosity", "conductivity", "conductivity_nernst_einstein")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Density, conductivity and more of an electrolyte written as SMILES and amounts, "
    "from a force field derived from quantum chemistry.",
    epilog="A first run: `phyff run recipes/lp30.yaml --preset quick --out runs/lp30`",
)
Command = TypeVar("Command", bound=Callable[..., None])


class Preset(StrEnum):
    """Lengths and sizes of a simulation; see phyff.md.protocol."""

    quick = "quick"
    short = "short"
    standard = "standard"
    production = "production"


class SuitePreset(StrEnum):
    """The same for benchmarks, which may end with the density."""

    density = "density"
    quick = Preset.quick
    short = Preset.short
    standard = Preset.standard
    production = Preset.production


class PlatformName(StrEnum):
    """OpenMM platforms."""

    cpu = "CPU"
    cuda = "CUDA"
    opencl = "OpenCL"
    reference = "Reference"


class Engine(StrEnum):
    """Realisations of the energy."""

    torch = "torch"
    drude = "drude"
    multipole = "multipole"


class Variant(StrEnum):
    """Architectures of the neural term; see phyff.model.neural."""

    pair = "pair"
    radial = "radial"
    angular = "angular"
    oriented = "oriented"


Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file (recipes/lp30.yaml) or one line: '1.0 M LiPF6 in EC:DMC 1:1 w/w'.",
        show_default=False,
    ),
]
Out = Annotated[
    Path, typer.Option("--out", help="Folder for the results; made if needed.", show_default=False)
]
RunDir = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="A folder that phyff run has written.", show_default=False)
]
Platform = Annotated[
    PlatformName | None,
    typer.Option("--platform", help="OpenMM platform; without it the fastest there is.", show_default=False),
]
Neural = Annotated[
    bool,
    typer.Option(
        "--neural/--no-neural", help="With the neural correction of the short range, if there is one."
    ),
]
Longer = Annotated[
    float,
    typer.Option(
        min=1.0,
        help="Transport (density, where there is none) so many times as long as the preset's; a finished run "
        "goes on.",
    ),
]
Clusters = Annotated[int, typer.Option("--clusters", min=1, help="How many, of two to six molecules.")]
Forces = Annotated[
    bool, typer.Option("--forces/--no-forces", help="Forces on the atoms too, at twice the time.")
]
ClusterWorkers = Annotated[
    int, typer.Option("--workers", min=1, help="Processes; each may need 16 GB of memory.")
]
Parsl = Annotated[
    Path | None,
    typer.Option(
        "--parsl",
        envvar=PARSL_VARIABLE,
        help="A Parsl configuration: a Python file that defines `config`. Work goes to that cluster.",
        show_default=False,
    ),
]


def reports_errors(command: Command) -> Command:
    """A PhyffError, or a file that cannot be read or written, becomes a sentence on stderr, exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except PhyffError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
        except BrokenPipeError:  # whoever reads the output has seen enough, which typer knows
            raise
        except OSError as error:
            place = error.filename if error.filename is not None else "a file"
            reason = error.strerror or str(error)
            typer.echo(f"{place}: {reason}; mend that, then run the same command again.", err=True)
            raise typer.Exit(2) from error

    return wrapped  # type: ignore[return-value]


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Options of `phyff` itself."""
    if version:
        typer.echo(phyff.__version__)
        raise typer.Exit


@app.command()
@reports_errors
def run(
    recipe: Recipe,
    out: Out,
    preset: Annotated[
        Preset,
        typer.Option(
            help="quick: minutes, 500 atoms; short: half a ns of them; standard: hours; "
            "production: three replicas."
        ),
    ] = Preset.quick,
    platform: Platform = None,
    replicas: Annotated[
        int, typer.Option(help="Independent replicas, side by side; results of all together, and of each.")
    ] = 1,
    neural: Neural = False,
    longer: Longer = 1.0,
    spread_threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="With --neural: frames where its networks differ by more in the force on an atom, in "
            "kJ/mol/nm, are saved for phyff improve. Default: 3 times the error that training tolerates.",
            show_default=False,
        ),
    ] = None,
    parsl: Parsl = None,
) -> None:
    """Simulate a formulation: density, conductivity, diffusion, coordination.

    Writes results.json and report.html. Stopped or killed, the same command goes on where it was.
    """
    from phyff.formulation import Formulation
    from phyff.properties import study, write_results
    from phyff.replicas import check_replicas, run_replicas
    from phyff.report import write_report
    from phyff.simulation import run_formulation

    use_cluster(parsl)
    formulation = Formulation.parse(recipe)
    check_replicas(out, replicas)
    if replicas == 1:
        run_formulation(formulation, preset.value, out, platform, _say, neural, spread_threshold, longer)
        result = study(out)
    else:
        result = run_replicas(
            formulation, preset.value, replicas, out, platform, _say, neural, spread_threshold, longer
        )
        together = result.run.settings["provenance"]["replicas"]["aggregate_ns_per_day"]
        typer.echo(f"{replicas} replicas, {together:g} ns/day together")
    results, report = write_results(out, result), write_report(out, result)
    _headline(json.loads(results.read_text()))
    if any(not found.converged for found in result.properties.values()):
        typer.echo(
            f"Not all converged: the same command with --longer {2 * longer:g} goes on with the transport; "
            "the density needs a longer --preset, in a new --out."
        )
    if result.committee is not None:
        typer.echo(result.committee.sentence(out))
    typer.echo(f"All numbers: {results}\nReport:      {report}")


@app.command()
@reports_errors
def build(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE_OR_SMILES",
            help="One species (EC, 'CCOC(C)=O') or a recipe file or line.",
            show_default=False,
        ),
    ],
    out: Out,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Quantum chemistry processes; without it one a core.", show_default=False),
    ] = None,
    parsl: Parsl = None,
) -> None:
    """Make a force field: forcefield.json, and for a recipe also system.xml and topology.pdb.

    Species that are not in the library are derived from quantum chemistry first, which takes a while; their
    files go to OUT/species and are used again.
    """
    from phyff import builder, md
    from phyff.formulation import Formulation
    from phyff.simulation import check_folder, describe

    use_cluster(parsl)
    subject = builder.read_source(source)
    if not isinstance(subject, Formulation):
        check_folder(out)
        forcefield = builder.force_field([subject], out / builder.SPECIES_FOLDER, workers, _say)
        path = builder.write_force_field(forcefield, out)
        for other in (out / "system.xml", out / "topology.pdb"):
            if other.is_file():
                other.unlink()
                _say(f"{other}: was of another force field, removed")
    else:
        cutoff = md.preset("quick").cutoff_nm
        box = subject.box(cutoff_nm=cutoff)
        check_folder(out)
        describe(subject, box, _say)
        forcefield = builder.force_field(subject.species, out / builder.SPECIES_FOLDER, workers, _say)
        path = builder.write_force_field(forcefield, out)
        builder.write_system(forcefield, box, cutoff, out)
    for note in forcefield.notes():
        _say(f"Note: {note}")
    typer.echo(f"Force field of {', '.join(s.name for s in forcefield.species)}: {path}")


@app.command()
@reports_errors
def energy(
    cluster: Annotated[Path, typer.Argument(metavar="CLUSTER.json", show_default=False)],
    engine: Annotated[Engine, typer.Option(help="Which realisation of the energy.")] = Engine.torch,
    neural: Neural = False,
) -> None:
    """Print the interaction energy of a cluster and its parts: JSON, kJ/mol.

    CLUSTER.json: `{"monomers": [{"smiles": mapped SMILES, "elements": [...], "xyz": [[x, y, z], ...]}]}`,
    angstrom, atoms in map order; or a list of such clusters. Monomers are kept rigid.
    """
    from phyff import builder, clusters
    from phyff.openmm.forcefield import ForceField
    from phyff.qm.store import default_root

    def force_field_of(species: Sequence[tuple[str, str]]) -> ForceField:
        return builder.force_field(species, default_root() / builder.SPECIES_FOLDER, neural=neural)

    typer.echo(json.dumps(clusters.energies(cluster, engine.value, force_field_of), indent=1))


@app.command()
@reports_errors
def speed(
    recipe: Recipe,
    atoms: Annotated[
        int | None, typer.Option(help="Atoms in the box; without it the recipe's.", show_default=False)
    ] = None,
    platform: Platform = None,
    neural: Neural = False,
) -> None:
    """Time a step, term by term, beside a plain fixed-charge model of the same box: JSON, milliseconds."""
    from phyff import builder
    from phyff.formulation import Formulation
    from phyff.openmm.platforms import platform_named
    from phyff.openmm.speed import speed as measure
    from phyff.qm.store import default_root

    formulation = Formulation.parse(recipe)
    box = formulation.box(atoms)
    platform_named(platform)
    forcefield = builder.force_field(
        formulation.species, default_root() / builder.SPECIES_FOLDER, say=_say, neural=neural
    )
    topology, positions = builder.starting_box(forcefield, box)
    answer = measure(
        forcefield, topology, positions, box.edge_nm, formulation.temperature_K, platform=platform
    )
    typer.echo(json.dumps(answer, indent=1))


@app.command()
@reports_errors
def train(
    fit_only: Annotated[
        bool,
        typer.Option(
            "--fit-only", help="Fit the records there are of dimers and beside cations; compute none."
        ),
    ] = False,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend",
            help="Keep what the short-range model has of molecules, so that densities of pure liquids stay; "
            "fit what is new, and what bare cations feel.",
        ),
    ] = False,
    renew: Annotated[
        list[str] | None,
        typer.Option(
            help="With --extend: fit the classes that this molecule alone has anew too, so that its liquid "
            "changes and those of others stay; may be given again.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the quantum chemistry.")] = 2,
    parsl: Parsl = None,
) -> None:
    """Make the library anew from quantum data: species files and the short-range model of molecules/.

    Records that exist are not computed again, so it can be stopped and started at any moment.
    """
    from phyff.fit.training import make_library
    from phyff.qm.level import PHYFF_2026A
    from phyff.species.library import library_directory

    use_cluster(parsl)
    make_library(library_directory(), PHYFF_2026A, workers, fit_only, extend, renew or (), _say)


@app.command()
@reports_errors
def label(
    run_dir: RunDir,
    clusters: Clusters = 20,
    smallest: Annotated[int, typer.Option(min=2, max=6, help="Molecules of the smallest.")] = 2,
    largest: Annotated[
        int, typer.Option(min=2, max=6, help="Molecules of the largest; pairs take a minute or two.")
    ] = 6,
    around: Annotated[
        list[str] | None,
        typer.Option(help="Only around this species; may be given again. Without it around all in turn."),
    ] = None,
    most_atoms: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Leave larger ones out: time grows with the cube of the atoms, 31 need 12 GB of memory.",
            show_default="any number",
        ),
    ] = None,
    forces: Forces = True,
    workers: ClusterWorkers = 1,
    parsl: Parsl = None,
) -> None:
    """Cut clusters out of the liquid of a finished run and label them with quantum chemistry.

    What train-neural learns from: records in molecules/records. Stopped or killed, the same command goes on.
    """
    from phyff.labelling import cluster_jobs
    from phyff.qm.executor import run_jobs
    from phyff.qm.level import PHYFF_2026A
    from phyff.qm.store import RecordStore
    from phyff.species.library import library_directory

    use_cluster(parsl)
    jobs = cluster_jobs(run_dir, clusters, PHYFF_2026A, forces, smallest, largest, around or (), most_atoms)
    if len(jobs) < clusters:
        _say(f"{run_dir} holds {len(jobs)} such clusters; a longer run has more frames to cut from.")
    run_jobs(jobs, RecordStore(library_directory() / "records"), workers, "clusters")


@app.command("label-shapes")
@reports_errors
def label_shapes(
    run_dir: RunDir,
    number: Annotated[int, typer.Option(min=1, help="Shapes of each species.")] = 40,
    species: Annotated[
        list[str] | None,
        typer.Option(help="Only of this species; may be given again.", show_default="all"),
    ] = None,
    workers: ClusterWorkers = 1,
    parsl: Parsl = None,
) -> None:
    """Compute the potential of molecules in shapes that they have beside Li+, Na+ or K+ in a finished run.

    What phyff train fits the flow of charge to, a few seconds a shape; records in molecules/records. Stopped
    or killed, the same command goes on.
    """
    from phyff.labelling import shape_jobs
    from phyff.qm.executor import run_jobs
    from phyff.qm.level import PHYFF_2026A
    from phyff.qm.store import RecordStore
    from phyff.species.library import library_directory

    use_cluster(parsl)
    jobs = shape_jobs(run_dir, number, PHYFF_2026A, species or ())
    if not jobs:
        _say(f"{run_dir} holds no molecule beside a bare cation; a longer run has more frames to take from.")
    run_jobs(jobs, RecordStore(library_directory() / "records"), workers, "potentials beside cations")


@app.command("label-dimers")
@reports_errors
def label_dimers(
    number: Annotated[int, typer.Option(min=1, help="How many of them; more go on where fewer ended.")] = 100,
    around: Annotated[
        list[str] | None,
        typer.Option(help="Only with this species; may be given again.", show_default="all"),
    ] = None,
    most_atoms: Annotated[
        int | None, typer.Option(min=2, help="Leave larger ones out.", show_default="any number")
    ] = None,
    workers: ClusterWorkers = 1,
    parsl: Parsl = None,
) -> None:
    """Add forces to bound dimers of the training set of the short range, for the neural term.

    Records in molecules/records, beside those of phyff label. Stopped or killed, the same command goes on.
    """
    from phyff.fit.labels import load_library
    from phyff.labelling import dimer_force_jobs
    from phyff.qm.executor import run_jobs
    from phyff.qm.level import PHYFF_2026A
    from phyff.qm.store import RecordStore
    from phyff.species.library import library_directory

    use_cluster(parsl)
    records = library_directory() / "records"
    _, species = load_library(library_directory())
    jobs = dimer_force_jobs(records, species, number, PHYFF_2026A, around or (), most_atoms)
    if len(jobs) < number:
        _say(f"There are {len(jobs)} such dimers.")
    run_jobs(jobs, RecordStore(records), workers, "forces of dimers")


@app.command("train-neural")
@reports_errors
def train_neural(
    variant: Annotated[
        Variant, typer.Option(help="What the network sees of its neighbours; oriented sees all.")
    ] = Variant.oriented,
    studies: Annotated[
        bool, typer.Option(help="Also learning curves (six more trainings) and species left out (one each).")
    ] = True,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Only these species left out in turn.", show_default="EMC, PC, DME, FSI-"),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="JSON file for the errors; without it they are printed.", show_default=False),
    ] = None,
) -> None:
    """Train the neural term of the library on its quantum records: molecules/neural.safetensors.

    Stopped or killed, the same command goes on where it was.
    """
    from phyff.files import write_atomically
    from phyff.fit.neural import LEAVE_OUT, make_neural
    from phyff.fit.neural_training import Schedule
    from phyff.model.neural import Architecture
    from phyff.simulation import check_file
    from phyff.species.library import library_directory

    check_file("summary", summary)
    architecture = Architecture(variant=variant.value)
    found = make_neural(library_directory(), architecture, Schedule(), studies, leave_out or LEAVE_OUT, _say)
    text = json.dumps(found, indent=1) + "\n"
    if summary is None:
        typer.echo(text)
    else:
        write_atomically(summary, text)
        typer.echo(f"Errors of the neural term: {summary}")


@app.command()
@reports_errors
def improve(
    run_dir: RunDir,
    clusters: Clusters = 20,
    forces: Forces = True,
    workers: ClusterWorkers = 1,
    parsl: Parsl = None,
) -> None:
    """Teach the neural term what it was uncertain of in a run with --neural.

    Clusters around the most uncertain molecules of the frames that the run saved are labelled with quantum
    chemistry, and molecules/neural.safetensors is trained anew with them. Stopped or killed, the same command
    goes on.
    """
    from phyff import improve as learning
    from phyff.qm.level import PHYFF_2026A
    from phyff.report.info import print_table
    from phyff.species.library import library_directory

    use_cluster(parsl)
    folder = library_directory()
    found = learning.improve(run_dir, clusters, PHYFF_2026A, forces, folder, workers, _say)
    print_table(
        "The term of the run → the new one: rms errors and committee spreads, kJ/mol and kJ/mol/nm",
        *learning.table(found),
    )
    typer.echo(f"New neural term: {folder / learning.NEURAL_FILE}\nThat of the run: {run_dir}")


@app.command()
@reports_errors
def viscosity(
    run_dir: RunDir,
    ps: Annotated[float, typer.Option(help="Length in ps at each of three accelerations.")] = 500.0,
    platform: Platform = None,
) -> None:
    """Compute the viscosity of a finished run by driving a flow, and write its results and report again.

    Stopped or killed, the same command goes on; a larger --ps adds to what is there.
    """
    from phyff.md.driven import Driving
    from phyff.md.viscosity import AMPLITUDES, shear_flow_of_run

    shear_flow_of_run(_force_field_of(run_dir), run_dir, Driving(ps, AMPLITUDES, platform=platform))
    _write_again(run_dir, ("viscosity",))


@app.command()
@reports_errors
def field(
    run_dir: RunDir,
    ps: Annotated[float, typer.Option(help="Length in ps at each of three fields.")] = 500.0,
    platform: Platform = None,
) -> None:
    """Compute the conductivity of a finished run in electric fields, and write its results and report again.

    Stopped or killed, the same command goes on; a larger --ps adds to what is there.
    """
    from phyff.md.driven import Driving
    from phyff.md.field import FIELDS, drift_of_run

    drift_of_run(_force_field_of(run_dir), run_dir, Driving(ps, FIELDS, platform=platform))
    _write_again(run_dir, ("conductivity_field", "conductivity", "conductivity_green_kubo"))


@app.command()
@reports_errors
def vapour(
    run_dir: RunDir,
    ps: Annotated[float, typer.Option(help="Length in ps.")] = 500.0,
    platform: Platform = None,
) -> None:
    """Compute the heat of vaporisation of a finished run of a pure liquid, from one molecule in vacuum.

    Writes the run's results and report again. Stopped or killed, the same command goes on; a larger --ps adds
    to what is there.
    """
    from phyff.md.driven import Driving
    from phyff.md.vapour import vapour_of_run

    vapour_of_run(_force_field_of(run_dir), run_dir, Driving(ps, platform=platform))
    _write_again(run_dir, ("heat_of_vaporisation", "density"))


@app.command()
@reports_errors
def analyze(
    trajectory: Annotated[Path, typer.Argument(metavar="TRAJ", help="XTC, DCD, ...", show_default=False)],
    topology: Annotated[Path, typer.Argument(metavar="TOPOLOGY", help="PDB, GRO, ...", show_default=False)],
    out: Out,
    species: Annotated[
        list[str] | None,
        typer.Option(help="RESIDUE=SMILES, once for each kind of molecule.", show_default=False),
    ] = None,
    charges: Annotated[
        Path | None,
        typer.Option(
            help='JSON of charges by residue name, net or one an atom: `{"LI": 1, "WAT": [-0.8, 0.4, 0.4]}`.',
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[float, typer.Option(min=1.0, help="K.")] = 298.15,
    pressure: Annotated[float, typer.Option(help="bar.")] = 1.0,
    frame_ps: Annotated[
        float | None,
        typer.Option(min=1e-6, help="Time between frames; without it the file's.", show_default=False),
    ] = None,
    skip_ps: Annotated[float, typer.Option(min=0.0, help="Left out at the start.")] = 0.0,
    viscosity_cp: Annotated[
        float | None,
        typer.Option(min=1e-6, help="For the finite-size correction of diffusion.", show_default=False),
    ] = None,
    viscosity_error_cp: Annotated[float, typer.Option(min=0.0, help="Its standard error.")] = 0.0,
) -> None:
    """Analyse a trajectory from any program: transport, structure, dielectric constant.

    One residue must be one molecule, the box a cube. Writes results.json and report.html.
    """
    from phyff import analyze as analysis
    from phyff.properties import write_results
    from phyff.report import write_report
    from phyff.simulation import check_folder

    pairs = [entry.partition("=") for entry in species or []]
    for name, equals, smiles in pairs:
        if not (name and equals and smiles):
            raise InputError(f"species: {name + equals + smiles!r} is not RESIDUE=SMILES.")
    check_folder(out)
    result = analysis.analyze(
        trajectory,
        topology,
        out,
        {name: smiles for name, _, smiles in pairs},
        analysis.read_charges(charges) if charges else {},
        analysis.Conditions(temperature, pressure, frame_ps, skip_ps, viscosity_cp, viscosity_error_cp),
    )
    out.mkdir(parents=True, exist_ok=True)
    results, report = write_results(out, result), write_report(out, result)
    _headline(json.loads(results.read_text()))
    typer.echo(f"All numbers: {results}\nReport:      {report}")


@app.command("export-pybamm")
@reports_errors
def export_pybamm(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...",
            help="results.json files or run folders of one salt at two or more concentrations.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The Python file to write.", show_default=False)],
) -> None:
    """Write a PyBaMM parameter file: conductivity, diffusivity, transference against concentration."""
    from phyff.pybamm_export import export
    from phyff.simulation import check_file

    check_file("out", out)
    points = export(results, out)
    for point in points:
        _say(f"{point.name}: {point.concentration:.0f} mol/m3")
        for line in point.unsettled:
            _say(f"  {line}")
    typer.echo(f"Parameters for PyBaMM: {out}")


@app.command()
@reports_errors
def bench(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help="density, viscosity, conductivity.", show_default=False)
    ],
    only: Annotated[
        list[str] | None, typer.Option(help="A system of the suite; can be repeated.", show_default=False)
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the simulations.")] = Path("runs/bench"),
    folder: Annotated[
        Path, typer.Option("--benchmarks", help="Folder of results/, and of suites/ if they are your own.")
    ] = Path("benchmarks"),
    platform: Platform = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Simulations side by side; without it one a core.", show_default=False),
    ] = None,
    preset: Annotated[
        SuitePreset | None,
        typer.Option(
            help="Length and size of the simulations, in a folder of their own; without it the suite's.",
            show_default=False,
        ),
    ] = None,
    neural: Neural = False,
    longer: Longer = 1.0,
    parsl: Parsl = None,
) -> None:
    """Simulate a suite of formulations with measured values, and write how far off the simulations are.

    Writes results/SUITE.json, .md (table, scores) and .png (parity plot), with the neural term
    SUITE-neural.*, in folders of their own. Stopped, it goes on where it was.
    """
    from phyff.bench import run_suite, table
    from phyff.measurements import load_suite, suites_directory

    use_cluster(parsl)
    suites = folder / "suites"
    measurements = load_suite(suite, suites if suites.is_dir() else suites_directory())
    name = f"{suite}-neural" if neural else suite
    rows = run_suite(
        name,
        measurements.model_copy(update={"preset": preset.value}) if preset else measurements,
        only or [],
        runs / (f"{name}-{preset.value}" if preset else name),
        folder / "results",
        platform,
        workers,
        _say,
        neural,
        longer,
    )
    typer.echo(table(rows))


@app.command()
@reports_errors
def info(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A species: EC, PF6-, 'COC(=O)OC'.", show_default=False),
    ] = None,
    partner: Annotated[
        str | None,
        typer.Argument(metavar="[PARTNER]", help="A second species: their dimers.", show_default=False),
    ] = None,
) -> None:
    """List the species of the library, or show one: quality figures and where its numbers come from.

    With two names, show how far the model is from the quantum chemistry of their dimers (kJ/mol, Å). All
    species and pairs, with plots: `python benchmarks/physics.py`.
    """
    from phyff.report.info import show_library, show_pair, show_species

    if name is None:
        show_library()
    elif partner is None:
        show_species(name)
    else:
        show_pair(name, partner)


def _write_again(run_dir: Path, names: Sequence[str]) -> None:
    """Results and report of a run that has new data, and the named properties on the screen."""
    from phyff.properties import study, write_results
    from phyff.report import write_report

    result = study(run_dir)
    path = write_results(run_dir, result)
    write_report(run_dir, result)
    _headline(json.loads(path.read_text()), names)


def _force_field_of(run_dir: Path) -> "phyff.ForceField":
    if not (run_dir / "run.json").is_file():
        raise InputError(f"{run_dir} holds no run.json; give a folder that phyff run has written.")
    return phyff.ForceField.load(run_dir / "forcefield.json")


def _headline(results: dict[str, Any], names: Sequence[str] | None = None) -> None:
    """A table of the named properties, without names of those of HEADLINE and of self-diffusion."""
    from phyff.report.tables import UNITS, label, with_error

    table = Table(
        "property", "value", "unit", "verdict", title=f"{results['name']} at {results['temperature_K']:g} K"
    )
    if names is None:
        diffusion = [
            n for n in results["properties"] if n.startswith("self_diffusion_") and not n.endswith("_box")
        ]
        names = [*HEADLINE, *diffusion]
    for name in names:
        found = results["properties"].get(name)
        if found is not None:
            value = float("nan") if found["value"] is None else found["value"]
            error = float("nan") if found["error"] is None else found["error"]
            unit = UNITS.get(found["unit"], found["unit"])
            table.add_row(label(name), with_error(value, error), unit, found["verdict"])
    Console().print(table)


def _say(line: str) -> None:
    typer.echo(line, err=True)
