// What this server is able to do, as GetCapabilities tells it.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/support/async_unary_call.h>

#include "server/call.h"

namespace softloss {

// Asked of the backend, so that it cannot promise more than is there.
v1::GetCapabilitiesResponse Capabilities(const ServingContext& context,
                                         const std::string& shared_memory_socket = "");

// Posts the first GetCapabilities on the queue.
void AcceptCapabilitiesCalls(const CallEnv* env);

}  // namespace softloss
