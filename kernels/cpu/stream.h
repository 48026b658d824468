// Writing past the caches what nobody reads soon: a plain store first reads the line that it changes.
#pragma once

#include <cstddef>

namespace softloss::cpu {

// Copies `size` bytes, at any alignment. Others see them after FlushStream().
void StreamCopy(const void* from, void* to, std::size_t size);
void FlushStream();

// What places must be aligned to, in bytes, for vectors to go there past the caches.
std::size_t StreamAlignment();

}  // namespace softloss::cpu
