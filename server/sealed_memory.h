// Mapping a file descriptor that a stranger gave.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace softloss {

// Maps all of `fd`, shared and writable; unmaps when the last copy goes. The descriptor may be closed
// afterwards. INVALID_ARGUMENT, naming the rule that is broken, unless it is a memfd of `size` bytes
// in small pages that is sealed against shrinking, growing and further seals: then no access to the
// mapping can fail, whatever the peer does to the file. RESOURCE_EXHAUSTED if there is no room.
absl::StatusOr<std::shared_ptr<std::byte>> MapSealedMemory(int fd, std::uint64_t size);

}  // namespace softloss
