// Asynchronous copies into shared memory: rubbish until they were waited for.
#pragma once

#include <cstddef>

#include "tests/kernels/cuda_emulation/grid.h"

inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t size) {
  if (size != 4 && size != 8 && size != 16) cuda_emulation::Fail("copies of 4, 8 or 16 bytes only");
  cuda_emulation::CopyLater(to, from, size);
}
inline void __pipeline_commit() { cuda_emulation::CommitCopies(); }
inline void __pipeline_wait_prior(unsigned groups) { cuda_emulation::WaitForCopies(groups); }
