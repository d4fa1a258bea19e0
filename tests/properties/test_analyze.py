"""A trajectory from elsewhere, wrapped and shuffled, gives the numbers that a run directory gives."""

import json

import MDAnalysis
import numpy as np
import pytest
from synthetic_run import EC, LI, PF6, BrownianSpecies, SyntheticRun, ar1, molecule
from typer.testing import CliRunner

from phyff.analyze import Conditions, analyze, read_charges
from phyff.cli import app
from phyff.errors import InputError
from phyff.properties import study
from phyff.properties.finite_size import yeh_hummer
from phyff.properties.result import Property
from phyff.properties.trajectory import read_replicas, read_run

pytestmark = pytest.mark.filterwarnings("ignore:Found")

SMILES = {"LI": "[Li+]", "PF6": "F[P-](F)(F)(F)(F)F", "SOL": "EC"}
SPECIES = (
    BrownianSpecies("LI", LI, 1, 12, 0.0003),
    BrownianSpecies("PF6", PF6, -1, 12, 0.0005),
    BrownianSpecies("SOL", EC, 0, 20, 0.0008),
)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):  # type: ignore[no-untyped-def]
    """A run directory and its frames as PDB + XTC: molecules shuffled, every atom wrapped into the box."""
    folder = tmp_path_factory.mktemp("foreign")
    run_dir = SyntheticRun(species=SPECIES, n_frames=400, frame_ps=2.0, box_nm=2.5).write(folder / "run")
    run = read_run(run_dir)
    (production,) = read_replicas(run)
    rng = np.random.default_rng(1)
    blocks = [
        (s.name, s.elements, s.first_atom + s.n_atoms * m + np.arange(s.n_atoms))
        for s in run.species
        for m in range(s.count)
    ]
    blocks = [blocks[i] for i in rng.permutation(len(blocks))]
    order = np.concatenate([atoms for _, _, atoms in blocks])
    lengths = [len(atoms) for _, _, atoms in blocks]
    universe = MDAnalysis.Universe.empty(
        len(order), len(blocks), atom_resindex=np.repeat(np.arange(len(blocks)), lengths), trajectory=True
    )
    elements = [element for _, members, _ in blocks for element in members]
    universe.add_TopologyAttr("elements", elements)
    universe.add_TopologyAttr("names", elements)
    universe.add_TopologyAttr("resnames", [name for name, _, _ in blocks])
    universe.add_TopologyAttr("resids", np.arange(1, len(blocks) + 1))
    with MDAnalysis.Writer(str(folder / "md.xtc"), n_atoms=len(order)) as writer:
        for index, xyz in enumerate(production.snapshots):
            universe.atoms.positions = 10.0 * np.mod(xyz[order], 2.5)
            universe.dimensions = [25.0, 25.0, 25.0, 90.0, 90.0, 90.0]
            universe.trajectory.ts.time = 2.0 * index
            writer.write(universe.atoms)
    universe.atoms.write(str(folder / "top.pdb"))
    return folder


def test_a_wrapped_trajectory_gives_the_transport_of_the_run_it_came_from(foreign) -> None:  # type: ignore[no-untyped-def]
    ours = study(foreign / "run").properties
    theirs = analyze(
        foreign / "md.xtc", foreign / "top.pdb", foreign / "out", SMILES, {}, Conditions()
    ).properties
    for name in ("conductivity", "conductivity_nernst_einstein", "self_diffusion_SOL_box", "transference_LI"):
        assert theirs[name].value == pytest.approx(ours[name].value, rel=0.01)
        assert theirs[name].error == pytest.approx(ours[name].error, rel=0.05)
    assert not (foreign / "out").exists()
    assert "held fixed" in theirs["density"].verdict
    mass = 12 * (6.94 + 144.96) + 20 * 88.06
    assert theirs["density"].value == pytest.approx(mass * 1.66053907e-3 / 2.5**3, rel=1e-3)


def test_charges_an_atom_give_a_dielectric_constant(foreign) -> None:  # type: ignore[no-untyped-def]
    per_atom = [0.0] * 10
    per_atom[0], per_atom[1] = -0.6, 0.6
    charges = {"LI": 0.8, "PF6": [-0.8, *[0.0] * 6], "SOL": per_atom}
    found = analyze(
        foreign / "md.xtc", foreign / "top.pdb", foreign / "out", {}, charges, Conditions(skip_ps=10.0)
    )
    assert found.properties["dielectric_constant"].value > 1.0
    assert {s.name: s.charge for s in found.run.species} == {"LI": 1, "PF6": -1, "SOL": 0}
    carbonyls = next(s for s in found.run.species if s.name == "SOL").carbonyl
    assert carbonyls.tolist() == [True] + [False] * 9
    assert len(molecule(EC)) == len(carbonyls)


