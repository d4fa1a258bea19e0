"""Valence terms of a species from quantum gradients, energies and a Hessian, after the non-bonded part is
taken off.

The molecular graph says which terms exist (phyff/fit/valence_terms.py). Forces are linear in the derivatives
of each term by its internal coordinate, so B matrices are made once and every Gauss-Newton step is a bounded
linear least squares with a ridge towards sensible priors. Quantum minima enter as geometries whose forces
must vanish; by linear response the forces left there tell how bonds and angles would change on minimising,
and that change is held down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import lsq_linear, minimize
from scipy.special import softmax

from phyff.errors import FitError
from phyff.fit.valence_terms import Array, TermBlock, assembled, bent_triples, term_blocks
from phyff.model import valence as model
from phyff.model.valence import (
    ValenceTerms,
    valence_energy,
)
from phyff.species.molecule import Molecule
from phyff.species.sampling import normal_modes
from phyff.units import GAS_CONSTANT, INVERSE_PS_CM, KCAL_KJ

NonBonded = Callable[[Array], tuple[float, Array]]
"""xyz (N, 3) nm -> intramolecular non-bonded energy (kJ/mol) and forces (N, 3) (kJ/mol/nm)."""

FORCE_SIGMA = 300.0
"""kJ/mol/nm, the error expected of a force component of this functional form."""
ENERGY_SIGMA, TURNED_ENERGY_SIGMA, MINIMUM_ENERGY_SIGMA = 2.0, 0.25, 0.2
"""kJ/mol: of displaced geometries, of those with turned torsions, which decide populations, and of minima."""
MINIMUM_FORCE_SIGMA = 30.0
"""kJ/mol/nm at a quantum minimum."""
GEOMETRY_WEIGHTS = (0.0, 0.5, 1.5, 3.0, 4.0)
"""Weights of the predicted changes of geometry, tried in turn until the minimised geometry is right."""
GEOMETRY_GAIN = 0.65
"""A weight that does not get it right must at least bring it nearer by this factor, to be worth what it takes
from forces and energies: none does where the form of the terms cannot serve all conformers (TFSI-)."""
BOND_TOLERANCE_NM, ANGLE_TOLERANCE_RAD, DIHEDRAL_TOLERANCE_RAD = 3e-4, np.deg2rad(0.5), np.deg2rad(2.0)
COMPLIANCE_FLOOR_PS2 = (2 * np.pi * 0.0299792458 * 30.0) ** 2
"""Squared angular frequency of 30 cm^-1: softer modes are taken this stiff when a change of geometry is
predicted."""
HESSIAN_SIGMA = 0.1
"""Relative error of a normal-mode force constant."""
HESSIAN_FLOOR_PS2 = (2 * np.pi * 0.0299792458 * 200.0) ** 2
"""Squared angular frequency of 200 cm^-1 in 1/ps^2: softer modes count no more than this one."""
STRAIN_SCALE = 25.0
"""kJ/mol: the tolerated error of a rigidly turned geometry grows e-fold with every such step above the lowest
minimum."""
BOND_TARGET_ANGSTROM, ANGLE_TARGET_DEGREES = 0.008, 1.2
"""The geometry counts as right within these, where conformers high up are let off by CONFORMER_SCALE."""
BOND_BAR_ANGSTROM, ANGLE_BAR_DEGREES = 0.0099, 1.49
"""No conformer up to CONFORMER_BAR may miss by more; the project's bars are 0.01 and 1.5."""
CONFORMER_BAR = 10.0
"""kJ/mol above the lowest: conformers further up, one molecule in fifty at most, are not worth what their
geometry takes from forces and torsions elsewhere."""
CONFORMER_SCALE = 10.0
"""kJ/mol: a conformer counts less by a factor e for every such step above the lowest."""
CONFORMER_PASSES, CONFORMER_TARGET = 5, 0.05
"""How often what is asked of the minima's energies is shifted, at most, and the error of a conformer's
energy, kJ/mol times how much it counts, that is small enough."""
SHARE_TEMPERATURE = 298.15
"""K, of the Boltzmann shares of conformers."""
TURNED_WINDOW = 60.0
"""kJ/mol above the lowest minimum: figures of quality leave turned geometries beyond it out."""
HESSIAN_STEP_NM = 2e-4


