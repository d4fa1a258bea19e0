#include "pair_list.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "openmm/OpenMMException.h"

using OpenMM::OpenMMException;
using OpenMM::Vec3;

namespace phyff {

namespace {

constexpr double kMargin = 0.25, kNarrowMargin = 0.04;
constexpr double kNone = std::tuple_size_v<Shifts>;  // above every image

/// By places of one block: partners in another that are close enough, as the sum of their bits (doubles, as old
/// processors select no long integers), and the lowest and highest image of those.
struct Close {
    Lanes bits, lowest, highest;
};

FOR_EVERY_PROCESSOR
void find_close(const Box& box, const Vectors& one, const Vectors& other, double limit, Close& close) {
    const NearestImage to_nearest(box);
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) close.bits.of[i] = 0, close.lowest.of[i] = kNone, close.highest.of[i] = -kNone;
    for (int j = 0; j < kLanes; ++j) {
        const double bit = 1 << j;
#pragma omp simd
        for (int i = 0; i < kLanes; ++i) {
            double dx = one.x.of[i] - other.x.of[j], dy = one.y.of[i] - other.y.of[j], dz = one.z.of[i] - other.z.of[j];
            const double image = to_nearest(dx, dy, dz);
            const bool within = dx * dx + dy * dy + dz * dz < limit;
            const double low = within ? image : kNone, high = within ? image : -kNone;
            close.bits.of[i] += within ? bit : 0;
            close.lowest.of[i] = at_most(close.lowest.of[i], low);
            close.highest.of[i] = close.highest.of[i] > high ? close.highest.of[i] : high;
        }
    }
}

/// What remains between one sphere and each in [begin, end), or less in a skewed box. Trying all of them beats
/// cells up to some hundred thousand particles.
FOR_EVERY_PROCESSOR
void find_gaps(const Box& box, const Spheres& spheres, int one, int begin, int end, double* gaps) {
    const double *x = spheres.x.data(), *y = spheres.y.data(), *z = spheres.z.data(), *radius = spheres.radius.data();
    const NearestImage to_nearest(box);
    const double most = 0.5 * box.narrowest();  // up to there the image found is the nearest one
#pragma omp simd
    for (int k = begin; k < end; ++k) {
        double dx = x[one] - x[k], dy = y[one] - y[k], dz = z[one] - z[k];
        to_nearest(dx, dy, dz);
        gaps[k] = at_most(std::sqrt(dx * dx + dy * dy + dz * dz), most) - radius[one] - radius[k];
    }
}

/// Keep the partners of which one is close enough.
FOR_EVERY_PROCESSOR
void narrow_rows(const Rows& wide, const Vectors* positions, const Box& box, double limit, Rows& narrow) {
    const Shifts shifts = shifts_of(box);
    narrow.rows.clear();
    narrow.partners.resize(wide.partners.size());
    std::size_t kept = 0;
    for (const Rows::Row& row : wide.rows) {
        const std::size_t before = kept;
        const int lane = row.place % kLanes;
        const Vectors& here = positions[row.place / kLanes];
        const double x = here.x.of[lane], y = here.y.of[lane], z = here.z.of[lane];
        for (std::size_t k = row.begin; k < row.end; ++k) {
            const Partners partners = wide.partners[k];
            const Vectors& there = positions[partners.block];
            const Vec3& shift = shifts[partners.image];
            const double sx = x - shift[0], sy = y - shift[1], sz = z - shift[2];
            std::int64_t close = 0;
#pragma omp simd reduction(| : close)
            for (int j = 0; j < kLanes; ++j) {
                const double dx = sx - there.x.of[j], dy = sy - there.y.of[j], dz = sz - there.z.of[j];
                close |= dx * dx + dy * dy + dz * dz < limit ? 1 : 0;
            }
            narrow.partners[kept] = partners;
            kept += close;
        }
        if (kept > before) narrow.rows.push_back({row.place, before, kept});
    }
}

}  // namespace

Vec3 Box::fractions(const Vec3& r) const {
    const double c = r[2] / cz, b = (r[1] - c * cy) / by;
    return {(r[0] - b * bx - c * cx) / ax, b, c};
}

