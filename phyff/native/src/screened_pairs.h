// The screened pairs of a DrudeForce as an OpenMM force.
#pragma once

#include <vector>

#include "openmm/Force.h"

namespace phyff {

/// Charges that meet damped by Thole's formula: E = product / r (1 - (1 + u/2) exp(-u)), u = screening r.
struct ScreenedCharges {
    std::vector<int> first, second;          // particles of the System
    std::vector<double> product, screening;  // kJ/mol nm, 1/nm

    int size() const { return static_cast<int>(first.size()); }
};

/// Without periodic images: the charges of a pair belong to one molecule.
class ScreenedPairs : public OpenMM::Force {
  public:
    explicit ScreenedPairs(ScreenedCharges charges);
    const ScreenedCharges& charges() const { return charges_; }
    bool usesPeriodicBoundaryConditions() const override { return false; }

  protected:
    OpenMM::ForceImpl* createImpl() const override;

  private:
    ScreenedCharges charges_;
};

}  // namespace phyff
