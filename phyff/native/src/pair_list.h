// Half Verlet list in a periodic box, from cells, in time linear in the number of particles. Lengths in nm.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "openmm/Vec3.h"
#include "simd.h"

namespace phyff {

/// Reduced lattice vectors a = (ax, 0, 0), b = (bx, by, 0), c = (cx, cy, cz), as OpenMM has them.
struct Box {
    double ax = 0, bx = 0, by = 0, cx = 0, cy = 0, cz = 0;

    double volume() const { return ax * by * cz; }
    double narrowest() const { return ax < by ? (ax < cz ? ax : cz) : (by < cz ? by : cz); }
    OpenMM::Vec3 fractions(const OpenMM::Vec3& r) const;
    OpenMM::Vec3 cartesian(const OpenMM::Vec3& f) const;
};

/// Takes a vector to its nearest image; a copy of the box for inner loops.
struct NearestImage {
    explicit NearestImage(const Box& box) : box(box), ra(1 / box.ax), rb(1 / box.by), rc(1 / box.cz) {}
    void operator()(double& dx, double& dy, double& dz) const {
        const double n = nearest(dz * rc);
        dx -= n * box.cx, dy -= n * box.cy, dz -= n * box.cz;
        const double m = nearest(dy * rb);
        dx -= m * box.bx, dy -= m * box.by;
        dx -= nearest(dx * ra) * box.ax;
    }

    const Box box;
    const double ra, rb, rc;
};

/// Runs work(thread) for every thread and waits.
using Parallel = std::function<void(const std::function<void(int)>&)>;

struct Coordinates {
    std::vector<double> x, y, z;
    void resize(std::size_t n) { x.resize(n), y.resize(n), z.resize(n); }
};

/// Pairs within the cut-off, listed with a margin and listed anew only when particles have used it up.
///
/// Particles are renumbered cell by cell into "places", so that neighbours in space are neighbours in memory.
class PairList {
  public:
    /// particles: system indices; inert: whether each is without effect on others that are so too; exclusions:
    /// pairs of system indices; n_total: particles of the system.
    PairList(std::vector<int> particles, std::vector<char> inert, const std::vector<std::pair<int, int>>& exclusions,
             int n_total, double cutoff, int threads);

    /// Take over positions and box; true when the list and the places are new.
    bool update(const std::vector<OpenMM::Vec3>& positions, const Box& box, const Parallel& parallel);

    int size() const { return static_cast<int>(order_.size()); }
    /// Slot in the constructor's `particles` of the particle at each place.
    const std::vector<int>& order() const { return order_; }
    /// Positions by place.
    const Coordinates& positions() const { return now_; }
    const Box& box() const { return box_; }

    /// Call visit(i, partners, number) for every place i of a thread's share that has partners.
    template <class Visit>
    void visit(int thread, Visit visit) const {
        const Share& share = shares_[thread];
        for (std::size_t k = 0; k < share.owners.size(); ++k)
            visit(share.owners[k], share.partners.data() + share.begins[k], int(share.begins[k + 1] - share.begins[k]));
    }

  private:
    struct Share {
        std::vector<int> owners, partners, stamp;
        std::vector<std::size_t> begins;
    };

    bool used_up(const std::vector<OpenMM::Vec3>& positions) const;
    void sort_into_cells(const std::vector<OpenMM::Vec3>& positions);
    void list_share(int thread);

    std::vector<int> particles_;
    std::vector<char> inert_;
    std::vector<std::vector<int>> excluded_;  // by slot
    double cutoff_, range_ = 0;
    Box box_, listed_box_;
    std::vector<OpenMM::Vec3> listed_;  // fractional coordinates by place, when the list was made
    std::vector<int> order_, place_of_, cell_, cell_begin_;
    std::vector<char> inert_at_;
    int cells_[3] = {1, 1, 1}, reach_[3] = {0, 0, 0};
    Coordinates now_;
    std::vector<Share> shares_;
};

}  // namespace phyff