Vec3 Box::cartesian(const Vec3& f) const {
    return {f[0] * ax + f[1] * bx + f[2] * cx, f[1] * by + f[2] * cy, f[2] * cz};
}

Shifts shifts_of(const Box& box) {
    Shifts shifts;
    for (int k = 0; k < int(shifts.size()); ++k) shifts[k] = box.cartesian(Vec3(k % 3 - 1, k / 3 % 3 - 1, k / 9 - 1));
    return shifts;
}

PairList::PairList(std::vector<int> particles, std::vector<char> inert,
                   const std::vector<std::pair<int, int>>& exclusions, int n_total, double cutoff, Listing listing,
                   int threads)
    : particles_(std::move(particles)), inert_(std::move(inert)), cutoff_(cutoff), listing_(listing), shares_(threads) {
    const int n = static_cast<int>(particles_.size()), n_blocks = (n + kLanes - 1) / kLanes;
    std::vector<int> slot(n_total, -1);
    for (int k = 0; k < n; ++k) slot[particles_[k]] = k;
    excluded_.resize(n);
    for (const auto& [i, j] : exclusions)
        if (slot[i] >= 0 && slot[j] >= 0) {
            excluded_[slot[i]].push_back(slot[j]);
            excluded_[slot[j]].push_back(slot[i]);
        }
    order_.resize(n), slot_at_.resize(n), place_of_.resize(n), listed_.resize(n), narrowed_.resize(n), jump_.resize(n);
    now_.resize(n_blocks), real_.assign(n_blocks, 0), active_.resize(n_blocks);
    for (auto* values : {&spheres_.x, &spheres_.y, &spheres_.z, &spheres_.radius}) values->resize(n_blocks);
    for (int k = 0; k < n; ++k) real_[k / kLanes] |= 1 << k % kLanes;
}

bool PairList::update(const std::vector<Vec3>& positions, const Box& box) {
    if (box.narrowest() < 1.999999 * cutoff_)
        throw OpenMMException("The periodic box size has decreased to less than twice the nonbonded cutoff.");
    box_ = box;
    narrow_due_ = !follow_narrow(positions);
    wide_due_ = narrow_due_ && !follow_wide(positions);
    if (wide_due_) sort_into_blocks(positions);
    if (narrow_due_) {
        narrowed_box_ = box_;
        for (int k = 0; k < size(); ++k) narrowed_[k] = at(k), jump_[k] = at(k) - positions[order_[k]];
    }
    return wide_due_;
}

void PairList::prepare(int thread) {
    Share& share = shares_[thread];
    if (wide_due_) list_share(thread);
    if (narrow_due_) narrow_rows(share.wide, now_.data(), box_, narrow_range_ * narrow_range_, share.narrow);
}

/// A box so wide that no particle is near an image of another; it stays the same while it can.
Box PairList::vacuum_around(const std::vector<Vec3>& positions) const {
    Vec3 low = positions[particles_.front()], high = low;
    for (const int particle : particles_)
        for (int d = 0; d < 3; ++d) {
            low[d] = std::min(low[d], positions[particle][d]);
            high[d] = std::max(high[d], positions[particle][d]);
        }
    const Vec3 size = high - low;
    const double needed = std::max({size[0], size[1], size[2]}) + 2 * cutoff_;
    if (needed <= box_.ax) return box_;
    Box box;
    box.ax = box.by = box.cz = 2 * needed;
    return box;
}

/// Take over the positions unless the narrow margin is used up, be it by a jump.
bool PairList::follow_narrow(const std::vector<Vec3>& positions) {
    if (box_ != narrowed_box_) return false;
    const double slack = 0.5 * (narrow_range_ - cutoff_);
    for (int k = 0; k < size(); ++k) {
        const Vec3 r = positions[order_[k]] + jump_[k], moved = r - narrowed_[k];
        if (!(moved.dot(moved) < slack * slack)) return false;
        put(k, r);
    }
    return true;
}

