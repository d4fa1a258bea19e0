#include "context.h"

#include <algorithm>
#include <string>

#include "openmm/Platform.h"

using namespace OpenMM;

namespace phyff {

namespace {

int threads_of(ContextImpl& context) {
    Platform& platform = context.getPlatform();
    const auto& names = platform.getPropertyNames();
    if (std::find(names.begin(), names.end(), "Threads") == names.end()) return 1;
    return std::max(1, std::stoi(platform.getPropertyValue(context.getOwner(), "Threads")));
}

}  // namespace

Threads::Threads(ContextImpl& context) : pool_(std::make_unique<ThreadPool>(threads_of(context))) {}

void Threads::run(const std::function<void(int)>& work) {
    if (number() == 1) return work(0);
    pool_->execute([&work](ThreadPool&, int thread) { work(thread); });
    pool_->waitForThreads();
}

Box box_of(ContextImpl& context) {
    Vec3 a, b, c;
    context.getPeriodicBoxVectors(a, b, c);
    return {a[0], b[0], b[1], c[0], c[1], c[2]};
}

}  // namespace phyff
