#include "neural_terms.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "simd.h"

namespace phyff {

namespace {

constexpr int kGaussians = Neighbours::kGaussians, kDirections = Neighbours::kDirections;
static_assert(kGaussians >= kRadial + kAngular && kDirections == kRadial);
constexpr float kPerRoot3 = std::numbers::inv_sqrt3_v<float>;
constexpr float kLeastSquare = 1e-12f;  // nm^2, so that atoms in one place have a finite direction

template <Sight kSight>
constexpr bool kAngles = kSight != Sight::distances;
template <Sight kSight>
constexpr bool kFrames = kSight == Sight::bonds;
constexpr int kMoments = kAngular * kDirections;

/// Sums an atom has over neighbours of one kind: radial, along its bonds, and for each angular function all directions.
template <Sight kSight>
constexpr int kScalars = kRadial + (kFrames<kSight> ? kAlong : 0);
template <Sight kSight>
constexpr int kSums = kScalars<kSight> + (kAngles<kSight> ? kMoments : 0);

/// Centres and reciprocal widths of the Gaussians, as many as fill a register.
struct Basis {
    explicit Basis(const Committee& committee) {
        for (int k = 0; k < static_cast<int>(committee.centres.size()); ++k) {
            const int place = k < kRadialCentres ? k : k + kRadial - kRadialCentres;
            centres[place] = committee.centres[k], scales[place] = 1 / committee.widths[k];
        }
    }
    alignas(4 * kGaussians) float centres[kGaussians] = {}, scales[kGaussians] = {};
};

/// The traceless square of a vector, five numbers.
INLINED void square(float x, float y, float z, float* to) {
    to[0] = x * y, to[1] = y * z, to[2] = x * z;
    to[3] = 0.5f * (x * x - y * y), to[4] = kPerRoot3 * (z * z - 0.5f * (x * x + y * y));
}

/// Vectors to the partners of a place within the cut-off. Returns how many there are up to and with these.
INLINED int find_near(const PairList& list, const Rows& rows, const Rows::Row& row, const Shifts& shifts, double limit,
                      int found, Neighbours& near) {
    const Vectors* positions = list.positions().data();
    const Partners* partners = rows.partners.data();
    int* place = near.place.data();
    float *x = near.x.data(), *y = near.y.data(), *z = near.z.data();
    const Vectors& here = positions[row.place / kLanes];
    const int lane = row.place % kLanes;
    for (std::size_t k = row.begin; k < row.end; ++k) {
        const int block = partners[k].block;
        const Vectors& there = positions[block];
        const OpenMM::Vec3& shift = shifts[partners[k].image];
        const double sx = here.x.of[lane] - shift[0], sy = here.y.of[lane] - shift[1], sz = here.z.of[lane] - shift[2];
        alignas(64) double dx[kLanes], dy[kLanes], dz[kLanes];
        std::int64_t close = 0;
#pragma omp simd reduction(| : close)
        for (int j = 0; j < kLanes; ++j) {
            dx[j] = there.x.of[j] - sx, dy[j] = there.y.of[j] - sy, dz[j] = there.z.of[j] - sz;
            close |= dx[j] * dx[j] + dy[j] * dy[j] + dz[j] * dz[j] < limit ? std::int64_t{1} << j : 0;
        }
        for (unsigned left = static_cast<unsigned>(close) & partners[k].bits; left; left &= left - 1) {
            const int j = std::countr_zero(left);
            x[found] = static_cast<float>(dx[j]);
            y[found] = static_cast<float>(dy[j]);
            z[found] = static_cast<float>(dz[j]);
            place[found++] = kLanes * block + j;
        }
    }
    return found;
}

/// Direction of each neighbour, its exchange, and the weight that cut-off and wall leave it.
INLINED void weigh(const Committee& committee, int count, Neighbours& near) {
    const float *x = near.x.data(), *y = near.y.data(), *z = near.z.data();
    const float *steepness = near.steepness.data(), *amplitude = near.amplitude.data();
    float *rs = near.r.data(), *per_rs = near.per_r.data();
    float *weight = near.weight.data(), *weight_slope = near.weight_slope.data();
    float *contact = near.contact.data(), *contact_slope = near.contact_slope.data();
    Neighbours::Directions* directions = near.directions.data();
    const float per_limit = static_cast<float>(1 / (committee.cutoff * committee.cutoff));
#pragma omp simd
    for (int p = 0; p < count; ++p) {
        const float r2 = x[p] * x[p] + y[p] * y[p] + z[p] * z[p];
        const float per_r = 1 / std::sqrt(r2 > kLeastSquare ? r2 : kLeastSquare), r = r2 * per_r;
        const float left = 1 - r2 * per_limit, t = left > 0 ? left : 0;
        const float b = steepness[p], s = b * r, decay = amplitude[p] * exp_minus(s);
        const float exchange = decay * (1 + s * (1 + s * (1.0f / 3))), exchange_slope = -b * decay * s * (1 + s) / 3;
        const float wall = 1 / (1 + exchange * exchange);
        rs[p] = r, per_rs[p] = per_r;
        contact[p] = 2 * exchange, contact_slope[p] = 2 * exchange_slope;
        weight[p] = t * t * t * wall;
        weight_slope[p] = t * t * wall * (-6 * r * per_limit - 2 * t * exchange * exchange_slope * wall);
        const float ux = x[p] * per_r, uy = y[p] * per_r, uz = z[p] * per_r;
        float* to = directions[p].of;
        to[0] = ux, to[1] = uy, to[2] = uz;
        square(ux, uy, uz, to + 3);
    }
}

/// Sums of one atom over its neighbours [begin, end), by kind seen.
template <Sight kSight>
INLINED void add_sums(Neighbours& near, const Basis& basis, int begin, int end, float* rows) {
    constexpr int kUsed = kAngles<kSight> ? kGaussians : kRadial;
    for (int p = begin; p < end; ++p) {
        const float r = near.r[p], weight = near.weight[p];
        float* g = near.gaussians[p].of;
#pragma omp simd
        for (int k = 0; k < kUsed; ++k) {
            const float t = (r - basis.centres[k]) * basis.scales[k];
            g[k] = exp_minus(t * t);
        }
        g[kRadial - 1] = near.contact[p];
        if constexpr (kAngles<kSight>) g[kRadial + kAngular - 1] = near.contact[p];
        float* row = rows + near.kind[p] * kSums<kSight>;
#pragma omp simd
        for (int k = 0; k < kRadial; ++k) row[k] += weight * g[k];
        if constexpr (kAngles<kSight>) {
            const float* to = near.directions[p].of;
            for (int l = 0; l < kAngular; ++l) {
                const float amount = weight * g[kRadial + l];
#pragma omp simd
                for (int d = 0; d < kDirections; ++d) row[kScalars<kSight> + l * kDirections + d] += amount * to[d];
            }
        }
    }
}

/// Of weights, from K inputs to N outputs.
struct Matrix {
    Matrix(const float* first, int inputs, int outputs) : Matrix(first, inputs, outputs, outputs, 1) {}
    Matrix(const float* first, int inputs, int outputs, int by_input, int by_output)
        : first(first), inputs(inputs), outputs(outputs), by_input(by_input), by_output(by_output) {}
    INLINED Matrix transposed() const { return {first, outputs, inputs, by_output, by_input}; }

