#include "server/reply.h"

#include <utility>

#include "proto/wire/message.h"

namespace softloss {

Reply EncodeBulkReply(const google::protobuf::MessageLite& header, Slab gradient, Slab row_loss,
                      Charge charge) {
  Reply reply;
  wire::AppendHeader(header, &reply.head);
  if (gradient.size() > 0) {
    wire::AppendBulkTag(wire::kGradient, gradient.size(), &reply.head);
  }
  if (row_loss.size() > 0) {
    std::string& before = gradient.size() > 0 ? reply.middle : reply.head;
    wire::AppendBulkTag(wire::kRowLoss, row_loss.size(), &before);
  }
  reply.gradient = std::move(gradient);
  reply.row_loss = std::move(row_loss);
  reply.charge = std::move(charge);
  return reply;
}

Reply EncodeControlReply(const v1::StreamResponse& response) {
  Reply reply;
  reply.head = response.SerializeAsString();
  return reply;
}

}  // namespace softloss
