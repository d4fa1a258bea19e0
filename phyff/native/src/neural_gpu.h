// The neural term on OpenMM's GPU platforms: neural_kernels.cl, compiled when a Context is made.
#pragma once

#include <memory>
#include <vector>

#include "neural_force.h"
#include "openmm/common/ComputeContext.h"
#include "openmm/internal/ContextImpl.h"

namespace phyff {

/// The device of a Context whose platform compiles kernels (OpenCL, CUDA), or nullptr.
OpenMM::ComputeContext* device_of(OpenMM::ContextImpl& context);

/// What one Context keeps of a NeuralForce on its device. Positions and forces never leave it.
class NeuralGpu {
  public:
    NeuralGpu(const NeuralForce& force, OpenMM::ComputeContext& device);
    /// Add energy and forces to the device's.
    void execute();

  private:
    using Array = std::unique_ptr<OpenMM::ArrayInterface>;

    template <class T>
    Array array(const char* name, std::size_t size);
    template <class T>
    Array array(const char* name, const std::vector<T>& values);
    void set_box(OpenMM::ComputeKernel& kernel, int index);

    OpenMM::ComputeContext& device_;
    int atoms_;
    Array weights_, atom_of_, place_, molecule_, kinds_, bonds_end_, bonded_, listed_, state_, list_, number_, scratch_;
    OpenMM::ComputeKernel find_places_, check_list_, make_list_, list_made_, add_neural_;
};

}  // namespace phyff
