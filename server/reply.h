// A reply message, encoded but for its bulk bytes, which stay in their slabs.
#pragma once

#include <cstdint>
#include <string>

#include "server/byte_budget.h"
#include "server/slab_pool.h"
#include "softloss/v1/scorer.pb.h"

namespace softloss {

// On the wire: head, gradient's bytes, middle, row_loss's bytes.
struct Reply {
  std::string head;
  Slab gradient;
  std::string middle;
  Slab row_loss;
  Charge charge;  // held until the reply has been written

  std::int64_t bulk_bytes() const {
    return static_cast<std::int64_t>(gradient.size() + row_loss.size());
  }
  std::size_t size() const {
    return head.size() + gradient.size() + middle.size() + row_loss.size();
  }
};

// Encodes in canonical form: `header` as field 1, then the slabs that are not empty.
Reply EncodeBulkReply(const google::protobuf::MessageLite& header, Slab gradient, Slab row_loss,
                      Charge charge);

// A StreamResponse without bulk bytes.
Reply EncodeControlReply(const v1::StreamResponse& response);

}  // namespace softloss
