"""The `multipole` engine: torch's energies, forces that are derivatives, frames that follow the molecule."""

from collections.abc import Sequence
from dataclasses import replace

import library_species
import numpy as np
import openmm
import pytest
import standin_species
import torch
from library_species import SHORT_RANGE, at_contact, random_pose
from neural_terms import untrained
from openmm import unit
from scipy.fft import next_fast_len
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from phyff.errors import InputError
from phyff.model import multipoles as reference
from phyff.model.cluster import PARTS, Cluster
from phyff.model.intramolecular import intramolecular_energy
from phyff.openmm.cluster import interaction_energy
from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ForceField
from phyff.openmm.multipole import set_ewald, shortest_cutoff
from phyff.species.frames import LocalFrame, local_frames
from phyff.species.parameters import Multipoles, Polarizability, SpeciesParameters


def _for_multipoles(species: SpeciesParameters) -> SpeciesParameters:
    """With the drude polarizabilities under AMOEBA's damping, so that tests do not follow the fitted ones."""
    own = Polarizability(alpha=species.polarizability.alpha, thole=0.45)
    return species.model_copy(update={"multipole_polarizability": own})


FORCE_FIELD = ForceField(
    tuple(_for_multipoles(library_species.load(name)) for name in ("EC", "DMC", "Li+", "PF6-")), SHORT_RANGE
)
CLUSTERS = [("EC", "DMC"), ("Li+", "EC"), ("Li+", "PF6-"), ("DMC", "PF6-"), ("Li+", "EC", "DMC", "PF6-")]
Monomers = list[tuple[str, np.ndarray]]


def _assembled(names: Sequence[str]) -> Monomers:
    """Monomers in contact at random orientations."""
    rng = np.random.default_rng([3, *map(ord, "".join(names))])
    monomers: Monomers = []
    for name in names:
        xyz = random_pose(FORCE_FIELD.named(name).xyz, rng)
        if monomers:
            gap = 0.2 if "Li+" in (name, *(n for n, _ in monomers)) else 0.27
            xyz = at_contact(np.vstack([x for _, x in monomers]), xyz, gap, rng)
        monomers.append((name, xyz))
    return monomers


def _torch_energy(forcefield: ForceField, monomers: Monomers) -> dict[str, float]:
    cluster = Cluster.of(
        [forcefield.tensors[name] for name, _ in monomers], [torch.tensor(xyz) for _, xyz in monomers]
    )
    return {part: value.item() for part, value in reference.interaction_energy(cluster).items()}


def _context(system: openmm.System, xyz: np.ndarray) -> openmm.Context:
    _multipoles(system).setMutualInducedTargetEpsilon(1e-8)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.0005), platform)
    context.setPositions(xyz)
    return context


def _multipoles(system: openmm.System) -> openmm.AmoebaMultipoleForce:
    return next(f for f in system.getForces() if isinstance(f, openmm.AmoebaMultipoleForce))


def _vacuum(monomers: Monomers, polarization: str = "mutual") -> openmm.Context:
    topology = FORCE_FIELD.topology([(name, 1) for name, _ in monomers], engine="multipole")
    system = FORCE_FIELD.create_system(topology, None, "multipole", polarization=polarization)
    return _context(system, np.vstack([xyz for _, xyz in monomers]))


def _energy(context: openmm.Context, *groups: str) -> float:
    numbers = {GROUPS[name] for name in groups or GROUPS}
    return context.getState(energy=True, groups=numbers).getPotentialEnergy()._value


def _assert_forces_are_derivatives(context: openmm.Context) -> None:
    state = context.getState(positions=True, forces=True)
    xyz, forces = state.getPositions(asNumpy=True)._value, state.getForces(asNumpy=True)._value
    direction, step, ends = np.random.default_rng(5).normal(size=xyz.shape), 1e-5, []
    for sign in (1.0, -1.0):
        context.setPositions(xyz + sign * step * direction)
        ends.append(_energy(context))
    assert np.sum(forces * direction) == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("names", CLUSTERS, ids=" ".join)