@dataclass(frozen=True)
class Sample:
    """One quantum calculation of the isolated species; energies of all samples share one zero."""

    kind: Literal["minimum", "displaced", "torsion", "twisted"]
    """Torsion: a point of a scan; twisted: all torsions of the skeleton turned at random."""
    xyz: Array
    """(N, 3) nm."""
    energy: float
    """kJ/mol."""
    forces: Array
    """(N, 3) kJ/mol/nm."""


@dataclass(frozen=True)
class ValenceFit:
    """Fitted terms with the figures that judge them."""

    terms: ValenceTerms
    quality: dict[str, float]
    """See `valence_quality`."""


def fit_valence(
    molecule: Molecule,
    minima: Sequence[Sample],
    samples: Sequence[Sample],
    hessian: Array | None = None,
    nonbonded: NonBonded | None = None,
) -> ValenceFit:
    """Fit every valence term of a species.

    minima: optimised conformers, the first defines coordination (which ligands are trans). samples: thermal
    displacements, torsion-scan points and twisted geometries; see `split` for what is held out. hessian
    (3N, 3N) kJ/mol/nm^2 at minima[0]. nonbonded: intramolecular non-bonded energy and forces to be taken off
    first. FitError when there is no minimum, an array does not fit the molecule, or the data hold a number
    that is not finite.
    """
    _check(molecule, minima, samples, hessian)
    train, _ = split(samples)
    blocks = term_blocks(molecule, [s.xyz for s in minima])
    if blocks:
        fitted, observations = blocks, _observe(blocks, molecule, minima, train, hessian, nonbonded)
        accepted, kept = np.inf, None
        for weight in GEOMETRY_WEIGHTS:
            response = _geometry_response(molecule, fitted, minima, nonbonded, weight) if weight else None
            fitted = _gauss_newton(fitted, observations, response)
            relaxed = _relaxed(assembled(molecule.n_atoms, fitted), minima, nonbonded)
            miss = _geometry_miss(molecule, minima, relaxed)
            if miss < max(accepted, 1.0):
                blocks, kept = fitted, response
                accepted = miss if weight else GEOMETRY_GAIN * miss
            if miss < 1:
                break
        blocks = _with_conformer_energies(molecule, blocks, observations, kept, minima, nonbonded)
    terms = assembled(molecule.n_atoms, blocks)
    return ValenceFit(terms, valence_quality(molecule, terms, minima, samples, hessian, nonbonded))


def _with_conformer_energies(
    molecule: Molecule,
    blocks: list[TermBlock],
    observations: _Observations,
    response: Array | None,
    minima: Sequence[Sample],
    nonbonded: NonBonded | None,
) -> list[TermBlock]:
    """Blocks whose conformers, minimised, differ in energy as the quantum minima do, as far as their geometry
    does not suffer: what is asked of the minima is shifted by what each gains on minimising."""

    def judged(blocks: Sequence[TermBlock]) -> tuple[Array, float]:
        terms = assembled(molecule.n_atoms, blocks)
        relaxed = _relaxed(terms, minima, nonbonded)
        return _conformer_errors(terms, minima, relaxed, nonbonded), _geometry_miss(molecule, minima, relaxed)

    asked = observations.energies.copy()
    (errors, geometry), best, fitted = judged(blocks), blocks, blocks
    least, allowed = float(np.abs(_shares(minima) * errors).max()), max(1.0, geometry)
    for _ in range(CONFORMER_PASSES):
        if least < CONFORMER_TARGET:
            break
        asked[: len(minima)] -= errors
        fitted = _gauss_newton(fitted, replace(observations, energies=asked), response, 1e-6, 1e-6)
        errors, geometry = judged(fitted)
        miss = float(np.abs(_shares(minima) * errors).max())
        if miss < least and geometry <= allowed:
            best, least = fitted, miss
    return best


