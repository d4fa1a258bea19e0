"""The valence fit keeps symmetry and meets the bars on xTB references and thermal samples."""

from dataclasses import replace
from functools import lru_cache
from itertools import combinations, islice

import numpy as np
import openmm
import pytest
import torch
from numpy.typing import NDArray
from rdkit.Chem import AllChem
from scipy.optimize import minimize

from phyff.errors import FitError
from phyff.fit import valence
from phyff.fit.valence import Sample, ValenceFit, fit_valence, minimise, valence_hessian
from phyff.model.valence import (
    AngleTerm,
    BondTerm,
    TorsionPairTerm,
    TorsionTerm,
    ValenceTerms,
    bend_angles,
    dihedrals,
    valence_energy,
)
from phyff.openmm.valence import add_valence_forces
from phyff.species.molecule import Molecule
from phyff.species.sampling import (
    normal_modes,
    skeleton_dihedrals,
    thermal_displacements,
    torsion_scan_geometries,
    twisted_geometries,
)
from phyff.units import BOHR_NM, GAS_CONSTANT, HARTREE_KJ

Array = NDArray[np.float64]
DIRECTIONS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float)


class XTB:
    """GFN2-xTB energies and forces of one species."""

    def __init__(self, molecule: Molecule, xyz: Array) -> None:
        interface = pytest.importorskip("tblite.interface")
        self.calculator = interface.Calculator(
            "GFN2-xTB", molecule.atomic_numbers, xyz / BOHR_NM, charge=molecule.charge
        )
        self.calculator.set("verbosity", 0)
        self.calculator.set("accuracy", 0.01)

    def sample(self, kind: str, xyz: Array) -> Sample:
        self.calculator.update(xyz / BOHR_NM)
        result = self.calculator.singlepoint()
        forces = -result["gradient"] * HARTREE_KJ / BOHR_NM
        return Sample(kind, xyz, result["energy"] * HARTREE_KJ, forces)  # type: ignore[arg-type]

    def minimum(self, xyz: Array) -> Sample:
        def objective(flat: Array) -> tuple[float, Array]:
            s = self.sample("minimum", flat.reshape(-1, 3) / 10)
            return s.energy / 100, -s.forces.ravel() / 1000

        found = minimize(objective, xyz.ravel() * 10, jac=True, method="BFGS", options={"gtol": 1e-3}).x
        return self.sample("minimum", found.reshape(-1, 3) / 10)

    def hessian(self, xyz: Array, step: float = 5e-4) -> Array:
        columns = []
        for shift in np.eye(xyz.size).reshape(-1, *xyz.shape) * step:
            back, forth = self.sample("displaced", xyz - shift), self.sample("displaced", xyz + shift)
            columns.append((back.forces - forth.forces).ravel() / (2 * step))
        matrix = np.array(columns)
        return (matrix + matrix.T) / 2


@lru_cache
def _hexafluorophosphate() -> tuple[Molecule, ValenceFit, Sample]:
    molecule = Molecule.from_smiles("F[P-](F)(F)(F)(F)F")
    xyz = np.zeros((7, 3))
    xyz[[i for i, e in enumerate(molecule.elements) if e == "F"]] = 0.162 * DIRECTIONS
    reference = XTB(molecule, xyz)
    minimum = reference.minimum(xyz)
    hessian = reference.hessian(minimum.xyz)
    drawn = thermal_displacements(minimum.xyz, hessian, molecule.masses, 300.0, 40, seed=1)
    samples = [reference.sample("displaced", x) for x in drawn]
    return molecule, fit_valence(molecule, [minimum], samples, hessian), minimum


def test_hexafluorophosphate_meets_the_bars_and_keeps_octahedral_symmetry() -> None:
    _, fit, _ = _hexafluorophosphate()
    assert fit.quality["force_rms_heldout_kcal_mol_A"] < 3.0
    assert fit.quality["max_bond_error_A"] < 0.01
    assert fit.quality["max_angle_error_deg"] < 1.5
    assert len(fit.terms.angles) == 12 and len(fit.terms.urey_bradleys) == 15
    assert len({(b.k, b.r0) for b in fit.terms.bonds}) == 1
    assert len({(a.k, a.theta0) for a in fit.terms.angles}) == 1
    assert len({(u.k, u.r0) for u in fit.terms.urey_bradleys}) == 2


def test_hexafluorophosphate_does_not_exchange_ligands_at_400_kelvin() -> None:
    molecule, fit, minimum = _hexafluorophosphate()
    system = openmm.System()
    for mass in molecule.masses:
        system.addParticle(float(mass))
    add_valence_forces(system, [(fit.terms, range(7))])
    integrator = openmm.LangevinMiddleIntegrator(400.0, 1.0, 0.001)
    integrator.setRandomNumberSeed(2)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(minimum.xyz)
    centre = molecule.elements.index("P")
    others = [i for i in range(7) if i != centre]

    def unit_vectors(xyz: Array) -> Array:
        arms = xyz[others] - xyz[centre]
        return arms / np.linalg.norm(arms, axis=1)[:, None]

    start = unit_vectors(minimum.xyz)
    for _ in range(100):
        integrator.step(200)
        now = unit_vectors(context.getState(positions=True).getPositions(asNumpy=True)._value)
        assert np.abs(now @ now.T - start @ start.T).max() < 0.6


