// The pair functions: two beside the OpenMM expression that says the same (phyff/model/pairs.py), and the direct space
// of a NonbondedForce.
#pragma once

#include <array>
#include <vector>

#include "pair_list.h"

namespace phyff {

/// E = erf(screening r)/r, what Ewald's reciprocal space has for two charges, and -(dE/dr)/r, within the cut-off: as
/// polynomials in 2 (r/cutoff)^2 - 1.
struct Reciprocal {
    Reciprocal() = default;
    Reciprocal(double screening, double cutoff);

    std::array<double, 18> push{};
    std::array<double, 19> energy{};
};

/// Screening times cut-off up to which those are exact to 1e-9; to 1e-11 up to 3.1, as OpenMM has it for 3e-5.
constexpr double kMostScreened = 3.7;

/// What all pairs of a force share: cut-off and start of the switch, nm (without a switch both are the cut-off), of a
/// NonbondedForce also Ewald's screening, 1/nm, and the sixth power of its diameter, nm^6.
struct Range {
    double cutoff = 0, switch_start = 0, screening = 0, sigma6 = 0;
};

/// Pairs that Ewald's direct space leaves out: with their own charge product, and C6 and C12, and less what the
/// reciprocal space has for them. They are particles of one molecule, as far apart as OpenMM's positions say: not the
/// nearest images, in a box less than twice as long as the molecule.
struct Exceptions {
    std::vector<int> first, second;
    std::vector<double> own, reciprocal, c6, c12;
    int bare = 0;  // so many have something of their own; they come first

    int size() const { return static_cast<int>(first.size()); }
};

using Columns = std::vector<std::vector<Lanes>>;  // per-particle parameters by block

/// All that pairs of one force have in common.
struct Pairing {
    const PairList& list;
    const Columns& columns;
    const Range range;
    const Reciprocal& reciprocal;
};

/// Add one thread's share of pairs within the cut-off; the energy only if it is wanted.
using AddPairs = void (*)(const Pairing& pairing, int thread, bool energy_wanted, Sum& sum);

struct Term {
    const char* expression;  // of the CustomNonbondedForce it stands for; nullptr for a NonbondedForce's direct space
    std::vector<const char*> parameters;  // per particle, in this order
    AddPairs add_pairs;
    /// Whether a particle is without effect altogether, or on others of its kind.
    bool (*absent)(const std::vector<double>& row);
    bool (*inert)(const std::vector<double>& row);
};

/// Of CustomNonbondedForces.
const std::vector<Term>& terms();

/// Screened Coulomb, C6 and C12 of a NonbondedForce with PME; parameters "q" and "s6".
const Term& direct_space();

/// Add one thread's share of exceptions between particles at `positions`; `offset`: by particle, of the x of its force
/// in the sum.
void add_exceptions(const Pairing& pairing, const Exceptions& exceptions, const std::vector<OpenMM::Vec3>& positions,
                    const std::vector<int>& offset, int thread, int threads, bool energy_wanted, Sum& sum);

}  // namespace phyff
