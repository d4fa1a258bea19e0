// Verlet list in a periodic box, by blocks of neighbouring particles. Lengths in nm.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "openmm/Vec3.h"
#include "simd.h"

namespace phyff {

/// Reduced lattice vectors a = (ax, 0, 0), b = (bx, by, 0), c = (cx, cy, cz), as OpenMM has them.
struct Box {
    double ax = 0, bx = 0, by = 0, cx = 0, cy = 0, cz = 0;

    bool operator==(const Box&) const = default;
    double volume() const { return ax * by * cz; }
    double narrowest() const { return ax < by ? (ax < cz ? ax : cz) : (by < cz ? by : cz); }
    OpenMM::Vec3 fractions(const OpenMM::Vec3& r) const;
    OpenMM::Vec3 cartesian(const OpenMM::Vec3& f) const;
};

/// Takes a vector to its nearest image; a copy of the box for inner loops.
struct NearestImage {
    explicit NearestImage(const Box& box) : box(box), ra(1 / box.ax), rb(1 / box.by), rc(1 / box.cz) {}

    /// Returns which lattice vector it took away: a number for shifts_of, if no coordinate was off by more than one.
    INLINED double operator()(double& dx, double& dy, double& dz) const {
        const double n = nearest(dz * rc);
        dx -= n * box.cx, dy -= n * box.cy, dz -= n * box.cz;
        const double m = nearest(dy * rb);
        dx -= m * box.bx, dy -= m * box.by;
        const double l = nearest(dx * ra);
        dx -= l * box.ax;
        return 13 + 9 * n + 3 * m + l;
    }

    const Box box;
    const double ra, rb, rc;
};

using Shifts = std::array<OpenMM::Vec3, 27>;
Shifts shifts_of(const Box& box);

/// A vector for each place of a block.
struct Vectors {
    Lanes x, y, z;
};

struct Spheres {
    std::vector<double> x, y, z, radius;
};

/// Partners of a place within a block: one bit for each. `image` says where the place is seen from there.
struct Partners {
    std::int32_t block;
    std::uint8_t bits, image;
};

/// Places, each with its partners [begin, end).
struct Rows {
    struct Row {
        int place;
        std::size_t begin, end;
    };
    std::vector<Row> rows;
    std::vector<Partners> partners;
};

/// Whether a pair is listed with one of its particles, or with both, each as the other's partner.
enum class Listing { once, both_ways };

/// Pairs within the cut-off: listed with a wide margin, and from that list more often with a narrow one, each time
/// particles have used up the margin.
///
/// Particles are renumbered into "places", so that each block of kLanes of them is compact.
class PairList {
  public:
    /// particles: system indices; inert: whether each is without effect on others that are so too; exclusions:
    /// pairs of system indices; n_total: particles of the system.
    PairList(std::vector<int> particles, std::vector<char> inert, const std::vector<std::pair<int, int>>& exclusions,
             int n_total, double cutoff, Listing listing, int threads);

    /// Take over positions and box; true when the places are new. Then prepare() the share of each thread.
    bool update(const std::vector<OpenMM::Vec3>& positions, const Box& box);
    /// The same in vacuum.
    bool update(const std::vector<OpenMM::Vec3>& positions) { return update(positions, vacuum_around(positions)); }
    void prepare(int thread);

    int size() const { return static_cast<int>(order_.size()); }
    int blocks() const { return static_cast<int>(now_.size()); }
    /// System index of the particle at each place.
    const std::vector<int>& order() const { return order_; }
    /// Positions by block, without jumps by lattice vectors since the list was made.
    const std::vector<Vectors>& positions() const { return now_; }
    /// One of them.
    OpenMM::Vec3 at(int place) const;
    const Box& box() const { return box_; }

    /// A thread's share of the pairs.
    const Rows& rows(int thread) const { return shares_[thread].narrow; }

  private:
    struct Share {
        Rows wide, narrow;
        std::vector<Partners> listed[kLanes];  // of the places of one block
        std::vector<std::uint64_t> excluded;   // by block, its excluded pairs with one block
        std::vector<double> gaps;              // by block
    };

    Box vacuum_around(const std::vector<OpenMM::Vec3>& positions) const;
    bool follow_narrow(const std::vector<OpenMM::Vec3>& positions);
    bool follow_wide(const std::vector<OpenMM::Vec3>& positions);
    void sort_into_blocks(const std::vector<OpenMM::Vec3>& positions);
    void enclose(int block);
    void list_share(int thread);
    void list_block(int block, Share& share) const;
    void list_pair(int block, int other, Share& share) const;
    void put(int place, const OpenMM::Vec3& r);

    std::vector<int> particles_;
    std::vector<char> inert_;
    std::vector<std::vector<int>> excluded_;  // by slot
    double cutoff_, range_ = 0, narrow_range_ = 0;
    Listing listing_;
    Box box_, listed_box_, narrowed_box_;
    std::vector<OpenMM::Vec3> listed_;    // fractional coordinates by place, when the wide list was made
    std::vector<OpenMM::Vec3> narrowed_;  // positions by place, when the narrow list was made
    std::vector<OpenMM::Vec3> jump_;      // by place, the lattice vector from where OpenMM has the particle
    bool wide_due_ = true, narrow_due_ = true;
    std::vector<int> order_, slot_at_, place_of_;
    std::vector<Vectors> now_;
    Spheres spheres_;                          // by block
    std::vector<std::uint8_t> real_, active_;  // bits by block: places with a particle, and with one that is not inert
    std::vector<Share> shares_;
};

/// What a thread finds for the particles of a list.
struct Sum {
    double energy = 0;           // kJ/mol
    std::vector<Vectors> force;  // by block, kJ/mol/nm

    void clear();
    /// Add a force on the particle at a place.
    void push(int place, const OpenMM::Vec3& by);
};

/// Set the forces on the particles of a list, and zero on others, from what its threads found. Returns the energy.
double add_up(const std::vector<Sum>& sums, const PairList& list, std::vector<OpenMM::Vec3>& forces);

}  // namespace phyff
