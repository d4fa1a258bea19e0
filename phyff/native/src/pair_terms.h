// The two pair functions, each beside the OpenMM expression that says the same (phyff/model/pairs.py).
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

/// Cut-off and start of the switch, nm; without a switch both are the cut-off.
struct Range {
    double cutoff, switch_start;
};

using Columns = std::vector<std::vector<double>>;  // per-particle parameters by place

/// A pair function: fills energy and push of the first `number` pairs of a batch.
using Evaluate = void (*)(const Columns& columns, int i, Range range, int number, Batch& batch);

struct Term {
    const char* expression;               // of the CustomNonbondedForce it stands for
    std::vector<const char*> parameters;  // per particle, in this order
    Evaluate evaluate;
    /// Whether a particle is without effect altogether, or on others of its kind.
    bool (*absent)(const std::vector<double>& row);
    bool (*inert)(const std::vector<double>& row);
};

const std::vector<Term>& terms();

/// The pairs of place i with `partners` that are within the cut-off; returns how many.
int within_cutoff(const Coordinates& positions, const Box& box, int i, const int* partners, int number, double cutoff,
                  Batch& batch);

}  // namespace phyff