    const float* first;
    int inputs, outputs, by_input, by_output;
};

/// What goes into or comes out of a product: every `step`th of these.
template <class Value>
struct Every {
    INLINED Value& operator[](int k) const { return first[k * step]; }

    Value* first;
    int step = 1;
};

/// out = in weights for all atoms of a batch at once, kTile outputs at a time from n on. Returns how far that goes.
template <int kTile>
INLINED int multiply(const Matrix& weights, Every<const Batch> in, Every<Batch> out, int n) {
    for (; n + kTile <= weights.outputs; n += kTile) {
        const float* w = weights.first + n * weights.by_output;
        Batch total[kTile];
        for (int k = 0; k < weights.inputs; ++k)
#pragma GCC unroll 8
            for (int t = 0; t < kTile; ++t) {
                const float weight = w[k * weights.by_input + t * weights.by_output];
#pragma omp simd
                for (int a = 0; a < kBatch; ++a) total[t].of[a] += weight * in[k].of[a];
            }
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) out[n + t] = total[t];
    }
    return n;
}

INLINED void multiply(const Matrix& weights, Every<const Batch> in, Every<Batch> out) {
    int n = multiply<8>(weights, in, out, 0);  // so many stay in registers
    n = multiply<4>(weights, in, out, n);
    multiply<1>(weights, in, out, n);
}

/// A table's rows for the kinds of the atoms; what lanes without an atom hold is never used.
INLINED void look_up(const std::vector<float>& table, int columns, const int* kind, int atoms, Batch* out) {
    for (int a = 0; a < atoms; ++a) {
        const float* row = table.data() + kind[a] * columns;
        for (int k = 0; k < columns; ++k) out[k].of[a] = row[k];
    }
}

/// What the networks know of the atoms' kinds, and of those seen.
INLINED void look_up(const Committee& committee, int atoms, Workspace& work) {
    const int all = committee.members * committee.channels;
    look_up(committee.gate, all, work.kind, atoms, work.gate.data());
    look_up(committee.own, committee.members * committee.hidden, work.kind, atoms, work.own.data());
    look_up(committee.offset, committee.members, work.kind, atoms, work.offset.data());
    for (std::size_t s = 0; s < work.seen.size(); ++s)
        std::copy_n(&committee.embedding[work.seen[s] * all], all, &work.embedding[s * all]);
}

/// Sums over neighbours weighted by the embedding, and from these the inputs of the networks.
template <Sight kSight>
INLINED void mix(const Committee& committee, Workspace& work) {
    const int seen = static_cast<int>(work.seen.size()), channels = committee.channels;
    const int all = committee.members * channels;
    const Matrix embedding(work.embedding.data(), seen, all);
    for (int f = 0; f < kSums<kSight>; ++f)
        multiply(embedding, {&work.sums[f], kSums<kSight>}, {&work.mixed[f * all]});
    for (int m = 0; m < committee.members; ++m)
        for (int c = 0; c < channels; ++c) {
            const int column = m * channels + c;
            const Batch* mixed = &work.mixed[column];
            Batch* features = &work.features[m * committee.features + c];
            const float* gate = work.gate[column].of;
            for (int k = 0; k < kScalars<kSight>; ++k)
#pragma omp simd
                for (int a = 0; a < kBatch; ++a) features[k * channels].of[a] = mixed[k * all].of[a] * gate[a];
            if constexpr (kAngles<kSight>) {
                Batch *odd = features + kScalars<kSight> * channels, *even = odd + kAngular * channels;
                for (int l = 0; l < kAngular; ++l) {
                    const Batch* v = mixed + (kScalars<kSight> + l * kDirections) * all;
#pragma omp simd
                    for (int a = 0; a < kBatch; ++a) {
                        float first = 1, second = 1;
                        for (int d = 0; d < 3; ++d) first += v[d * all].of[a] * v[d * all].of[a];
                        for (int d = 3; d < kDirections; ++d) second += v[d * all].of[a] * v[d * all].of[a];
                        odd[l * channels].of[a] = std::sqrt(first) - 1;
                        even[l * channels].of[a] = std::sqrt(second) - 1;
                    }
                }
            }
        }
}

/// The reverse of `mix`: from slopes of the energy with the inputs those with the sums.
template <Sight kSight>
INLINED void unmix(const Committee& committee, Workspace& work) {
    const int seen = static_cast<int>(work.seen.size()), channels = committee.channels;
    const int all = committee.members * channels;
    for (int m = 0; m < committee.members; ++m)
        for (int c = 0; c < channels; ++c) {
            const int column = m * channels + c;
            Batch* mixed = &work.mixed[column];
            const Batch *features = &work.features[m * committee.features + c],
                        *slope = &work.slopes[m * committee.features + c];
            const float* gate = work.gate[column].of;
            for (int k = 0; k < kScalars<kSight>; ++k)
#pragma omp simd
                for (int a = 0; a < kBatch; ++a) mixed[k * all].of[a] = slope[k * channels].of[a] * gate[a];
            if constexpr (kAngles<kSight>) {
                for (int l = 0; l < kAngular; ++l) {
                    const int odd = (kScalars<kSight> + l) * channels, even = odd + kAngular * channels;
                    Batch* v = mixed + (kScalars<kSight> + l * kDirections) * all;
#pragma omp simd
                    for (int a = 0; a < kBatch; ++a) {
                        const float first = slope[odd].of[a] / (1 + features[odd].of[a]);
                        const float second = slope[even].of[a] / (1 + features[even].of[a]);
                        for (int d = 0; d < 3; ++d) v[d * all].of[a] *= first;
                        for (int d = 3; d < kDirections; ++d) v[d * all].of[a] *= second;
                    }
                }
            }
        }
    const Matrix embedding(work.embedding.data(), seen, all);
    for (int f = 0; f < kSums<kSight>; ++f)
        multiply(embedding.transposed(), {&work.mixed[f * all]}, {&work.sums[f], kSums<kSight>});
}

/// Networks of all members from the inputs, and back: adds to the energies, and sets the slopes with the inputs.
INLINED void ask_networks(const Committee& committee, Workspace& work) {
    const int hidden = committee.hidden, inputs = committee.features;
    const float share = static_cast<float>(committee.saturation / committee.members);
    Batch *first = work.first.data(), *second = work.second.data(), *back = work.back.data();
    for (int m = 0; m < committee.members; ++m) {
        const Matrix in(&committee.in[m * inputs * hidden], inputs, hidden);
        const Matrix middle(&committee.middle[m * hidden * hidden], hidden, hidden);
        const float *bias = &committee.bias[m * hidden], *out = &committee.out[m * hidden];
        const Batch* own = &work.own[m * hidden];
        Batch total;  // less what it is without neighbours
#pragma omp simd
        for (int a = 0; a < kBatch; ++a) total.of[a] = -work.offset[m].of[a];
        multiply(in, {&work.features[m * inputs]}, {first});
        for (int h = 0; h < hidden; ++h)
#pragma omp simd
            for (int a = 0; a < kBatch; ++a) first[h].of[a] = tanh_of(first[h].of[a] + own[h].of[a]);
        multiply(middle, {first}, {second});
        for (int h = 0; h < hidden; ++h)
#pragma omp simd
            for (int a = 0; a < kBatch; ++a) {
                second[h].of[a] = tanh_of(second[h].of[a] + bias[h]);
                total.of[a] += out[h] * second[h].of[a];
            }
        Batch slope;
#pragma omp simd
        for (int a = 0; a < kBatch; ++a) {
            const float t = tanh_of(total.of[a]);
            work.energy[a] += share * t;
            slope.of[a] = share * (1 - t * t);
        }
        for (int h = 0; h < hidden; ++h)
#pragma omp simd
            for (int a = 0; a < kBatch; ++a)
                second[h].of[a] = slope.of[a] * out[h] * (1 - second[h].of[a] * second[h].of[a]);
        multiply(middle.transposed(), {second}, {back});
        for (int h = 0; h < hidden; ++h)
#pragma omp simd
            for (int a = 0; a < kBatch; ++a) back[h].of[a] *= 1 - first[h].of[a] * first[h].of[a];
        multiply(in.transposed(), {back}, {&work.slopes[m * inputs]});
    }
}

/// From slopes of the energy with an atom's sums (rows by kind seen) those with the distances of its neighbours
/// [begin, end), and with their directions.
template <Sight kSight>
INLINED void push_apart(const Basis& basis, int begin, int end, const float* rows, Neighbours& near) {
    constexpr int kUsed = kAngles<kSight> ? kGaussians : kRadial;
    for (int p = begin; p < end; ++p) {
        const float r = near.r[p], weight = near.weight[p], weight_slope = near.weight_slope[p];
        const float* row = rows + near.kind[p] * kSums<kSight>;
        alignas(64) float even[kUsed], fall[kUsed];  // a Gaussian with its weight, by distance
        const float* g = near.gaussians[p].of;
#pragma omp simd
        for (int k = 0; k < kUsed; ++k) {
            even[k] = weight * g[k];
            fall[k] = (weight_slope - 2 * weight * (r - basis.centres[k]) * basis.scales[k] * basis.scales[k]) * g[k];
        }
        const float change_of_contact = weight * near.contact_slope[p];  // the basis has a scale of zero there
        fall[kRadial - 1] += change_of_contact;
        if constexpr (kAngles<kSight>) fall[kRadial + kAngular - 1] += change_of_contact;
        float push = 0;
        if constexpr (kAngles<kSight>) {
            const float* to = near.directions[p].of;
            float* torque = near.torque[p].of;
#pragma omp simd reduction(+ : push)
            for (int d = 0; d < kDirections; ++d) {
                float along = row[d] * fall[d], turn = 0, change = 0;
#pragma GCC unroll 4
                for (int l = 0; l < kAngular; ++l) {
                    const float slope = row[kScalars<kSight> + l * kDirections + d];
                    turn += slope * even[kRadial + l];
                    change += slope * fall[kRadial + l];
                }
                torque[d] = turn;
                push += along + to[d] * change;
            }
        } else {
#pragma omp simd reduction(+ : push)
            for (int k = 0; k < kRadial; ++k) push += row[k] * fall[k];
        }
        near.push[p] = push;
    }
}

struct Slope {
    float x, y, z;
};

/// From slopes of the energy with a vector (3) and its traceless square (5) that with the vector.
INLINED Slope slope_with(const float* vector, const float* slopes) {
    const float x = vector[0], y = vector[1], z = vector[2];
    return {slopes[0] + slopes[3] * y + slopes[5] * z + (slopes[6] - kPerRoot3 * slopes[7]) * x,
            slopes[1] + slopes[3] * x + slopes[4] * z - (slopes[6] + kPerRoot3 * slopes[7]) * y,
            slopes[2] + slopes[4] * y + slopes[5] * x + 2 * kPerRoot3 * slopes[7] * z};
}

/// The same with the way in a direction, which is 1 / per_r long.
INLINED Slope slope_with_way(const float* direction, float per_r, const float* slopes) {
    const Slope t = slope_with(direction, slopes);
    const float along = t.x * direction[0] + t.y * direction[1] + t.z * direction[2];
    return {per_r * (t.x - along * direction[0]), per_r * (t.y - along * direction[1]),
            per_r * (t.z - along * direction[2])};
}

/// Add to the force on the atom at a place.
INLINED void push(Vectors* forces, int place, float x, float y, float z) {
    Vectors& force = forces[place / kLanes];
    const int lane = place % kLanes;
    force.x.of[lane] += x, force.y.of[lane] += y, force.z.of[lane] += z;
}

/// Forces of an atom's neighbours [begin, end) on it and back.
template <Sight kSight>
INLINED void add_forces(int place, int begin, int end, Neighbours& near, Vectors* forces) {
    float *x = near.x.data(), *y = near.y.data(), *z = near.z.data();  // vectors, then forces
    float fx = 0, fy = 0, fz = 0;
#pragma omp simd reduction(+ : fx, fy, fz)
    for (int p = begin; p < end; ++p) {
        const float* u = near.directions[p].of;
        const float push = near.push[p];
        float sx = push * u[0], sy = push * u[1], sz = push * u[2];
        if constexpr (kAngles<kSight>) {
            const Slope turn = slope_with_way(u, near.per_r[p], near.torque[p].of);
            sx += turn.x, sy += turn.y, sz += turn.z;
        }
        x[p] = sx, y[p] = sy, z[p] = sz;
        fx += sx, fy += sy, fz += sz;
    }
    for (int p = begin; p < end; ++p) push(forces, near.place[p], -x[p], -y[p], -z[p]);
    push(forces, place, fx, fy, fz);
}

/// Direction of each bond of the atoms of a batch, and their frames.
INLINED void find_bonds(const PairList& list, const AtomTable& table, int atoms, Workspace& work) {
    const NearestImage take_nearest(list.box());
    work.bonds.clear();
    for (int a = 0; a < atoms; ++a) {
        const int place = work.place[a];
        const OpenMM::Vec3 here = list.at(place);
        Frame frame;
        for (int k = table.begin(place); k < table.end[place]; ++k) {
            OpenMM::Vec3 way = list.at(table.bonded[k]) - here;
            take_nearest(way[0], way[1], way[2]);
            const float x = static_cast<float>(way[0]), y = static_cast<float>(way[1]), z = static_cast<float>(way[2]);
            const float r2 = x * x + y * y + z * z, per_r = 1 / std::sqrt(r2 > kLeastSquare ? r2 : kLeastSquare);
            float to[kDirections] = {x * per_r, y * per_r, z * per_r};
            square(to[0], to[1], to[2], to + 3);
            for (int d = 0; d < kDirections; ++d) frame.own[d] += to[d];
            work.bonds.push_back({table.bonded[k], {to[0], to[1], to[2]}, per_r});
        }
        square(frame.own[0], frame.own[1], frame.own[2], frame.squared + 3);
        work.frames[a] = frame;
        work.bonds_end[a] = static_cast<int>(work.bonds.size());
    }
}

/// From an atom's sums over directions (rows by kind seen) those along its bonds.
template <Sight kSight>
INLINED void look_along(const Frame& frame, int seen, float* rows) {
    for (int s = 0; s < seen; ++s) {
        float *along = rows + s * kSums<kSight> + kRadial, *moment = along + kAlong;
        for (int l = 0; l < kAngular; ++l, ++along, moment += kDirections) {
            float vector = 0, tensor = 0, squared = 0;
            for (int d = 0; d < 3; ++d) vector += moment[d] * frame.own[d];
            for (int d = 3; d < kDirections; ++d) tensor += moment[d] * frame.own[d];
            for (int d = 3; d < kDirections; ++d) squared += moment[d] * frame.squared[d];
            along[0] = vector, along[kAngular] = tensor, along[2 * kAngular] = squared;
        }
    }
}

/// The reverse: from slopes of the energy with the sums along bonds adds to those with sums over directions, all in
/// rows by kind seen. Returns the slopes with the frame; moment: the sums over directions.
template <Sight kSight>
INLINED Frame turn_along(const Frame& frame, int seen, const float* moment, float* rows) {
    Frame turn;
    for (int s = 0; s < seen; ++s) {
        float *along = rows + s * kSums<kSight> + kRadial, *slope = along + kAlong;
        for (int l = 0; l < kAngular; ++l, ++along, slope += kDirections, moment += kDirections) {
            const float vector = along[0], tensor = along[kAngular], squared = along[2 * kAngular];
#pragma omp simd
            for (int d = 0; d < kDirections; ++d) {
                const float first = d < 3 ? vector : tensor;
                slope[d] += first * frame.own[d] + squared * frame.squared[d];
                turn.own[d] += first * moment[d];
                turn.squared[d] += squared * moment[d];
            }
        }
    }
    return turn;
}

/// Forces between an atom and those bonded to it, from the slopes of the energy with its frame.
INLINED void turn_bonds(int atom, const Frame& turn, const Workspace& work, Vectors* forces) {
    alignas(4 * kDirections) float with_sum[kDirections] = {}, slopes[kDirections];
    std::copy_n(turn.squared + 3, kDirections - 3, with_sum + 3);
    std::copy_n(turn.own, kDirections, slopes);
    const Slope of_sum = slope_with(work.frames[atom].own, with_sum);
    slopes[0] += of_sum.x, slopes[1] += of_sum.y, slopes[2] += of_sum.z;
    for (int k = atom ? work.bonds_end[atom - 1] : 0; k < work.bonds_end[atom]; ++k) {
        const Bond& bond = work.bonds[k];
        const Slope slope = slope_with_way(bond.direction, bond.per_r, slopes);
        push(forces, work.place[atom], slope.x, slope.y, slope.z);
        push(forces, bond.place, -slope.x, -slope.y, -slope.z);
    }
}

/// Fill a batch with atoms from row `next` on that have neighbours. Returns how many; `next` is where to go on.
INLINED int gather(const Committee& committee, const PairList& list, const Rows& rows, const std::vector<int>& kinds,
                   const Shifts& shifts, std::size_t& next, Workspace& work) {
    Neighbours& near = work.near;
    const float *exponents = committee.exponents.data(), *amplitudes = committee.amplitudes.data();
    const float per_wall = static_cast<float>(1 / committee.wall);
    for (const int kind : work.seen) work.slot[kind] = -1;
    work.seen.clear();
    int atoms = 0, found = 0;
    for (; next < rows.rows.size() && atoms < kBatch; ++next) {
        const Rows::Row& row = rows.rows[next];
        near.reserve(found + kLanes * (row.end - row.begin));
        const int begin = found, kind = kinds[row.place];
        found = find_near(list, rows, row, shifts, committee.cutoff * committee.cutoff, begin, near);
        if (found == begin) continue;
        for (int p = begin; p < found; ++p) {
            const int other = kinds[near.place[p]];
            near.steepness[p] = exponents[kind] * exponents[other];
            near.amplitude[p] = amplitudes[kind] * amplitudes[other] * per_wall;
            int& slot = work.slot[other];
            if (slot < 0) slot = static_cast<int>(work.seen.size()), work.seen.push_back(other);
            near.kind[p] = slot;
        }
        work.place[atoms] = row.place, work.kind[atoms] = kind;
        near.end[atoms++] = found;
    }
    weigh(committee, found, near);
    return atoms;
}

/// Make room for as many kinds as this batch has.
template <Sight kSight>
INLINED void make_room(const Committee& committee, Workspace& work) {
    const std::size_t seen = work.seen.size(), all = committee.members * committee.channels;
    const std::size_t inputs = committee.members * committee.features;
    work.rows.resize(seen * kSums<kSight>);
    work.sums.resize(seen * kSums<kSight>);
    if constexpr (kFrames<kSight>) work.moments.resize(kBatch * seen * kMoments);
    work.embedding.resize(seen * all);
    work.mixed.resize(all * kSums<kSight>);
    work.gate.resize(all);
    work.features.resize(inputs), work.slopes.resize(inputs);
    work.own.resize(committee.members * committee.hidden), work.offset.resize(committee.members);
    for (auto* values : {&work.first, &work.second, &work.back}) values->resize(committee.hidden);
}

/// Strengths of the scalar functions between an atom of a batch and a kind seen there.
template <Sight kSight>
INLINED const float* strengths_of(const Committee& committee, const Workspace& work, int atom, int seen) {
    return &committee.strengths[(work.kind[atom] * committee.kinds + work.seen[seen]) * kScalars<kSight>];
}

/// The sums of all atoms, and what they have by pairs.
template <Sight kSight>
INLINED void sum_up(const Committee& committee, const Basis& basis, int atoms, Workspace& work) {
    const int seen = static_cast<int>(work.seen.size());
    for (int a = 0; a < atoms; ++a) {
        std::fill(work.rows.begin(), work.rows.end(), 0.0f);
        add_sums<kSight>(work.near, basis, work.near.begin(a), work.near.end[a], work.rows.data());
        if constexpr (kFrames<kSight>) look_along<kSight>(work.frames[a], seen, work.rows.data());
        work.energy[a] = 0;
        for (int s = 0; s < seen; ++s) {
            const float *row = &work.rows[s * kSums<kSight>], *strengths = strengths_of<kSight>(committee, work, a, s);
            Batch* sums = &work.sums[s * kSums<kSight>];
            for (int f = 0; f < kSums<kSight>; ++f) sums[f].of[a] = row[f];
            for (int k = 0; k < kScalars<kSight>; ++k) work.energy[a] += strengths[k] * row[k];
            if constexpr (kFrames<kSight>)
                std::copy_n(row + kScalars<kSight>, kMoments, &work.moments[(a * seen + s) * kMoments]);
        }
    }
}

/// Energies and forces of all atoms from what the networks say, which then is in the place of the sums.
template <Sight kSight>
INLINED void pass_on(const Committee& committee, const Basis& basis, int atoms, Workspace& work, Sum& sum) {
    const int seen = static_cast<int>(work.seen.size());
    for (int a = 0; a < atoms; ++a) {
        for (int s = 0; s < seen; ++s) {
            float* row = &work.rows[s * kSums<kSight>];
            const float* strengths = strengths_of<kSight>(committee, work, a, s);
            const Batch* slopes = &work.sums[s * kSums<kSight>];
            for (int f = 0; f < kSums<kSight>; ++f) row[f] = slopes[f].of[a];
            for (int k = 0; k < kScalars<kSight>; ++k) row[k] += strengths[k];
        }
        if constexpr (kFrames<kSight>) {
            const float* moments = &work.moments[a * seen * kMoments];
            turn_bonds(a, turn_along<kSight>(work.frames[a], seen, moments, work.rows.data()), work, sum.force.data());
        }
        const int begin = work.near.begin(a), end = work.near.end[a];
        push_apart<kSight>(basis, begin, end, work.rows.data(), work.near);
        add_forces<kSight>(work.place[a], begin, end, work.near, sum.force.data());
        sum.energy += work.energy[a];
    }
}

template <Sight kSight>
INLINED void add(const Committee& committee, const PairList& list, const AtomTable& table, int thread, Workspace& work,
                 Sum& sum) {
    const Rows& rows = list.rows(thread);
    const Shifts shifts = shifts_of(list.box());
    const Basis basis(committee);
    work.slot.assign(committee.kinds, -1);
    work.seen.clear();
    for (std::size_t next = 0; next < rows.rows.size();) {
        const int atoms = gather(committee, list, rows, table.kind, shifts, next, work);
        if (!atoms) break;
        if constexpr (kFrames<kSight>) find_bonds(list, table, atoms, work);
        make_room<kSight>(committee, work);
        sum_up<kSight>(committee, basis, atoms, work);
        if (committee.members) {
            look_up(committee, atoms, work);
            mix<kSight>(committee, work);
            ask_networks(committee, work);
            unmix<kSight>(committee, work);
        } else {
            std::fill(work.sums.begin(), work.sums.end(), Batch());
        }
        pass_on<kSight>(committee, basis, atoms, work, sum);
    }
}

}  // namespace

void Neighbours::reserve(std::size_t size) {
    if (size <= place.size()) return;
    for (auto* values : {&place, &kind}) values->resize(2 * size);
    for (auto* values : {&x, &y, &z, &steepness, &amplitude, &r, &per_r, &weight, &weight_slope, &contact,
                         &contact_slope, &push})
        values->resize(2 * size);
    gaussians.resize(2 * size), directions.resize(2 * size), torque.resize(2 * size);
}

FOR_EVERY_PROCESSOR
void add_neural(const Committee& committee, const PairList& list, const AtomTable& table, int thread, Workspace& work,
                Sum& sum) {
    switch (committee.sight()) {
        case Sight::distances: return add<Sight::distances>(committee, list, table, thread, work, sum);
        case Sight::directions: return add<Sight::directions>(committee, list, table, thread, work, sum);
        case Sight::bonds: return add<Sight::bonds>(committee, list, table, thread, work, sum);
    }
}

}  // namespace phyff