def _relaxed(terms: ValenceTerms, minima: Sequence[Sample], nonbonded: NonBonded | None) -> list[Array]:
    """Each conformer (N, 3) in nm, minimised."""
    return [minimise(terms, s.xyz, nonbonded) for s in minima]


def _conformer_errors(
    terms: ValenceTerms, minima: Sequence[Sample], relaxed: Sequence[Array], nonbonded: NonBonded | None
) -> Array:
    """(minima,) kJ/mol: energy of each above the first, minimised, less what it is in the data."""
    errors = [
        _energy_and_forces(terms, xyz, nonbonded)[0] - s.energy
        for xyz, s in zip(relaxed, minima, strict=True)
    ]
    return np.array(errors) - errors[0]


def boltzmann_shares(energies: Array, temperature: float) -> Array:
    """Populations of minima with energies in kJ/mol; vibrations are not counted."""
    return softmax(-energies / (GAS_CONSTANT * temperature))


def split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """(train, held out): every fifth displaced and every fourth twisted geometry is held out, torsion-scan
    points never."""
    displaced = [s for s in samples if s.kind == "displaced"]
    twisted = [s for s in samples if s.kind == "twisted"]
    heldout = displaced[4::5] + twisted[3::4]
    return [s for s in samples if not any(s is h for h in heldout)], heldout


def valence_quality(
    molecule: Molecule,
    terms: ValenceTerms,
    minima: Sequence[Sample],
    samples: Sequence[Sample],
    hessian: Array | None = None,
    nonbonded: NonBonded | None = None,
) -> dict[str, float]:
    """What the terms reach; a figure without data behind it is left out.

    force_rms_{train,heldout,torsion,twisted,twisted_heldout}_kcal_mol_A (per component) and
    energy_rms_{...}_kJ_mol (against minima[0]; of scan points and twisted geometries those less than
    60 kJ/mol above it, train and heldout are displaced ones), conformer_energy_error_kJ_mol
    (largest), conformer_share_error (largest difference of Boltzmann shares at 298 K), max_bond_error_A and
    max_angle_error_deg (after minimising every conformer), frequency_rms_error_cm1 and
    frequency_max_error_cm1 (harmonic, in order).
    """
    train, heldout = split(samples)
    low = minima[0].energy + TURNED_WINDOW
    sets = {
        "train": [s for s in train if s.kind == "displaced"],
        "heldout": [s for s in heldout if s.kind == "displaced"],
        "torsion": [s for s in train if s.kind == "torsion" and s.energy < low],
        "twisted": [s for s in train if s.kind == "twisted" and s.energy < low],
        "twisted_heldout": [s for s in heldout if s.kind == "twisted" and s.energy < low],
    }
    quality: dict[str, float] = {}
    zero = minima[0].energy - _energy_and_forces(terms, minima[0].xyz, nonbonded)[0]

    for name, members in sets.items():
        if not members:
            continue
        predicted = [_energy_and_forces(terms, s.xyz, nonbonded) for s in members]
        forces = np.array([f - s.forces for (_, f), s in zip(predicted, members, strict=True)])
        energies = np.array([e + zero - s.energy for (e, _), s in zip(predicted, members, strict=True)])
        quality[f"force_rms_{name}_kcal_mol_A"] = _rms(forces) / KCAL_KJ / 10
        quality[f"energy_rms_{name}_kJ_mol"] = _rms(energies)

    relaxed = _relaxed(terms, minima, nonbonded)
    bond_error, angle_error = _largest_changes(molecule, [s.xyz for s in minima], relaxed)
    quality["max_bond_error_A"] = bond_error
    quality["max_angle_error_deg"] = angle_error
    if len(minima) > 1:
        first = _largest_changes(molecule, [minima[0].xyz], relaxed[:1])
        quality["first_conformer_bond_error_A"], quality["first_conformer_angle_error_deg"] = first
        errors = _conformer_errors(terms, minima, relaxed, nonbonded)
        quality["conformer_energy_error_kJ_mol"] = float(np.abs(errors).max())
        energies = np.array([s.energy for s in minima])
        shares = [boltzmann_shares(e, SHARE_TEMPERATURE) for e in (energies + errors, energies)]
        quality["conformer_share_error"] = float(np.abs(shares[0] - shares[1]).max())
    if hessian is not None:
        exact = _frequencies(minima[0].xyz, hessian, molecule.masses)
        fitted = _frequencies(relaxed[0], valence_hessian(terms, relaxed[0], nonbonded), molecule.masses)
        quality["frequency_rms_error_cm1"] = _rms(fitted - exact)
        quality["frequency_max_error_cm1"] = float(np.abs(fitted - exact).max())
    return quality