def test_openmm_gives_every_component_of_the_torch_energy(names: tuple[str, ...]) -> None:
    monomers = _assembled(names)
    expected = _torch_energy(FORCE_FIELD, monomers)
    assert max(abs(expected[part]) for part in PARTS) > 1.0
    assert interaction_energy(FORCE_FIELD, monomers, "multipole") == pytest.approx(
        expected, rel=1e-4, abs=0.02
    )


def test_forces_in_vacuum_are_derivatives_of_the_energy() -> None:
    _assert_forces_are_derivatives(_vacuum(_assembled(CLUSTERS[-1])))


@pytest.mark.parametrize("name", ["EC", "DMC", "PF6-"])
def test_a_molecule_alone_has_the_drude_engines_energy_and_no_induced_dipoles(name: str) -> None:
    rng = np.random.default_rng(1)
    xyz = FORCE_FIELD.named(name).xyz
    bent = xyz + rng.normal(scale=0.004, size=xyz.shape)
    context = _vacuum([(name, bent)])
    assert _energy(context, "multipoles") == pytest.approx(0.0, abs=1e-9)
    assert not np.array(_multipoles(context.getSystem()).getInducedDipoles(context)).any()
    inside = intramolecular_energy(FORCE_FIELD.tensors[name], torch.tensor(bent)).item()
    assert _energy(context, "permanent", "short range") == pytest.approx(inside, abs=1e-3)


def test_energies_do_not_change_when_a_cluster_turns_or_is_reflected() -> None:
    monomers = _assembled(("EC", "EC", "DMC"))
    found = _energy(_vacuum(monomers), "multipoles")
    turn = Rotation.random(rng=np.random.default_rng(2)).as_matrix()
    for change in (turn, np.diag([1.0, 1.0, -1.0])):  # CH2 hydrogens of EC change hands in the mirror
        moved = [(name, xyz @ change.T) for name, xyz in monomers]
        assert _energy(_vacuum(moved), "multipoles") == pytest.approx(found, rel=1e-8)


def test_a_cation_sees_the_same_hexafluorophosphate_from_six_sides() -> None:
    directions = np.vstack([np.eye(3), -np.eye(3)])
    anion = np.zeros((7, 3))
    anion[[e == "F" for e in FORCE_FIELD.named("PF6-").elements]] = 0.16 * directions
    energies = [
        _energy(_vacuum([("PF6-", anion), ("Li+", 0.4 * side[None])]), "multipoles") for side in directions
    ]
    assert energies == pytest.approx([energies[0]] * 6, rel=1e-9)


FRAMES = {
    "O": "bisector",
    "N": "threefold",
    "CN": "ZBisect for the hydrogens of nitrogen",
    "FB(F)F": "trigonal-planar",
    "C#N": "linear",
    "FC(Cl)Br": "chiral",
    "CC(=O)OC": "planar and tetrahedral",
}
PLANAR = {"FB(F)F": np.array([[0.13, 0, 0], [0, 0, 0], [-0.065, 0.11258, 0], [-0.065, -0.11258, 0]])}


