// Errors of the client: absl::Status with a payload that says which field and whether to try again.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "softloss/v1/scorer.pb.h"

namespace softloss::internal {

// The status of an item that the server (or this client) refused. An item error without a code of
// its own is INTERNAL.
absl::Status FromItemError(const v1::ItemError& error);

absl::Status MakeError(absl::StatusCode code, const std::string& message, bool retryable);

// Of a check that failed before anything was sent: the field is the text before the first ':'.
absl::Status FromCheck(const absl::Status& status);

// Why a stream ended, as the error of the requests that it leaves unanswered. OK, which a server
// sends when it closes of its own accord, becomes UNAVAILABLE.
absl::Status FromStreamEnd(const grpc::Status& status);

}  // namespace softloss::internal
