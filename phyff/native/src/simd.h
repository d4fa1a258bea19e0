// What the inner loops share: one binary for old and new processors, and arithmetic that vectorises on all.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif
#if defined(__GNUC__)
#define INLINED inline __attribute__((always_inline))  // or the loops of a clone would call code for old processors
#define INLINED_LAMBDA __attribute__((always_inline))
#else
#define INLINED inline
#define INLINED_LAMBDA
#endif

namespace phyff {

constexpr int kLanes = 8;  // doubles of the widest register

struct alignas(8 * kLanes) Lanes {
    double of[kLanes] = {};
};

INLINED double total(const Lanes& x) {
    return ((x.of[0] + x.of[4]) + (x.of[1] + x.of[5])) + ((x.of[2] + x.of[6]) + (x.of[3] + x.of[7]));
}

constexpr double kShift = 0x1.8p52;  // adding it rounds a double to an integer, kept in the low bits

INLINED double nearest(double x) { return (x + kShift) - kShift; }

template <class Real>
INLINED Real at_most(Real x, Real limit) {
    return x < limit ? x : limit;
}

/// c[k] + c[k + step] x + c[k + 2 step] x^2 + ...
template <std::size_t k, std::size_t step, class Real, std::size_t n>
INLINED Real every(const std::array<Real, n>& c, Real x) {
    if constexpr (k + step < n)
        return c[k] + x * every<k + step, step>(c, x);
    else
        return c[k];
}

/// c[0] + c[1] x + ... in two chains of operations that do not wait for each other.
template <class Real, std::size_t n>
INLINED Real polynomial(const std::array<Real, n>& c, Real x) {
    return every<0, 2>(c, x * x) + x * every<1, 2>(c, x * x);
}

/// exp(-x) for x >= 0, to 1e-11, or 1e-304 from 700 on.
INLINED double exp_minus(double x) {
    constexpr std::array series = {1.0,       1.0 / 1,   1.0 / 2,    1.0 / 6,     1.0 / 24,
                                   1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880};
    const double bounded = at_most(x, 700.0), shifted = kShift - bounded * std::numbers::log2e;
    const double remainder = -bounded - (shifted - kShift) * std::numbers::ln2;  // below ln(2)/2
    const double power = std::bit_cast<double>((std::bit_cast<std::uint64_t>(shifted) + 1023) << 52);
    return polynomial(series, remainder) * power;
}

/// The same in single precision, to 1e-6 up to 10, or 1e-35 from 80 on.
INLINED float exp_minus(float x) {
    constexpr std::array series = {1.0f,      1.0f / 1,   1.0f / 2,   1.0f / 6,
                                   1.0f / 24, 1.0f / 120, 1.0f / 720, 1.0f / 5040};
    constexpr float shift = 0x1.8p23f;
    const float bounded = at_most(x, 80.0f), shifted = shift - bounded * std::numbers::log2e_v<float>;
    const float remainder = -bounded - (shifted - shift) * std::numbers::ln2_v<float>;
    const float power = std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + 127) << 23);
    return polynomial(series, remainder) * power;
}

/// tanh, to 1e-7 of one.
INLINED float tanh_of(float x) {
    const float decay = exp_minus(2 * std::fabs(x));
    return std::copysign((1 - decay) / (1 + decay), x);
}

}  // namespace phyff
