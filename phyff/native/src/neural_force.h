// The neural term of phyff as an OpenMM force.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "neural_terms.h"
#include "openmm/Force.h"

namespace phyff {

/// What the term acts on: system indices of atoms, and of each its molecule and kind; system indices of the ends of
/// their bonds, where the committee sees those.
struct NeuralAtoms {
    std::vector<int> particles, molecules, kinds;
    std::vector<std::pair<int, int>> bonds;
};

/// The committee's mean for atoms in different molecules, in a periodic box or in vacuum.
class NeuralForce : public OpenMM::Force {
  public:
    NeuralForce(Committee committee, NeuralAtoms atoms, bool periodic);
    const Committee& committee() const { return committee_; }
    const NeuralAtoms& atoms() const { return atoms_; }
    bool usesPeriodicBoundaryConditions() const override { return periodic_; }

  protected:
    OpenMM::ForceImpl* createImpl() const override;

  private:
    Committee committee_;
    NeuralAtoms atoms_;
    bool periodic_;
};

}  // namespace phyff
