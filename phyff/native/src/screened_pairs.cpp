#include "screened_pairs.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <utility>

#include "context.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/CustomCPPForceImpl.h"
#include "simd.h"

using namespace OpenMM;

namespace phyff {

namespace {

constexpr int kBatch = 32 * kLanes;

/// Add one thread's share to the forces and the energy, kJ/mol and nm.
FOR_EVERY_PROCESSOR
void add_screened(const ScreenedCharges& charges, const std::vector<Vec3>& positions, int thread, int threads,
                  std::vector<Vec3>& forces, double& energy) {
    static_assert(sizeof(Vec3) == 3 * sizeof(double));
    alignas(64) double dxs[kBatch], dys[kBatch], dzs[kBatch], energies[kBatch], pushes[kBatch];
    const double* xyz = reinterpret_cast<const double*>(positions.data());
    for (int begin = kBatch * thread; begin < charges.size(); begin += kBatch * threads) {
        const int number = std::min(kBatch, charges.size() - begin);
        const int *first = &charges.first[begin], *second = &charges.second[begin];
        const double *products = &charges.product[begin], *screenings = &charges.screening[begin];
#pragma omp simd
        for (int k = 0; k < number; ++k) {
            const double *one = xyz + 3 * first[k], *other = xyz + 3 * second[k];
            const double dx = one[0] - other[0], dy = one[1] - other[1], dz = one[2] - other[2];
            const double per_square = 1 / (dx * dx + dy * dy + dz * dz), per_r = std::sqrt(per_square);
            const double u = screenings[k] / per_r, decay = exp_minus(u);
            const double coulomb = products[k] * per_r, inside = 1 - (1 + 0.5 * u) * decay;
            dxs[k] = dx, dys[k] = dy, dzs[k] = dz;
            energies[k] = coulomb * inside;
            pushes[k] = coulomb * (inside - 0.5 * u * (1 + u) * decay) * per_square;
        }
        for (int k = 0; k < number; ++k) {
            const Vec3 push = Vec3(dxs[k], dys[k], dzs[k]) * pushes[k];
            forces[first[k]] += push, forces[second[k]] -= push;
            energy += energies[k];
        }
    }
}

/// What one Context keeps of a ScreenedPairs.
class ScreenedPairsImpl : public CustomCPPForceImpl {
  public:
    explicit ScreenedPairsImpl(const ScreenedPairs& owner) : CustomCPPForceImpl(owner), owner_(owner) {}
    const ScreenedPairs& getOwner() const override { return owner_; }
    void initialize(ContextImpl& context) override;
    double computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) override;

  private:
    const ScreenedPairs& owner_;
    std::unique_ptr<Threads> threads_;
    std::vector<std::vector<Vec3>> shares_;  // forces by thread
    std::vector<double> energies_;
};

void ScreenedPairsImpl::initialize(ContextImpl& context) {
    CustomCPPForceImpl::initialize(context);
    threads_ = std::make_unique<Threads>(context);
    shares_.assign(threads_->number(), std::vector<Vec3>(context.getSystem().getNumParticles()));
    energies_.resize(threads_->number());
}

double ScreenedPairsImpl::computeForce(ContextImpl&, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) {
    threads_->run([&](int thread) {
        std::fill(shares_[thread].begin(), shares_[thread].end(), Vec3());
        energies_[thread] = 0;
        add_screened(owner_.charges(), positions, thread, threads_->number(), shares_[thread], energies_[thread]);
    });
    std::fill(forces.begin(), forces.end(), Vec3());
    double energy = 0;
    for (int thread = 0; thread < threads_->number(); ++thread) {
        energy += energies_[thread];
        for (std::size_t k = 0; k < forces.size(); ++k) forces[k] += shares_[thread][k];
    }
    return energy;
}

}  // namespace

ScreenedPairs::ScreenedPairs(ScreenedCharges charges) : charges_(std::move(charges)) {
    const std::size_t n = charges_.first.size();
    if (charges_.second.size() != n || charges_.product.size() != n || charges_.screening.size() != n)
        throw std::invalid_argument("A screened pair has two particles, a product of charges and a screening.");
}

ForceImpl* ScreenedPairs::createImpl() const { return new ScreenedPairsImpl(*this); }

}  // namespace phyff
