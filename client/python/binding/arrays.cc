#include "client/python/binding/arrays.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

namespace softloss::python {
namespace {

using ForeignArray = nb::ndarray<nb::ro>;
using NumpyArray = nb::ndarray<nb::numpy, nb::ro>;

std::string Describe(nb::dlpack::dtype dtype) {
  using Code = nb::dlpack::dtype_code;
  const std::string bits = std::to_string(dtype.bits);
  switch (static_cast<Code>(dtype.code)) {
    case Code::Int: return "int" + bits;
    case Code::UInt: return "uint" + bits;
    case Code::Float: return "float" + bits;
    case Code::Bfloat: return "bfloat" + bits;
    case Code::Complex: return "complex" + bits;
    case Code::Bool: return "bool";
    default: return "dtype" + std::to_string(dtype.code) + "_" + bits;
  }
}

std::pair<NumpyArray, std::string> ImportArray(const ForeignArray& array) {
  if (array.device_type() != nb::device::cpu::value) {
    throw nb::type_error("the array is on an accelerator; copy it to the CPU first");
  }
  const std::string name = Describe(array.dtype());
  nb::dlpack::dtype dtype = array.dtype();
  if (name == "bfloat16") dtype = nb::dtype<std::uint16_t>();
  std::vector<std::size_t> shape(array.ndim());
  std::vector<std::int64_t> strides(array.ndim());
  for (std::size_t i = 0; i < array.ndim(); ++i) {
    shape[i] = array.shape(i);
    strides[i] = array.stride(i);
  }
  // The producer's memory lives as long as the view does.
  auto owner = std::make_unique<ForeignArray>(array);
  nb::capsule keep(owner.get(), [](void* p) noexcept { delete static_cast<ForeignArray*>(p); });
  owner.release();
  return {NumpyArray(array.data(), array.ndim(), shape.data(), keep, strides.data(), dtype), name};
}

}  // namespace

void BindArrays(nb::module_& m) { m.def("import_array", &ImportArray, nb::arg("array")); }

}  // namespace softloss::python