def test_ethylene_carbonate_meets_the_bars_with_its_pucker() -> None:
    molecule = Molecule.from_smiles("O=C1OCCO1")
    from rdkit.Chem import AllChem

    graph = molecule.rdkit()
    AllChem.EmbedMolecule(graph, randomSeed=1)
    xyz = graph.GetConformer().GetPositions() / 10
    reference = XTB(molecule, xyz)
    minimum = reference.minimum(xyz)
    hessian = reference.hessian(minimum.xyz)
    drawn = thermal_displacements(minimum.xyz, hessian, molecule.masses, 300.0, 50, seed=1)
    fit = fit_valence(molecule, [minimum], [reference.sample("displaced", x) for x in drawn], hessian)
    assert fit.quality["force_rms_heldout_kcal_mol_A"] < 4.0
    assert fit.quality["max_bond_error_A"] < 0.01
    assert fit.quality["max_angle_error_deg"] < 1.5
    assert fit.quality["frequency_rms_error_cm1"] < 60.0
    hydrogens = {molecule.elements[a] for b in fit.terms.bonds for a in b.atoms}
    assert hydrogens == {"C", "O", "H"}
    assert len(fit.terms.impropers) == 1


def test_the_nonbonded_part_is_taken_off_and_a_hessian_alone_is_enough() -> None:
    """A species whose reference already is the non-bonded part plus harmonic bonds."""
    molecule = Molecule.from_smiles("F")
    xyz = np.array([[0.0, 0, 0], [0.093, 0, 0]])

    def spring(x: Array, k: float) -> tuple[float, Array]:
        arm = x[1] - x[0]
        r = np.linalg.norm(arm)
        pull = k * (r - 0.093) * arm / r
        return 0.5 * k * float(r - 0.093) ** 2, np.array([pull, -pull])

    hessian = np.zeros((6, 6))
    hessian[np.ix_([0, 3], [0, 3])] = 6e5 * np.array([[1, -1], [-1, 1]])
    minimum = Sample("minimum", xyz, 0.0, np.zeros((2, 3)))
    fit = fit_valence(molecule, [minimum], [], hessian, nonbonded=lambda x: spring(x, 1e5))
    assert fit.terms.bonds[0].k == pytest.approx(5e5, rel=0.05)
    assert fit.quality["frequency_max_error_cm1"] < 100.0


def test_thermal_displacements_carry_the_classical_energy_and_no_rigid_motion() -> None:
    molecule, fit, minimum = _hexafluorophosphate()
    hessian = valence_hessian(fit.terms, minimum.xyz)
    assert len(normal_modes(minimum.xyz, hessian, molecule.masses)[0]) == 15
    drawn = thermal_displacements(minimum.xyz, hessian, molecule.masses, 300.0, 2000, seed=3)
    shift = (drawn - minimum.xyz).reshape(2000, -1)
    mean = np.einsum("si,ij,sj->s", shift, hessian, shift).mean() / 2
    assert mean == pytest.approx(15 / 2 * GAS_CONSTANT * 300.0, rel=0.05)
    np.testing.assert_allclose(np.average(drawn - minimum.xyz, axis=1, weights=molecule.masses), 0, atol=1e-9)


def _embedded(smiles: str) -> tuple[Molecule, Array]:
    """A molecule with RDKit's first guess of its geometry, nm."""
    molecule = Molecule.from_smiles(smiles)
    graph = molecule.rdkit()
    AllChem.EmbedMolecule(graph, randomSeed=1)
    return molecule, graph.GetConformer().GetPositions() / 10


def test_scans_turn_each_distinct_rotatable_bond_and_nothing_else() -> None:
    molecule, xyz = _embedded("COC(=O)OC")
    scans = torsion_scan_geometries(molecule, xyz, 6)
    assert len(scans) == 2
    pairs = np.array(molecule.bonds)
    for scan in scans:
        lengths = np.linalg.norm(scan.xyz[:, pairs[:, 0]] - scan.xyz[:, pairs[:, 1]], axis=-1)
        np.testing.assert_allclose(lengths, lengths[:1].repeat(6, 0), atol=1e-9)
        np.testing.assert_allclose(scan.xyz[0], xyz, atol=1e-9)


def test_twisting_turns_the_skeleton_at_random_and_nothing_else() -> None:
    molecule, xyz = _embedded("COCCOC")
    turning = skeleton_dihedrals(molecule, xyz)
    assert [sorted(t[1:3]) for t in turning] == [[1, 2], [2, 3], [3, 4]]
    drawn = twisted_geometries(molecule, xyz, turning, np.random.default_rng(3))
    twisted = torch.tensor(np.array(list(islice(drawn, 40))))
    triples = [(i, j, k) for j in range(6) for i, k in combinations(molecule.neighbours(j), 2)]
    angles = bend_angles(twisted, triples)
    torch.testing.assert_close(angles, angles[:1].expand_as(angles), atol=1e-6, rtol=0)
    turned = dihedrals(twisted, turning).numpy()
    assert (np.abs(np.mean(np.exp(1j * turned), axis=0)) < 0.4).all()  # all around
    assert not np.allclose(turned[:, 0], turned[:, 1])