/// Take over the positions unless the wide margin is used up. Pairs not listed were further apart than the range. The
/// box since took r to S r, which shrinks no distance by more than 1 - |S - 1|; beyond that each particle moved by d,
/// up to a lattice vector.
bool PairList::follow_wide(const std::vector<Vec3>& positions) {
    if (range_ == 0) return false;
    double strain = 0;
    for (int k = 0; k < 3; ++k) {
        Vec3 unit;
        unit[k] = 1;
        const Vec3 change = box_.cartesian(listed_box_.fractions(unit)) - unit;
        strain += change.dot(change);
    }
    const double slack = 0.5 * (range_ * (1 - std::sqrt(strain)) - narrow_range_);
    if (slack <= 0) return false;
    for (int k = 0; k < size(); ++k) {
        Vec3 f = box_.fractions(positions[order_[k]]) - listed_[k];
        for (int d = 0; d < 3; ++d) f[d] -= nearest(f[d]);
        const Vec3 moved = box_.cartesian(f);
        if (!(moved.dot(moved) < slack * slack)) return false;
        put(k, box_.cartesian(listed_[k] + f));
    }
    return true;
}

Vec3 PairList::at(int place) const {
    const Vectors& block = now_[place / kLanes];
    return {block.x.of[place % kLanes], block.y.of[place % kLanes], block.z.of[place % kLanes]};
}

void PairList::put(int place, const Vec3& r) {
    Vectors& block = now_[place / kLanes];
    block.x.of[place % kLanes] = r[0], block.y.of[place % kLanes] = r[1], block.z.of[place % kLanes] = r[2];
}

/// Along columns of about a block's width, up one and down the next.
void PairList::sort_into_blocks(const std::vector<Vec3>& positions) {
    const int n = size();
    const double width = std::cbrt(kLanes * box_.volume() / n);
    const int along_a = std::max(1, int(box_.ax / width)), along_b = std::max(1, int(box_.by / width));
    std::vector<Vec3> fractions(n);
    std::vector<std::pair<double, int>> keys(n);
    for (int slot = 0; slot < n; ++slot) {
        Vec3& f = fractions[slot] = box_.fractions(positions[particles_[slot]]);
        for (int d = 0; d < 3; ++d) f[d] -= std::floor(f[d]);
        if (!std::isfinite(f[0] + f[1] + f[2])) throw OpenMMException("Particle coordinate is NaN.");
        const int a = std::min(along_a - 1, int(f[0] * along_a)), b = std::min(along_b - 1, int(f[1] * along_b));
        const int column = a * along_b + (a % 2 ? along_b - 1 - b : b);
        keys[slot] = {column + 0.999 * (column % 2 ? 1 - f[2] : f[2]), slot};
    }
    // The range stays below half the box, so that the nearest image of a pair decides alone.
    range_ = std::min(cutoff_ + kMargin, 0.5 * box_.narrowest());
    narrow_range_ = std::min(cutoff_ + kNarrowMargin, range_);
    listed_box_ = box_;
    std::sort(keys.begin(), keys.end());
    std::fill(active_.begin(), active_.end(), 0);
    for (int k = 0; k < n; ++k) {
        const int slot = keys[k].second;
        slot_at_[k] = slot, place_of_[slot] = k, order_[k] = particles_[slot];
        listed_[k] = fractions[slot];
        put(k, box_.cartesian(fractions[slot]));
        if (!inert_[slot]) active_[k / kLanes] |= 1 << k % kLanes;
    }
    for (int block = 0; block < blocks(); ++block) enclose(block);
}

/// A sphere around the particles of a block.
void PairList::enclose(int block) {
    const int begin = kLanes * block, end = std::min(size(), begin + kLanes);
    Vec3 low = at(begin), high = low;
    for (int k = begin; k < end; ++k)
        for (int d = 0; d < 3; ++d) low[d] = std::min(low[d], at(k)[d]), high[d] = std::max(high[d], at(k)[d]);
    const Vec3 centre = (low + high) * 0.5;
    double square = 0;
    for (int k = begin; k < end; ++k) square = std::max(square, (at(k) - centre).dot(at(k) - centre));
    spheres_.x[block] = centre[0], spheres_.y[block] = centre[1], spheres_.z[block] = centre[2];
    spheres_.radius[block] = std::sqrt(square);
}

