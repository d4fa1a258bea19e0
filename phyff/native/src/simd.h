// What the inner loops share: one binary for old and new processors, and arithmetic that vectorises on all.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

namespace phyff {

constexpr double kShift = 0x1.8p52;  // adding it rounds a double to an integer, kept in the low bits

inline double nearest(double x) { return (x + kShift) - kShift; }

/// exp(-x) for 0 <= x <= 700, to 2e-16.
inline double exp_minus(double x) {
    const double shifted = kShift - x * 1.4426950408889634;
    const double n = shifted - kShift;
    const double r = (-x - n * 0x1.62e42fefa38p-1) - n * 0x1.ef35793c7673p-45;  // |r| < ln(2)/2
    double p = 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * std::bit_cast<double>((std::bit_cast<std::uint64_t>(shifted) + 1023) << 52);
}

}  // namespace phyff
