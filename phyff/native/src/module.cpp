// Python's door to the kernel. Objects of OpenMM's own module come as the address behind their SWIG proxy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "charge_flow.h"
#include "near_field.h"
#include "neural_force.h"
#include "openmm/PythonForce.h"
#include "pair_force.h"
#include "screened_pairs.h"

namespace nb = nanobind;

namespace {

OpenMM::System& system_at(std::uintptr_t address) { return *reinterpret_cast<OpenMM::System*>(address); }

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

std::vector<float> values(const Floats& array) { return {array.data(), array.data() + array.size()}; }

/// Put the committee in the place of the force with that index, under its name and in its group.
void replace_neural_force(std::uintptr_t address, int index, std::vector<int> particles, std::vector<int> molecules,
                          std::vector<int> kinds, double cutoff, double wall, double saturation, Floats centres,
                          Floats widths, Floats exponents, Floats amplitudes, Floats strengths, Floats embedding,
                          Floats gate, Floats own, Floats offset, Floats in, Floats middle, Floats bias, Floats out,
                          std::vector<std::pair<int, int>> bonds) {
    OpenMM::System& system = system_at(address);
    phyff::Committee committee;
    committee.kinds = static_cast<int>(exponents.size());
    committee.scalars = static_cast<int>(strengths.shape(2));
    if (in.size()) {
        committee.members = static_cast<int>(in.shape(0));
        committee.features = static_cast<int>(in.shape(1));
        committee.hidden = static_cast<int>(in.shape(2));
        committee.channels = static_cast<int>(embedding.shape(2));
    }
    committee.cutoff = cutoff, committee.wall = wall, committee.saturation = saturation;
    committee.centres = values(centres), committee.widths = values(widths);
    committee.exponents = values(exponents), committee.amplitudes = values(amplitudes);
    committee.strengths = values(strengths), committee.embedding = values(embedding), committee.gate = values(gate);
    committee.own = values(own), committee.offset = values(offset), committee.in = values(in);
    committee.middle = values(middle), committee.bias = values(bias), committee.out = values(out);
    const OpenMM::Force& stock = system.getForce(index);
    phyff::NeuralAtoms atoms{std::move(particles), std::move(molecules), std::move(kinds), std::move(bonds)};
    auto force = std::make_unique<phyff::NeuralForce>(std::move(committee), std::move(atoms),
                                                      stock.usesPeriodicBoundaryConditions());
    force->setName(stock.getName());
    force->setForceGroup(stock.getForceGroup());
    system.addForce(force.release());
    system.removeForce(index);
}

void add_screened_pairs(std::uintptr_t address, const std::string& name, int group, std::vector<int> first,
                        std::vector<int> second, std::vector<double> product, std::vector<double> screening) {
    auto force = std::make_unique<phyff::ScreenedPairs>(
        phyff::ScreenedCharges{std::move(first), std::move(second), std::move(product), std::move(screening)});
    force->setName(name);
    force->setForceGroup(group);
    system_at(address).addForce(force.release());
}

/// Put the kernel in the place of the force with that index, under its name and in its group.
void replace_charge_flow(std::uintptr_t address, int index, double coulomb, double switch_start, double cutoff,
                         double reach) {
    OpenMM::System& system = system_at(address);
    const auto& stock = dynamic_cast<const OpenMM::CustomHbondForce&>(system.getForce(index));
    system.addForce(new phyff::ChargeFlow(stock, coulomb, {switch_start, cutoff, reach}));
    system.removeForce(index);
}

/// The same with a near field.
void replace_near_field(std::uintptr_t address, int index, double switch_start, double cutoff) {
    OpenMM::System& system = system_at(address);
    const auto& stock = dynamic_cast<const OpenMM::CustomHbondForce&>(system.getForce(index));
    system.addForce(new phyff::NearField(stock, switch_start, cutoff));
    system.removeForce(index);
}

}  // namespace

NB_MODULE(phyff_native, module) {
    module.doc() = "PhyFF's pair forces, charge flow, near fields and neural term as native OpenMM forces.";
    module.attr("openmm_version") = OPENMM_VERSION;
    // What older kernels cannot: the neural term the first two, charge flow the third.
    module.attr("sees_exchange") = true;
    module.attr("compiles_for_gpus") = true;
    module.attr("flows_through_space") = true;
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
    module.def(
        "pickled_function",
        [](std::uintptr_t address, int index) {
            const auto& force = dynamic_cast<const OpenMM::PythonForce&>(system_at(address).getForce(index));
            return nb::bytes(force.getPickledFunction().data(), force.getPickledFunction().size());
        },
        nb::arg("system"), nb::arg("index"),
        "Of the PythonForce with that index; OpenMM's own method returns an object that Python cannot read.");
    module.def("add_screened_pairs", &add_screened_pairs, nb::arg("system"), nb::arg("name"), nb::arg("group"),
               nb::arg("first"), nb::arg("second"), nb::arg("product"), nb::arg("screening"),
               "Add charges that meet damped as those of a DrudeForce's screened pairs do: particles, products of "
               "charges (kJ/mol nm) and screenings (1/nm).");
    module.def("replace_charge_flow", &replace_charge_flow, nb::arg("system"), nb::arg("index"), nb::kw_only(),
               nb::arg("coulomb"), nb::arg("switch_start"), nb::arg("cutoff"), nb::arg("reach"),
               "Put the kernel in the place of the CustomHbondForce with that index; numbers as in FlowRange in "
               "charge_flow.h.");
    module.def("replace_near_field", &replace_near_field, nb::arg("system"), nb::arg("index"), nb::kw_only(),
               nb::arg("switch_start"), nb::arg("cutoff"),
               "Put the kernel in the place of the CustomHbondForce with that index; distances in nm.");
    module.def("replace_neural_force", &replace_neural_force, nb::arg("system"), nb::arg("index"), nb::kw_only(),
               nb::arg("particles"), nb::arg("molecules"), nb::arg("kinds"), nb::arg("cutoff"), nb::arg("wall"),
               nb::arg("saturation"), nb::arg("centres"), nb::arg("widths"), nb::arg("exponents"),
               nb::arg("amplitudes"), nb::arg("strengths"), nb::arg("embedding"), nb::arg("gate"), nb::arg("own"),
               nb::arg("offset"), nb::arg("in"), nb::arg("middle"), nb::arg("bias"), nb::arg("out"),
               nb::arg("bonds") = std::vector<std::pair<int, int>>(),
               "Put the kernel in the place of the force with that index; arrays have the shapes of Committee in "
               "neural_terms.h, and none of a network's elements where there is no network.");
}
