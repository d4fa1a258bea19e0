// The pair functions: two beside the OpenMM expression that says the same (phyff/model/pairs.py), and the direct space
// of a NonbondedForce.
#pragma once

#include <vector>

#include "pair_list.h"

namespace phyff {

constexpr int kBatch = 256;
constexpr int kMaxColumns = 8;

/// Partners j of one particle i; room for kBatch of them.
struct Batch {
    alignas(64) int j[kBatch];
    alignas(64) double dx[kBatch], dy[kBatch], dz[kBatch], square[kBatch];  // r_i - r_j in nm, and r^2
    alignas(64) double energy[kBatch];                                      // kJ/mol
    alignas(64) double push[kBatch];                                        // -(dE/dr)/r, kJ/mol/nm^2
};

/// Cut-off and start of the switch, nm (without a switch both are the cut-off), and Ewald's screening, 1/nm.
struct Range {
    double cutoff = 0, switch_start = 0, screening = 0;
};

/// Pairs that Ewald's direct space leaves out, by places of `first` and `second`: with their own charge product, and
/// C6 and C12, and less what the reciprocal space has for them.
struct Exceptions {
    std::vector<int> first, second;
    std::vector<double> own, reciprocal, c6, c12;

    int size() const { return static_cast<int>(first.size()); }
};

using Columns = std::vector<std::vector<double>>;  // per-particle parameters by place

/// A pair function: fills energy and push of the first `number` pairs of a batch.
using Evaluate = void (*)(const Columns& columns, int i, Range range, int number, Batch& batch);

struct Term {
    const char* expression;  // of the CustomNonbondedForce it stands for; nullptr for a NonbondedForce's direct space
    std::vector<const char*> parameters;  // per particle, in this order
    Evaluate evaluate;
    /// Whether a particle is without effect altogether, or on others of its kind.
    bool (*absent)(const std::vector<double>& row);
    bool (*inert)(const std::vector<double>& row);
};

/// Of CustomNonbondedForces.
const std::vector<Term>& terms();

/// Screened Coulomb, C6 and C12 of a NonbondedForce with PME; parameters "q", "s6", "s12".
const Term& direct_space();

/// Energy and push of the exceptions [begin, begin + number), whose vectors are in the batch.
void evaluate_exceptions(const Exceptions& exceptions, int begin, int number, double screening, Batch& batch);

/// Vectors first - second, nearest images, and their squares, of the exceptions [begin, begin + number).
void separate(const Coordinates& positions, const Box& box, const Exceptions& exceptions, int begin, int number,
              Batch& batch);

/// The pairs of place i with `partners` that are within the cut-off; returns how many.
int within_cutoff(const Coordinates& positions, const Box& box, int i, const int* partners, int number, double cutoff,
                  Batch& batch);

}  // namespace phyff
