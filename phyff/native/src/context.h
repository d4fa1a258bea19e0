// What a force of ours needs of its Context.
#pragma once

#include <functional>
#include <memory>

#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/ThreadPool.h"
#include "pair_list.h"

namespace phyff {

/// As many as the Context's platform was given.
class Threads {
  public:
    explicit Threads(OpenMM::ContextImpl& context);
    int number() const { return pool_->getNumThreads(); }
    /// Call `work` in each with its number, and wait.
    void run(const std::function<void(int)>& work);

  private:
    std::unique_ptr<OpenMM::ThreadPool> pool_;
};

Box box_of(OpenMM::ContextImpl& context);

}  // namespace phyff