@pytest.mark.parametrize("smiles", FRAMES, ids=FRAMES.values())
def test_every_kind_of_frame_turns_multipoles_as_torch_does(smiles: str) -> None:
    rng = np.random.default_rng(8)
    molecule = standin_species.Molecule.from_smiles(smiles)
    n = molecule.n_atoms
    bare = standin_species.species("subject", smiles, (0.0,) * n, (0.0,) * n, (0.0,) * n, np.zeros((n, 3)))
    moments = [_random_moments(frame, rng) for frame in local_frames(molecule)]
    multipoles = Multipoles(
        charges=(0.0,) * n,
        dipoles=tuple(tuple(d.tolist()) for d, _ in moments),
        quadrupoles=tuple(tuple(map(tuple, q.tolist())) for _, q in moments),
    )
    subject = _for_multipoles(bare.model_copy(update={"multipoles": multipoles}))
    forcefield = ForceField((subject, _for_multipoles(standin_species.LITHIUM)), standin_species.SHORT_RANGE)
    xyz = PLANAR.get(smiles, rng.normal(scale=0.1, size=(n, 3)))
    monomers = [("subject", xyz), ("Li+", np.array([[0.25, 0.4, 0.35]]))]
    expected = _torch_energy(forcefield, monomers)["electrostatics"]
    found = interaction_energy(forcefield, monomers, "multipole")["electrostatics"]
    assert abs(expected) > 1.0
    assert found == pytest.approx(expected, rel=1e-7)