def test_a_fluctuating_box_gives_density_and_compressibility_and_is_warned_of(foreign, tmp_path) -> None:  # type: ignore[no-untyped-def]
    universe = MDAnalysis.Universe(str(foreign / "top.pdb"), str(foreign / "md.xtc"))
    edges = 25.0 + 0.1 * ar1(np.random.default_rng(2), 400, 3.0)
    with MDAnalysis.Writer(str(tmp_path / "npt.xtc"), n_atoms=len(universe.atoms)) as writer:
        for frame, edge in zip(universe.trajectory, edges, strict=True):
            universe.atoms.positions *= edge / 25.0
            frame.dimensions = [edge, edge, edge, 90.0, 90.0, 90.0]
            writer.write(universe.atoms)
    found = analyze(tmp_path / "npt.xtc", foreign / "top.pdb", tmp_path, SMILES, {}, Conditions())
    known = 12 * (6.94 + 144.96) + 20 * 88.06
    assert found.properties["density"].value == pytest.approx(known * 1.66053907e-3 / 2.5**3, rel=0.01)
    assert found.properties["compressibility"].value > 0.0
    assert any("box fluctuates" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("smiles", "charges", "message"),
    [
        ({**SMILES, "SOL": "COC(=O)OC"}, {}, "SOL is C3H4O3 in the topology but its SMILES"),
        ({"LI": "[Li+]", "PF6": SMILES["PF6"]}, {}, "species: SOL .C3H4O3. is not known"),
        ({**SMILES, "XYZ": "O"}, {}, "XYZ is no residue of the topology"),
        (SMILES, {"SOL": [0.1]}, "SOL has 10 atoms but 1 charges"),
        ({**SMILES}, {"LI": 2}, "net charge of \\+12 e"),
    ],
)
def test_what_does_not_fit_the_topology_is_named(foreign, smiles, charges, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        analyze(foreign / "md.xtc", foreign / "top.pdb", foreign / "out", smiles, charges, Conditions())


def test_a_charges_file_must_map_names_to_numbers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for wrong in (b'{"LI": "one"}', b'{"LI": true}', b'{"WAT": ["a", "b", "c"]}', b"[1]", b"\xff\xfe"):
        (tmp_path / "q.json").write_bytes(wrong)
        with pytest.raises(InputError, match="charges:"):
            read_charges(tmp_path / "q.json")
    (tmp_path / "q.json").write_text('{"LI": 1, "WAT": [-0.8, 0.4, 0.4]}')
    assert read_charges(tmp_path / "q.json")["LI"] == 1


def test_a_trajectory_without_times_or_without_a_box_is_asked_for_them(foreign, tmp_path) -> None:  # type: ignore[no-untyped-def]
    universe = MDAnalysis.Universe(str(foreign / "top.pdb"), str(foreign / "md.xtc"))
    timeless, boxless = tmp_path / "md.lammpsdump", tmp_path / "md.xyz"
    with timeless.open("w") as dump, MDAnalysis.Writer(str(boxless), n_atoms=len(universe.atoms)) as writer:
        for step, _ in enumerate(universe.trajectory[:3]):
            writer.write(universe.atoms)
            dump.write(f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(universe.atoms)}\n")
            dump.write("ITEM: BOX BOUNDS pp pp pp\n" + 3 * "0 25\n" + "ITEM: ATOMS id x y z\n")
            for number, (x, y, z) in enumerate(universe.atoms.positions, start=1):
                dump.write(f"{number} {x} {y} {z}\n")
    for path, message in ((timeless, "give --frame-ps"), (boxless, "no periodic box")):
        with pytest.raises(InputError, match=message):
            analyze(path, foreign / "top.pdb", tmp_path / "out", SMILES, {}, Conditions())
    single, given = foreign / "top.pdb", Conditions(frame_ps=2.0)
    with pytest.raises(InputError, match="a single frame"):
        analyze(single, single, tmp_path / "out", SMILES, {}, given)
    found = analyze(timeless, foreign / "top.pdb", tmp_path / "out", SMILES, {}, given)
    assert found.run.settings["provenance"]["frame_ps"] == 2.0


def test_the_command_writes_results_and_a_report(foreign, tmp_path) -> None:  # type: ignore[no-untyped-def]
    options = [f"--species={name}={smiles}" for name, smiles in SMILES.items()]
    files = [str(foreign / "md.xtc"), str(foreign / "top.pdb"), "--out", str(tmp_path / "out")]
    called = CliRunner().invoke(app, ["analyze", *files, *options, "--temperature", "310"])
    assert called.exit_code == 0, called.output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["temperature_K"] == 310.0
    assert "Conductivity (Green-Kubo)" in (tmp_path / "out" / "report.html").read_text()
    bad = CliRunner().invoke(app, ["analyze", *files, "--species", "LI"])
    assert bad.exit_code == 2
    assert "RESIDUE=SMILES" in bad.output


def test_the_error_of_a_given_viscosity_counts_in_the_corrected_diffusion(foreign) -> None:  # type: ignore[no-untyped-def]
    def corrected(error: float) -> Property:
        given = Conditions(viscosity_cp=0.5, viscosity_error_cp=error)
        paths = foreign / "md.xtc", foreign / "top.pdb", foreign / "out"
        return analyze(*paths, SMILES, {}, given).properties["self_diffusion_SOL"]

    sure, unsure = corrected(0.0), corrected(0.1)
    assert unsure.value == sure.value
    share = 0.2 * yeh_hummer(298.15, 0.5, 2.5)
    assert unsure.error == pytest.approx(np.hypot(sure.error, share))
