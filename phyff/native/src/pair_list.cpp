#include "pair_list.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "openmm/OpenMMException.h"

using OpenMM::OpenMMException;
using OpenMM::Vec3;

namespace phyff {

namespace {

constexpr double kMargin = 0.1;
constexpr int kCellsPerRange = 2;
constexpr int kBlock = 16;  // places dealt to the threads in turn, so that their shares are alike

/// Squared distances of the places [begin, end) from (x, y, z), nearest images.
FOR_EVERY_PROCESSOR
void squared_distances(const Box& box, double x, double y, double z, const double* xs, const double* ys,
                       const double* zs, int begin, int end, double* squares) {
    const NearestImage to_nearest(box);
#pragma omp simd
    for (int j = begin; j < end; ++j) {
        double dx = xs[j] - x, dy = ys[j] - y, dz = zs[j] - z;
        to_nearest(dx, dy, dz);
        squares[j - begin] = dx * dx + dy * dy + dz * dz;
    }
}

/// Write the partners of place i among [begin, end): close enough, not stamped as excluded, not both inert.
inline int allowed(int i, int begin, int end, const double* __restrict squares, double limit,
                   const int* __restrict stamp, const char* __restrict inert, int* __restrict partners) {
    int number = 0;
    for (int j = begin; j < end; ++j) {
        partners[number] = j;
        number += (squares[j - begin] < limit) & (stamp[j] != i) & !(inert[i] & inert[j]);
    }
    return number;
}

/// The cells within reach of one in a periodic row of n, each once: first, first + 1, ... modulo n.
struct Reach {
    int first, number;
};

Reach around(int centre, int reach, int n) {
    if (2 * reach + 1 >= n) return {0, n};
    return {(centre - reach + n) % n, 2 * reach + 1};
}

}  // namespace

Vec3 Box::fractions(const Vec3& r) const {
    const double c = r[2] / cz, b = (r[1] - c * cy) / by;
    return {(r[0] - b * bx - c * cx) / ax, b, c};
}

Vec3 Box::cartesian(const Vec3& f) const {
    return {f[0] * ax + f[1] * bx + f[2] * cx, f[1] * by + f[2] * cy, f[2] * cz};
}

PairList::PairList(std::vector<int> particles, std::vector<char> inert,
                   const std::vector<std::pair<int, int>>& exclusions, int n_total, double cutoff, int threads)
    : particles_(std::move(particles)), inert_(std::move(inert)), cutoff_(cutoff), shares_(threads) {
    const int n = static_cast<int>(particles_.size());
    std::vector<int> slot(n_total, -1);
    for (int k = 0; k < n; ++k) slot[particles_[k]] = k;
    excluded_.resize(n);
    for (const auto& [i, j] : exclusions)
        if (slot[i] >= 0 && slot[j] >= 0) {
            excluded_[slot[i]].push_back(slot[j]);
            excluded_[slot[j]].push_back(slot[i]);
        }
    order_.resize(n), place_of_.resize(n), cell_.resize(n), inert_at_.resize(n), listed_.resize(n);
    std::iota(order_.begin(), order_.end(), 0);
    now_.resize(n);
}

bool PairList::update(const std::vector<Vec3>& positions, const Box& box, const Parallel& parallel) {
    if (box.narrowest() < 1.999999 * cutoff_)
        throw OpenMMException("The periodic box size has decreased to less than twice the nonbonded cutoff.");
    box_ = box;
    const bool renew = used_up(positions);
    if (renew) {
        sort_into_cells(positions);
        parallel([this](int thread) { list_share(thread); });
    }
    for (int k = 0; k < size(); ++k) {
        const Vec3& r = positions[particles_[order_[k]]];
        now_.x[k] = r[0], now_.y[k] = r[1], now_.z[k] = r[2];
    }
    return renew;
}

/// Pairs not listed were further apart than the range. The box since took r to S r, which shrinks no distance by
/// more than 1 - |S - 1|; beyond that each particle moved by d, up to a lattice vector.
bool PairList::used_up(const std::vector<Vec3>& positions) const {
    if (range_ == 0) return true;
    double strain = 0;
    for (int k = 0; k < 3; ++k) {
        Vec3 unit;
        unit[k] = 1;
        const Vec3 change = box_.cartesian(listed_box_.fractions(unit)) - unit;
        strain += change.dot(change);
    }
    const double slack = 0.5 * (range_ * (1 - std::sqrt(strain)) - cutoff_);
    if (slack <= 0) return true;
    for (int k = 0; k < size(); ++k) {
        Vec3 f = box_.fractions(positions[particles_[order_[k]]]) - listed_[k];
        for (int d = 0; d < 3; ++d) f[d] -= nearest(f[d]);
        const Vec3 moved = box_.cartesian(f);
        if (!(moved.dot(moved) < slack * slack)) return true;
    }
    return false;
}

void PairList::sort_into_cells(const std::vector<Vec3>& positions) {
    const int n = size();
    std::vector<Vec3> fractions(n);
    for (int slot = 0; slot < n; ++slot) {
        const Vec3 f = fractions[slot] = box_.fractions(positions[particles_[slot]]);
        if (!std::isfinite(f[0] + f[1] + f[2])) throw OpenMMException("Particle coordinate is NaN.");
    }
    // The range stays below half the box, so that the nearest image of a pair decides alone.
    range_ = std::min(cutoff_ + kMargin, 0.5 * box_.narrowest());
    listed_box_ = box_;
    const Vec3 a(box_.ax, 0, 0), b(box_.bx, box_.by, 0), c(box_.cx, box_.cy, box_.cz);
    const Vec3 faces[3] = {b.cross(c), c.cross(a), a.cross(b)};
    const int most = 1 + static_cast<int>(2 * std::cbrt(n));
    for (int d = 0; d < 3; ++d) {
        const double width = box_.volume() / std::sqrt(faces[d].dot(faces[d]));
        cells_[d] = std::clamp(static_cast<int>(width * kCellsPerRange / range_), 1, most);
        reach_[d] = static_cast<int>(std::ceil(range_ * cells_[d] / width));
    }
    cell_begin_.assign(cells_[0] * cells_[1] * cells_[2] + 1, 0);
    for (int slot = 0; slot < n; ++slot) {
        int cell = 0;
        for (int d = 0; d < 3; ++d) {
            const double inside = fractions[slot][d] - std::floor(fractions[slot][d]);
            cell = cell * cells_[d] + std::min(cells_[d] - 1, static_cast<int>(inside * cells_[d]));
        }
        cell_[slot] = cell;
        ++cell_begin_[cell + 1];
    }
    std::partial_sum(cell_begin_.begin(), cell_begin_.end(), cell_begin_.begin());
    std::vector<int> next(cell_begin_.begin(), cell_begin_.end() - 1);
    for (int slot = 0; slot < n; ++slot) {
        const int place = next[cell_[slot]]++;
        order_[place] = slot;
        place_of_[slot] = place;
        listed_[place] = fractions[slot];
        inert_at_[place] = inert_[slot];
        const Vec3& r = positions[particles_[slot]];
        now_.x[place] = r[0], now_.y[place] = r[1], now_.z[place] = r[2];
    }
}

void PairList::list_share(int thread) {
    Share& share = shares_[thread];
    const int n = size(), threads = static_cast<int>(shares_.size());
    share.owners.clear(), share.begins.assign(1, 0);
    share.stamp.assign(n, -1);
    std::vector<double> squares(n);
    std::size_t listed = 0;
    const auto scan = [&](int i, int begin, int end) {
        begin = std::max(i + 1, begin);
        if (begin >= end) return;
        squared_distances(box_, now_.x[i], now_.y[i], now_.z[i], now_.x.data(), now_.y.data(), now_.z.data(), begin,
                          end, squares.data());
        if (share.partners.size() < listed + (end - begin)) share.partners.resize(2 * listed + (end - begin));
        listed += allowed(i, begin, end, squares.data(), range_ * range_, share.stamp.data(), inert_at_.data(),
                          share.partners.data() + listed);
    };
    const auto list_partners = [&](int i) {
        for (const int slot : excluded_[order_[i]]) share.stamp[place_of_[slot]] = i;
        const int cell = cell_[order_[i]], row_length = cells_[2];
        const Reach along_a = around(cell / (cells_[1] * row_length), reach_[0], cells_[0]);
        const Reach along_b = around(cell / row_length % cells_[1], reach_[1], cells_[1]);
        const Reach along_c = around(cell % row_length, reach_[2], row_length);
        const int past = along_c.first + along_c.number;
        for (int a = along_a.first; a < along_a.first + along_a.number; ++a)
            for (int b = along_b.first; b < along_b.first + along_b.number; ++b) {
                const int* row = &cell_begin_[((a % cells_[0]) * cells_[1] + b % cells_[1]) * row_length];
                scan(i, row[along_c.first], row[std::min(past, row_length)]);
                if (past > row_length) scan(i, row[0], row[past - row_length]);
            }
        if (listed == share.begins.back()) return;
        share.owners.push_back(i);
        share.begins.push_back(listed);
    };
    for (int first = kBlock * thread; first < n; first += kBlock * threads)
        for (int i = first; i < std::min(n, first + kBlock); ++i) list_partners(i);
}

}  // namespace phyff
