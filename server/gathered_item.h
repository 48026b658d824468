// Items that are scored whole, since each of their gradients depends on all of them (regional losses),
// and come in several chunks: what has come is kept, and joined when the last is there.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/wire/message.h"
#include "server/item.h"

namespace softloss {

// Takes a chunk, as MakeChunkTask does. The first one reserves the whole item's bytes, of request and
// reply, so that an item that does not fit is refused before it is sent; the chunk's credit may then be
// returned at once.
absl::Status GatherChunk(const ServingContext& context, const std::shared_ptr<Tenant>& tenant,
                         const std::shared_ptr<ItemState>& item, const wire::Bulk& bulk,
                         std::int64_t rows, std::int64_t max_tensor_bytes, std::int64_t wire_bytes,
                         std::shared_ptr<const void> received, TimePoint now);

// The task of all chunks, of which the last has been gathered. Its parts are the replies. UNAVAILABLE if
// there is no memory for them.
absl::StatusOr<std::unique_ptr<ChunkTask>> JoinChunks(const ServingContext& context,
                                                      const std::shared_ptr<Tenant>& tenant,
                                                      const std::shared_ptr<ItemState>& item,
                                                      TimePoint now);

}  // namespace softloss