void PairList::list_share(int thread) {
    Share& share = shares_[thread];
    share.wide.rows.clear(), share.wide.partners.clear();
    share.excluded.assign(blocks(), 0), share.gaps.resize(blocks());
    // Dealt in turn, so that the shares are alike.
    for (int block = thread; block < blocks(); block += static_cast<int>(shares_.size())) list_block(block, share);
}

/// Partners of the places of one block: in this block and later ones, or in all.
void PairList::list_block(int block, Share& share) const {
    const int begin = kLanes * block, end = std::min(size(), begin + kLanes);
    for (int k = begin; k < end; ++k)
        for (const int slot : excluded_[slot_at_[k]]) {
            const int other = place_of_[slot];
            share.excluded[other / kLanes] |= std::uint64_t{1} << (kLanes * (k - begin) + other % kLanes);
        }
    const int first = listing_ == Listing::once ? block : 0;
    find_gaps(box_, spheres_, block, first, blocks(), share.gaps.data());
    for (int other = first; other < blocks(); ++other)
        if (share.gaps[other] < range_ && (active_[block] | active_[other])) list_pair(block, other, share);
    for (int k = begin; k < end; ++k) {
        for (const int slot : excluded_[slot_at_[k]]) share.excluded[place_of_[slot] / kLanes] = 0;
        std::vector<Partners>& listed = share.listed[k - begin];
        if (listed.empty()) continue;
        auto& [rows, partners] = share.wide;
        const std::size_t before = partners.size();
        partners.insert(partners.end(), listed.begin(), listed.end());
        rows.push_back({k, before, partners.size()});
        listed.clear();
    }
}

/// Partners of the places of one block in another.
void PairList::list_pair(int block, int other, Share& share) const {
    Close close;
    find_close(box_, now_[block], now_[other], range_ * range_, close);
    for (int i = 0; i < std::min(kLanes, size() - kLanes * block); ++i) {
        unsigned left = static_cast<unsigned>(close.bits.of[i]) & real_[other];
        left &= ~static_cast<unsigned>(share.excluded[other] >> kLanes * i);
        if (block == other) left &= listing_ == Listing::once ? 0xfe << i : ~(1 << i);
        if (!(active_[block] >> i & 1)) left &= active_[other];
        if (!left) continue;
        std::vector<Partners>& listed = share.listed[i];
        if (close.lowest.of[i] == close.highest.of[i]) {
            listed.push_back({other, std::uint8_t(left), std::uint8_t(close.lowest.of[i])});
            continue;
        }
        std::uint8_t seen[std::tuple_size_v<Shifts>] = {};
        for (int j = 0; j < kLanes; ++j) {
            Vec3 r = at(kLanes * block + i) - at(kLanes * other + j);
            if (left >> j & 1) seen[int(NearestImage(box_)(r[0], r[1], r[2]))] |= 1 << j;
        }
        for (std::size_t image = 0; image < std::size(seen); ++image)
            if (seen[image]) listed.push_back({other, seen[image], std::uint8_t(image)});
    }
}

void Sum::clear() {
    energy = 0;
    std::fill(force.begin(), force.end(), Vectors());
}

void Sum::push(int place, const Vec3& by) {
    Vectors& block = force[place / kLanes];
    block.x.of[place % kLanes] += by[0], block.y.of[place % kLanes] += by[1], block.z.of[place % kLanes] += by[2];
}

double add_up(const std::vector<Sum>& sums, const PairList& list, std::vector<Vec3>& forces) {
    std::fill(forces.begin(), forces.end(), Vec3());
    double energy = 0;
    for (const Sum& sum : sums) {
        energy += sum.energy;
        for (int k = 0; k < list.size(); ++k) {
            const Vectors& force = sum.force[k / kLanes];
            const int lane = k % kLanes;
            forces[list.order()[k]] += Vec3(force.x.of[lane], force.y.of[lane], force.z.of[lane]);
        }
    }
    return energy;
}

}  // namespace phyff
