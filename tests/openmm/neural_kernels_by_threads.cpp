// neural_kernels.cl as C++, the work items of a group as threads: for sanitizers, which see what no GPU tells. Prints
// the energy of random atoms, and by finite differences and by the kernel the force on one of them.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

// What OpenMM puts before a kernel.
#define KERNEL
#define DEVICE static
#define GLOBAL
#define LOCAL static
#define RESTRICT __restrict__
#define BLOCK 64
static thread_local int item;
static std::barrier<> all_items(BLOCK);
#define LOCAL_ID item
#define GROUP_ID 0
#define NUM_GROUPS 1
#define GLOBAL_ID item
#define GLOBAL_SIZE BLOCK
#define SYNC_THREADS all_items.arrive_and_wait();
#define ATOMIC_ADD(to, value) std::atomic_ref(*(to)).fetch_add(value)
using real = double;
using mixed = double;
using mm_long = long long;
using mm_ulong = unsigned long long;
struct real3 {
    real x, y, z;
};
struct real4 {
    real x, y, z, w;
};
static real3 make_real3(real x, real y, real z) { return {x, y, z}; }
static mm_long realToFixedPoint(real x) { return static_cast<mm_long>(x * 0x100000000); }
#define APPLY_PERIODIC_TO_DELTA(d)                                       \
    d.x -= floor(d.x * invPeriodicBoxSize.x + 0.5) * periodicBoxSize.x; \
    d.y -= floor(d.y * invPeriodicBoxSize.y + 0.5) * periodicBoxSize.y; \
    d.z -= floor(d.z * invPeriodicBoxSize.z + 0.5) * periodicBoxSize.z;
using std::exp, std::fabs, std::sqrt;

// What neural_gpu.cpp defines. CAPACITY, MEMBERS, CHANNELS and HIDDEN come from the command line.
#define PERIODIC
#define ATOMS 36
#define PARTICLES 40
#define PADDED 64
#define KINDS 5
#define SCALARS 20
#define FEATURES (28 * CHANNELS)
#define SUMS 52
#define RADIAL 8
#define ANGULAR 4
#define DIRECTIONS 8
#define SEE_DIRECTIONS 1
#define SEE_BONDS 1
#define MOST_BONDS 2
#define CUTOFF 0.55f
#define SKIN 0.07f
#define PER_WALL 0.005f
#define SHARE 6.0f
#define PER_ROOT_3 0.577350269f
#define CENTRES 0
#define SCALES (CENTRES + 10)
#define EXPONENTS (SCALES + 10)
#define AMPLITUDES (EXPONENTS + KINDS)
#define STRENGTHS (AMPLITUDES + KINDS)
#define EMBEDDING (STRENGTHS + KINDS * KINDS * SCALARS)
#define GATE (EMBEDDING + KINDS * MEMBERS * CHANNELS)
#define OWN (GATE + KINDS * MEMBERS * CHANNELS)
#define OFFSET (OWN + KINDS * MEMBERS * HIDDEN)
#define IN (OFFSET + KINDS * MEMBERS)
#define MIDDLE (IN + MEMBERS * FEATURES * HIDDEN)
#define BIAS (MIDDLE + MEMBERS * HIDDEN * HIDDEN)
#define OUT (BIAS + MEMBERS * HIDDEN)
#define WEIGHTS (OUT + MEMBERS * HIDDEN)
#include "neural_kernels.cl"

int main() {
    constexpr int molecules = 6;
    constexpr double edge = 1.2;
    std::mt19937 random(1);
    std::uniform_real_distribution<double> uniform(0, 1);
    std::vector<float> weights(WEIGHTS);
    for (float& w : weights) w = static_cast<float>(0.4 * uniform(random) - 0.2);
    for (int k = 0; k < RADIAL - 1; ++k) weights[CENTRES + k] = 0.16f + 0.05f * k, weights[SCALES + k] = 1 / 0.06f;
    for (int k = 0; k < ANGULAR - 1; ++k)
        weights[CENTRES + 7 + k] = 0.18f + 0.08f * k, weights[SCALES + 7 + k] = 1 / 0.1f;
    for (int k = 0; k < KINDS; ++k) weights[EXPONENTS + k] = 6, weights[AMPLITUDES + k] = 300;

    // Particles lie in an order of their own; four of them are no atoms.
    std::vector<real4> posq(PARTICLES);
    for (int k = 0; k < PARTICLES; ++k)
        posq[k] = {0.3 * (k % 4) + 0.1 * uniform(random), 0.3 * (k / 4 % 4) + 0.1 * uniform(random),
                   0.4 * (k / 16) + 0.1 * uniform(random), 0};
    std::vector<int> particle_at(PARTICLES), atom_of(PARTICLES, -1), molecule(ATOMS), kinds(ATOMS), bonds_end, bonded;
    for (int k = 0; k < PARTICLES; ++k) particle_at[k] = 7 * k % PARTICLES;
    for (int k = 0; k < ATOMS; ++k) {
        atom_of[k] = k, molecule[k] = k % molecules, kinds[k] = k * KINDS / ATOMS;
        if (k + molecules < ATOMS) bonded.push_back(k + molecules);
        if (k >= molecules) bonded.push_back(k - molecules);
        bonds_end.push_back(static_cast<int>(bonded.size()));
    }
    std::vector<int> place(ATOMS), state{1}, list(CAPACITY * ATOMS), number(ATOMS);
    std::vector<real4> listed(ATOMS + 3);
    std::vector<float> scratch(2 * KINDS * SUMS);
    const real4 size{edge, edge, edge, 0}, per_size{1 / edge, 1 / edge, 1 / edge, 0};
    const real4 a{edge, 0, 0, 0}, b{0, edge, 0, 0}, c{0, 0, edge, 0};
    const auto evaluate = [&](std::vector<mm_ulong>& forces) {
        forces.assign(3 * PADDED, 0);
        std::vector<mixed> energies(BLOCK);
        const auto work = [&](int number_of_item) {
            item = number_of_item;
            findPlaces(particle_at.data(), atom_of.data(), place.data());
            SYNC_THREADS
            if (item == 0) checkList(posq.data(), place.data(), listed.data(), state.data(), size, per_size, a, b, c);
            SYNC_THREADS
            makeList(posq.data(), place.data(), molecule.data(), state.data(), listed.data(), list.data(),
                     number.data(), size, per_size, a, b, c);
            SYNC_THREADS
            listMade(state.data());
            SYNC_THREADS
            addNeural(forces.data(), energies.data(), posq.data(), place.data(), molecule.data(), kinds.data(),
                      bonds_end.data(), bonded.data(), list.data(), number.data(), weights.data(), scratch.data(), size,
                      per_size, a, b, c);
        };
        std::vector<std::thread> threads;
        for (int k = 0; k < BLOCK; ++k) threads.emplace_back(work, k);
        for (std::thread& thread : threads) thread.join();
        double total = 0;
        for (const mixed energy : energies) total += energy;
        return total;
    };

    std::vector<mm_ulong> forces, ignored;
    const double energy = evaluate(forces), step = 1e-3;
    std::printf("%d %.6f\n", *std::max_element(number.begin(), number.end()), energy);
    const int where = place[13];
    double slope = 0;
    for (const int way : {1, -1}) {
        posq[where].y += way * step;
        slope += way * evaluate(ignored) / (2 * step);
        posq[where].y -= way * step;
    }
    std::printf("%.6f %.6f\n", -slope, static_cast<mm_long>(forces[where + PADDED]) / double(0x100000000));
}
