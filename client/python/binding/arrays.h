// Arrays as they cross from Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace softloss::python {

namespace nb = nanobind;

// Row-major without gaps, in this machine's memory. Element types that NumPy has no name for travel
// as unsigned integers of their size, with the real DType beside them.
using InputArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using OutputArray = nb::ndarray<nb::c_contig, nb::device::cpu>;

// import_array(obj) -> (NumPy array over the same memory, dtype name): anything with DLPack or the
// buffer protocol, strided or not. bfloat16 comes as uint16, named "bfloat16".
void BindArrays(nb::module_& m);

}  // namespace softloss::python