@pytest.mark.parametrize("smiles", ["O=C1OCCO1", "CC#N", "COC(C)=O"])
def test_rings_straight_chains_and_methyls_are_not_twisted(smiles: str) -> None:
    assert len(skeleton_dihedrals(*_embedded(smiles))) < 2


def test_the_coupling_of_neighbouring_torsions_is_recovered() -> None:
    molecule = Molecule.from_smiles("FOOOF")
    chain = (0, 1, 2, 3, 4)
    truth = ValenceTerms(
        n_atoms=5,
        bonds=tuple(BondTerm(atoms=b, k=3e5, r0=0.14) for b in molecule.bonds),
        angles=tuple(AngleTerm(atoms=(i, i + 1, i + 2), k=500.0, theta0=1.85) for i in range(3)),
        torsions=tuple(TorsionTerm(atoms=chain[i : i + 4], k=(4.0, 9.0, -2.0)) for i in (0, 1)),
        torsion_pairs=(
            TorsionPairTerm(atoms=chain, c=6.0, s=-9.0),
            TorsionPairTerm(atoms=chain, multiples=(1, 2), c=0.0, s=4.0),
            TorsionPairTerm(atoms=chain[::-1], multiples=(1, 2), c=0.0, s=4.0),
        ),
    )

    def sample(kind: str, xyz: Array) -> Sample:
        x = torch.tensor(xyz, requires_grad=True)
        energy = valence_energy(truth, x)
        (gradient,) = torch.autograd.grad(energy, x)
        return Sample(kind, xyz, energy.item(), -gradient.numpy())  # type: ignore[arg-type]

    minimum = sample("minimum", minimise(truth, _embedded("FOOOF")[1]))
    turning = skeleton_dihedrals(molecule, minimum.xyz)
    drawn = twisted_geometries(molecule, minimum.xyz, turning, np.random.default_rng(1))
    fit = fit_valence(molecule, [minimum], [sample("twisted", xyz) for xyz in islice(drawn, 24)])
    found = {(t.atoms, t.multiples): t.s for t in fit.terms.torsion_pairs}
    assert found[chain, (1, 1)] == pytest.approx(-9.0, abs=1.5)
    assert found[chain, (1, 2)] == found[chain[::-1], (1, 2)] == pytest.approx(4.0, abs=1.0)
    assert set(found) == {(chain, (1, 1)), (chain, (1, 2)), (chain[::-1], (1, 2)), (chain, (2, 2))}
    assert fit.quality["energy_rms_twisted_heldout_kJ_mol"] < 0.5


def test_conformers_have_the_energies_of_the_data_after_minimising(monkeypatch: pytest.MonkeyPatch) -> None:
    molecule, xyz = _embedded("FCCF")
    xtb = XTB(molecule, xyz)
    (scan,) = torsion_scan_geometries(molecule, xyz, 12)
    found = [xtb.minimum(scan.xyz[k]) for k in np.abs(scan.angles[:, None] - [np.pi, 1.2]).argmin(axis=0)]
    lowest, other = sorted(found, key=lambda s: s.energy)
    other = replace(other, energy=other.energy + 2.0)  # the scan asks for less
    apart = other.energy - lowest.energy
    (scan,) = torsion_scan_geometries(molecule, lowest.xyz, 12)
    samples = [xtb.sample("torsion", turned) for turned in scan.xyz]
    hessian = xtb.hessian(lowest.xyz)

    def missed() -> float:
        fit = fit_valence(molecule, [lowest, other], samples, hessian)
        relaxed = [torch.tensor(minimise(fit.terms, s.xyz)) for s in (lowest, other)]
        first, second = (valence_energy(fit.terms, xyz).item() for xyz in relaxed)
        error = abs(second - first - apart)
        assert fit.quality["conformer_energy_error_kJ_mol"] == pytest.approx(error)
        return error

    shifted = missed()
    monkeypatch.setattr(valence, "CONFORMER_PASSES", 0)
    as_asked = missed()
    assert shifted < 0.3 * as_asked


def test_a_monoatomic_ion_has_no_terms() -> None:
    minimum = Sample("minimum", np.zeros((1, 3)), 0.0, np.zeros((1, 3)))
    assert fit_valence(Molecule.from_smiles("[Li+]"), [minimum], []).terms == ValenceTerms(n_atoms=1)


def test_a_sample_that_is_not_finite_is_refused() -> None:
    molecule = Molecule.from_smiles("F")
    minimum = Sample("minimum", np.zeros((2, 3)), np.nan, np.zeros((2, 3)))
    with pytest.raises(FitError, match="not finite"):
        fit_valence(molecule, [minimum], [])
    with pytest.raises(FitError, match="minima is empty"):
        fit_valence(molecule, [], [])