def minimise(terms: ValenceTerms, xyz: Array, nonbonded: NonBonded | None = None) -> Array:
    """The nearest minimum (N, 3) in nm of the isolated species, forces below 1 kJ/mol/nm."""

    def objective(flat: Array) -> tuple[float, Array]:
        energy, forces = _energy_and_forces(terms, flat.reshape(xyz.shape), nonbonded)
        return energy, -forces.ravel()

    options = {"maxiter": 5000, "maxfun": 10000, "maxcor": 30, "ftol": 1e-15, "gtol": 0.1}
    return minimize(objective, xyz.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(xyz.shape)


def valence_hessian(terms: ValenceTerms, xyz: Array, nonbonded: NonBonded | None = None) -> Array:
    """(3N, 3N) in kJ/mol/nm^2 of the isolated species at xyz (N, 3) in nm."""
    return _hessian_of_forces(lambda x: _energy_and_forces(terms, x, nonbonded)[1], xyz)


def _energy_and_forces(terms: ValenceTerms, xyz: Array, nonbonded: NonBonded | None) -> tuple[float, Array]:
    x = torch.tensor(xyz, dtype=torch.float64, requires_grad=True)
    energy = valence_energy(terms, x)
    (gradient,) = torch.autograd.grad(energy, x)
    other_energy, other_forces = (0.0, 0.0) if nonbonded is None else nonbonded(xyz)
    return float(energy.detach()) + other_energy, other_forces - gradient.numpy()


def _hessian_of_forces(forces: Callable[[Array], Array], xyz: Array) -> Array:
    columns = []
    for step in HESSIAN_STEP_NM * np.eye(xyz.size).reshape(-1, *xyz.shape):
        columns.append((forces(xyz - step) - forces(xyz + step)).ravel() / (2 * HESSIAN_STEP_NM))
    matrix = np.array(columns)
    return (matrix + matrix.T) / 2


def _frequencies(xyz: Array, hessian: Array, masses: Array) -> Array:
    """Ascending, cm^-1, imaginary ones negative."""
    squared, _ = normal_modes(xyz, hessian, masses)
    return np.sign(squared) * np.sqrt(np.abs(squared)) * INVERSE_PS_CM


def _largest_changes(
    molecule: Molecule, before: Sequence[Array], after: Sequence[Array]
) -> tuple[float, float]:
    old, new = torch.tensor(np.array(before)), torch.tensor(np.array(after))
    bonds, angles = list(molecule.bonds), bent_triples(molecule)
    bond = model.distances(new, bonds) - model.distances(old, bonds)
    angle = model.bend_angles(new, angles) - model.bend_angles(old, angles)
    return (
        float(bond.abs().max()) * 10 if bonds else 0.0,
        float(angle.abs().max().rad2deg()) if angles else 0.0,
    )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _check(
    molecule: Molecule, minima: Sequence[Sample], samples: Sequence[Sample], hessian: Array | None
) -> None:
    if not minima:
        raise FitError("valence fit: minima is empty; give at least one optimised geometry")
    shape = (molecule.n_atoms, 3)
    for sample in [*minima, *samples]:
        if sample.xyz.shape != shape or sample.forces.shape != shape:
            raise FitError(
                f"valence fit: a {sample.kind} sample has arrays of another shape than {shape}; use map order"
            )
        if not (
            np.isfinite(sample.xyz).all() and np.isfinite(sample.forces).all() and np.isfinite(sample.energy)
        ):
            raise FitError(f"valence fit: a {sample.kind} sample holds a number that is not finite; drop it")
    if hessian is not None and (hessian.shape != (3 * shape[0],) * 2 or not np.isfinite(hessian).all()):
        raise FitError(f"valence fit: hessian must be finite with shape {(3 * shape[0],) * 2}")


# ---- least squares


@dataclass(frozen=True)
class _Observations:
    """Geometries with their B matrices, and what the model should say there."""

    coordinates: list[torch.Tensor]
    """For each block (S, T)."""
    b_matrices: list[Array]
    """For each block (S, T, 3N)."""
    n_minima: int
    n_samples: int
    """The S geometries are minima, then samples, then pairs displaced backward and forward along each normal
    mode."""
    forces: Array
    """(minima + samples, 3N) kJ/mol/nm."""
    energies: Array
    """(minima + samples,) kJ/mol."""
    strain: Array
    """(minima + samples,) factor on the tolerated error."""
    energy_sigma: Array
    """(minima + samples,) kJ/mol, tolerated error but for the strain."""
    modes: Array
    """(M, 3N) displacement of each normal mode in nm per unit of mass-weighted length."""
    steps: Array
    """(M,) half the mass-weighted distance of a pair."""
    mode_hessian: Array
    """(M, M) 1/ps^2."""


def _observe(
    blocks: Sequence[TermBlock],
    molecule: Molecule,
    minima: Sequence[Sample],
    train: Sequence[Sample],
    hessian: Array | None,
    nonbonded: NonBonded | None,
) -> _Observations:
    lowest = min(s.energy for s in minima)
    all_samples = [*minima, *train]
    strain = np.array(
        [np.exp((s.energy - lowest) / STRAIN_SCALE) if _is_turned(s) else 1.0 for s in all_samples]
    )
    energy_sigma = np.array([TURNED_ENERGY_SIGMA if _is_turned(s) else ENERGY_SIGMA for s in all_samples])
    energy_sigma[: len(minima)] = MINIMUM_ENERGY_SIGMA / _shares(minima)
    bonded = [s if nonbonded is None else _without(s, nonbonded) for s in all_samples]
    frames = [s.xyz for s in all_samples]
    modes, steps, mode_hessian = np.zeros((0, 3 * molecule.n_atoms)), np.zeros(0), np.zeros((0, 0))
    if hessian is not None:
        if nonbonded is not None:
            hessian = hessian - _hessian_of_forces(lambda x: nonbonded(x)[1], minima[0].xyz)
        weight = np.sqrt(np.repeat(molecule.masses, 3))
        modes = normal_modes(minima[0].xyz, hessian, molecule.masses)[1].T / weight
        steps = HESSIAN_STEP_NM / np.abs(modes).max(axis=1)
        mode_hessian = modes @ hessian @ modes.T
        for mode, step in zip(modes, steps, strict=True):
            shift = (mode * step).reshape(-1, 3)
            frames += [minima[0].xyz - shift, minima[0].xyz + shift]
    xyz = torch.tensor(np.array(frames))
    jacobians = [torch.func.vmap(torch.func.jacrev(b.coordinates))(xyz).flatten(2).numpy() for b in blocks]
    return _Observations(
        coordinates=[b.coordinates(xyz) for b in blocks],
        b_matrices=jacobians,
        n_minima=len(minima),
        n_samples=len(train),
        forces=np.array([s.forces.ravel() for s in bonded]),
        energies=np.array([s.energy for s in bonded]),
        strain=strain,
        energy_sigma=energy_sigma,
        modes=modes,
        steps=steps,
        mode_hessian=mode_hessian,
    )


def _is_turned(sample: Sample) -> bool:
    return sample.kind in ("torsion", "twisted")


def _without(sample: Sample, nonbonded: NonBonded) -> Sample:
    energy, forces = nonbonded(sample.xyz)
    return replace(sample, energy=sample.energy - energy, forces=sample.forces - forces)


def _shares(minima: Sequence[Sample]) -> Array:
    """(minima,) weight of each conformer, 1 for the lowest."""
    energies = np.array([s.energy for s in minima])
    return np.exp(-(energies - energies.min()) / CONFORMER_SCALE)


def _geometry_miss(molecule: Molecule, minima: Sequence[Sample], relaxed: Sequence[Array]) -> float:
    """Largest change of geometry on minimising a conformer: in targets times the conformer's share, or below
    CONFORMER_BAR in bars."""
    misses = []
    for sample, xyz, share in zip(minima, relaxed, _shares(minima), strict=True):
        bond, angle = _largest_changes(molecule, [sample.xyz], [xyz])
        misses.append(share * max(bond / BOND_TARGET_ANGSTROM, angle / ANGLE_TARGET_DEGREES))
        if sample.energy - minima[0].energy < CONFORMER_BAR:
            misses.append(max(bond / BOND_BAR_ANGSTROM, angle / ANGLE_BAR_DEGREES))
    return max(misses)


def _geometry_response(
    molecule: Molecule,
    blocks: Sequence[TermBlock],
    minima: Sequence[Sample],
    nonbonded: NonBonded | None,
    weight: float,
) -> Array:
    """(minima, bonds + angles + dihedrals, 3N): weighted change of each in tolerances per unit of
    residual force."""
    terms, triples = assembled(molecule.n_atoms, blocks), bent_triples(molecule)
    chains = [t.atoms for t in terms.torsions]
    tolerance = np.repeat(
        (BOND_TOLERANCE_NM, ANGLE_TOLERANCE_RAD, DIHEDRAL_TOLERANCE_RAD),
        (len(molecule.bonds), len(triples), len(chains)),
    )

    def coordinates(xyz: torch.Tensor) -> torch.Tensor:
        bonds, angles = model.distances(xyz, molecule.bonds), model.bend_angles(xyz, triples)
        return torch.cat([bonds, angles, model.dihedrals(xyz, chains)])

    responses = []
    for sample, share in zip(minima, _shares(minima), strict=True):
        b = torch.func.jacrev(coordinates)(torch.tensor(sample.xyz)).flatten(1).numpy()
        squared, modes = normal_modes(
            sample.xyz, valence_hessian(terms, sample.xyz, nonbonded), molecule.masses
        )
        patterns = modes / np.sqrt(np.repeat(molecule.masses, 3))[:, None]
        compliance = patterns / np.maximum(np.abs(squared), COMPLIANCE_FLOOR_PS2) @ patterns.T
        responses.append(weight * share * b @ compliance / tolerance[:, None])
    return np.array(responses)


def _gauss_newton(
    blocks: list[TermBlock],
    observations: _Observations,
    response: Array | None,
    damping: float = 1e-3,
    gain: float = 1e-4,
) -> list[TermBlock]:
    """Bounded, damped Gauss-Newton (Levenberg-Marquardt); unknowns are constants in prior widths. It ends
    when a step gains less than this share of the cost."""
    prior, width, lower, upper = (
        np.concatenate([getattr(b, name).ravel() for b in blocks])
        for name in ("prior", "width", "lower", "upper")
    )
    unknown = (np.concatenate([b.values.ravel() for b in blocks]) - prior) / width
    lower, upper = (lower - prior) / width, (upper - prior) / width

    def at(unknown: Array) -> tuple[list[TermBlock], Array, Array, float]:
        trial = _with_values(blocks, prior + width * unknown)
        residual, jacobian = _residuals(trial, observations, response)
        return trial, residual, jacobian * width, float(residual @ residual + unknown @ unknown)

    trial, residual, jacobian, cost = at(unknown)
    for _ in range(60):
        normal, gradient = jacobian.T @ jacobian + np.eye(len(unknown)), jacobian.T @ residual + unknown
        factor = np.linalg.cholesky(normal + damping * np.diag(np.diag(normal)))
        room = (lower - unknown - 1e-9, upper - unknown + 1e-9)
        step = lsq_linear(factor.T, np.linalg.solve(factor, -gradient), bounds=room, method="bvls").x
        moved = np.clip(unknown + step, lower, upper)
        new = at(moved)
        improvement = cost - new[3]
        if improvement > 0:
            unknown, damping = moved, damping / 5
            trial, residual, jacobian, cost = new
            if improvement < gain * cost:
                break
        else:
            damping *= 10
            if damping > 1e6:
                break
    return trial


def _with_values(blocks: Sequence[TermBlock], flat: Array) -> list[TermBlock]:
    ends = np.cumsum([b.values.size for b in blocks])
    pieces = np.split(flat, ends[:-1])
    return [replace(b, values=p.reshape(b.values.shape)) for b, p in zip(blocks, pieces, strict=True)]


def _residuals(
    blocks: Sequence[TermBlock], observed: _Observations, response: Array | None
) -> tuple[Array, Array]:
    """Weighted residuals and their Jacobian by the constants; the common zero of energy is projected out."""
    energy, d_energy, forces, d_forces = _predict(blocks, observed)
    known = observed.n_minima + observed.n_samples
    is_minimum = np.arange(known) < observed.n_minima

    force_weight = 1 / np.where(is_minimum, MINIMUM_FORCE_SIGMA, FORCE_SIGMA * observed.strain)
    rows = [((forces[:known] - observed.forces) * force_weight[:, None]).ravel()]
    d_rows = [(d_forces[:known] * force_weight[:, None, None]).reshape(-1, d_forces.shape[-1])]

    if response is not None:
        pull = (forces[:known] - observed.forces)[: observed.n_minima]
        rows.append(np.einsum("mgx,mx->mg", response, pull).ravel())
        d_rows.append(
            np.einsum("mgx,mxp->mgp", response, d_forces[: observed.n_minima]).reshape(-1, d_forces.shape[-1])
        )

    energy_weight = 1 / (observed.energy_sigma * observed.strain)
    share = energy_weight**2 / np.sum(energy_weight**2)
    difference = energy[:known] - observed.energies
    rows.append((difference - share @ difference) * energy_weight)
    d_rows.append((d_energy[:known] - share @ d_energy[:known]) * energy_weight[:, None])

    if len(observed.modes):
        back, forth = forces[known::2], forces[known + 1 :: 2]
        d_back, d_forth = d_forces[known::2], d_forces[known + 1 :: 2]
        spacing = 2 * observed.steps[:, None]
        model_hessian = (back - forth) @ observed.modes.T / spacing
        d_hessian = np.einsum("mxp,nx->mnp", d_back - d_forth, observed.modes) / spacing[:, :, None]
        scale = np.sqrt(np.maximum(np.diag(observed.mode_hessian), HESSIAN_FLOOR_PS2))
        weight = 1 / (HESSIAN_SIGMA * np.outer(scale, scale))
        rows.append(((model_hessian - observed.mode_hessian) * weight).ravel())
        d_rows.append((d_hessian * weight[:, :, None]).reshape(-1, d_hessian.shape[-1]))
    return np.concatenate(rows), np.concatenate(d_rows)


def _predict(blocks: Sequence[TermBlock], observed: _Observations) -> tuple[Array, Array, Array, Array]:
    """Energies (S,) and forces (S, 3N) of all geometries with their derivatives (S, P) and (S, 3N, P) by the
    constants."""
    energy: Any = 0.0
    forces: Any = 0.0
    d_energy, d_forces = [], []
    for block, q, b in zip(blocks, observed.coordinates, observed.b_matrices, strict=True):
        q = q.detach().requires_grad_()
        constants = torch.tensor(block.values)[torch.tensor(block.types)].expand(len(q), -1, -1)
        constants = constants.clone().requires_grad_()
        terms = block.energies(q, constants)
        slope, d_terms = torch.autograd.grad(terms.sum(), (q, constants), create_graph=True)
        (d_slope,) = torch.autograd.grad(slope.sum(), constants)
        energy = energy + terms.sum(-1).detach().numpy()
        forces = forces - np.einsum("st,stx->sx", slope.detach().numpy(), b)
        one_hot = np.eye(len(block.values))[block.types]
        d_energy.append(np.einsum("stc,tk->skc", d_terms.detach().numpy(), one_hot).reshape(len(q), -1))
        slopes = np.einsum("stc,tk->stkc", d_slope.numpy(), one_hot).reshape(*q.shape, -1)
        d_forces.append(-np.matmul(b.transpose(0, 2, 1), slopes))
    return energy, np.concatenate(d_energy, -1), forces, np.concatenate(d_forces, -1)
