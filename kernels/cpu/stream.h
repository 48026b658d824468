// Writing past the caches what nobody reads soon: a plain store first reads the line that it changes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace softloss::cpu {

// Copies `size` bytes: past the caches if `to` is aligned for that, else as ever, since lines that are
// written in two pieces cost more than they save. Others see them after FlushStream().
void StreamCopy(const void* from, void* to, std::size_t size);
void FlushStream();

// What places must be aligned to, in bytes, for vectors to go there past the caches.
std::size_t StreamAlignment();
inline bool IsStreamable(const void* place) {
  return reinterpret_cast<std::uintptr_t>(place) % StreamAlignment() == 0;
}

}  // namespace softloss::cpu
