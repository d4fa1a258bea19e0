// Python's door to the kernel. Objects of OpenMM's own module come as the address behind their SWIG proxy.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "pair_force.h"

namespace nb = nanobind;

namespace {

OpenMM::System& system_at(std::uintptr_t address) { return *reinterpret_cast<OpenMM::System*>(address); }

}  // namespace

NB_MODULE(phyff_native, module) {
    module.doc() = "PhyFF's pair forces as native OpenMM forces.";
    module.attr("openmm_version") = OPENMM_VERSION;
    module.def(
        "replaceable",
        [](std::uintptr_t address) {
            std::vector<std::string> names;
            const OpenMM::System& system = system_at(address);
            for (int k = 0; k < system.getNumForces(); ++k)
                if (phyff::term_for(system.getForce(k))) names.push_back(system.getForce(k).getName());
            return names;
        },
        nb::arg("system"), "Names of the forces, in the System at that address, which the kernel stands for.");
    module.def(
        "replace_forces", [](std::uintptr_t address) { phyff::replace_forces(system_at(address)); },
        nb::arg("system"), "Put the kernel in the place of those forces.");
}