def _random_moments(frame: LocalFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Dipole and quadrupole as large as they get, of the symmetry that the frame stands for."""
    dipole, quadrupole = rng.normal(scale=0.02, size=3), rng.normal(scale=0.002, size=(3, 3))
    quadrupole = quadrupole + quadrupole.T - 2 / 3 * np.trace(quadrupole) * np.eye(3)
    if frame.isotropic:
        return 0 * dipole, 0 * quadrupole
    if frame.axial:
        flat = frame.kind == "trigonal-planar"
        return dipole * [0, 0, not flat], quadrupole[2, 2] * np.diag([-0.5, -0.5, 1.0])
    if frame.kind == "bisector":
        return dipole * [0, 0, 1], np.diag(np.diag(quadrupole))
    if not frame.y:
        return dipole * [1, 0, 1], quadrupole * [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    return dipole, quadrupole


@pytest.fixture(scope="module")
def box() -> tuple[openmm.app.Topology, np.ndarray]:
    """Seven EC and a lithium ion in a triclinic box, atoms only."""
    rng, spacing = np.random.default_rng(3), 0.7
    places = spacing * (0.5 + np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1).reshape(-1, 3))
    xyz = [random_pose(FORCE_FIELD.named("EC").xyz, rng) + place for place in places[:7]]
    topology = FORCE_FIELD.topology([("EC", 7), ("Li+", 1)], engine="multipole")
    vectors = 1.45 * np.array([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [-0.2, 0.3, 1.0]])
    topology.setPeriodicBoxVectors(vectors * unit.nanometer)
    return topology, np.vstack([*xyz, places[7:]])


def test_forces_in_a_triclinic_box_are_derivatives_of_the_energy(box) -> None:
    topology, xyz = box
    _assert_forces_are_derivatives(_context(FORCE_FIELD.create_system(topology, 0.7, "multipole"), xyz))


def test_the_energy_of_a_triclinic_box_does_not_depend_on_how_ewald_splits_it(box) -> None:
    topology, xyz = box
    energies = []
    for cutoff in (0.66, 0.72):
        system = FORCE_FIELD.create_system(topology, cutoff, "multipole")
        set_ewald(_multipoles(system), system.getDefaultPeriodicBoxVectors(), 1e-6)
        energies.append(_energy(_context(system, xyz), "multipoles"))
    assert energies[0] == pytest.approx(energies[1], abs=5e-3)


def test_the_xml_of_a_system_is_stock_openmm_and_runs_at_constant_pressure(box) -> None:
    topology, xyz = box
    system = FORCE_FIELD.create_system(topology, 0.7, "multipole")
    read = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    assert {type(force).__module__ for force in read.getForces()} == {"openmm.openmm"}
    assert _energy(_context(read, xyz)) == pytest.approx(_energy(_context(system, xyz)), rel=1e-12)
    read.addForce(openmm.MonteCarloBarostat(1.0, 300.0, 1))
    context = _context(read, xyz)
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, 10)
    context.getIntegrator().step(3)
    assert np.isfinite(_energy(context))


def test_polarization_can_be_mutual_extrapolated_or_direct() -> None:
    monomers = _assembled(("Li+", "EC", "DMC"))
    cluster = Cluster.of(
        [FORCE_FIELD.tensors[name] for name, _ in monomers], [torch.tensor(xyz) for _, xyz in monomers]
    )
    moments = reference.laboratory_moments(cluster)
    induced = reference.induced_energy(cluster, moments).item()
    exact = reference.permanent_energy(cluster, moments).item() + induced
    found = {
        kind: _energy(_vacuum(monomers, kind), "multipoles", "charge flow")
        for kind in ("mutual", "extrapolated", "direct")
    }
    assert found["mutual"] == pytest.approx(exact, abs=1e-4)
    assert 1e-3 < abs(found["extrapolated"] - exact) < 0.05 * abs(induced)
    assert abs(found["direct"] - exact) > 1.0


@pytest.mark.parametrize("neural", (None, untrained()), ids=("physics", "neural"))
def test_multiple_time_steps_follow_small_single_ones(neural) -> None:
    monomers, forcefield = _assembled(("EC", "DMC")), replace(FORCE_FIELD, neural=neural)
    topology = FORCE_FIELD.topology([(name, 1) for name, _ in monomers], engine="multipole")
    system = forcefield.create_system(topology, None, "multipole", polarization="direct")
    start, ends = np.vstack([xyz for _, xyz in monomers]), []
    for integrator in (
        FORCE_FIELD.multiple_time_steps(300.0, 1.0, friction=0.0),
        openmm.VerletIntegrator(1e-4),
    ):
        context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(start)
        integrator.step(round(0.02 / integrator.getStepSize()._value))
        ends.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    moved = np.abs(ends[1] - start).max()
    assert moved > 1e-3 and np.abs(ends[0] - ends[1]).max() < 0.02 * moved


def test_what_the_engine_cannot_do_is_refused() -> None:
    bare = FORCE_FIELD.topology([("EC", 1)], engine="multipole")
    with pytest.raises(InputError, match="polarization: 'iterated' is unknown; choose one of mutual"):
        FORCE_FIELD.create_system(bare, None, "multipole", polarization="iterated")
    with pytest.raises(InputError, match="for the multipole engine"):
        FORCE_FIELD.create_system(FORCE_FIELD.topology([("EC", 1)]), None, "multipole")
    with pytest.raises(InputError, match="for the drude engine"):
        FORCE_FIELD.create_system(bare, None)


def test_a_molecule_longer_than_the_cutoff_is_refused_and_would_act_on_itself() -> None:
    dmc = FORCE_FIELD.named("DMC")
    xyz, energies = np.array(dmc.conformers[0].xyz_nm), []
    needed = shortest_cutoff([dmc])
    assert needed == pytest.approx(1.05 * pdist(xyz).max(), rel=0.02)
    topology = FORCE_FIELD.topology([("DMC", 1)], 2.0, "multipole")
    with pytest.raises(InputError, match="DMC is too long for a cut-off of 0.6 nm .* at least 0.6[56] nm"):
        FORCE_FIELD.create_system(topology, 0.6, "multipole")
    for cutoff in (0.9, 0.7, 0.5):
        system = FORCE_FIELD.create_system(topology, 0.9, "multipole", polarization="direct")
        force = _multipoles(system)
        force.setCutoffDistance(cutoff)
        set_ewald(force, system.getDefaultPeriodicBoxVectors(), 1e-5)
        energies.append(_energy(_context(system, xyz), "multipoles"))
    assert energies[1] == pytest.approx(energies[0], abs=0.01)
    assert abs(energies[2] - energies[0]) > 0.5


def test_meshes_have_sizes_that_every_platform_has(box) -> None:
    topology, _ = box
    for cutoff in (0.66, 0.69, 0.72):
        force = _multipoles(FORCE_FIELD.create_system(topology, cutoff, "multipole"))
        for points in force.getPmeGridDimensions():
            assert points > 0 and points == next_fast_len(points, real=True)
