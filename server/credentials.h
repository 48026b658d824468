// The server's transport security, from its options.
#pragma once

#include <memory>

#include <grpcpp/security/server_credentials.h>

#include "absl/status/statusor.h"
#include "server/server_options.h"

namespace softloss {

// Plaintext without tls_cert; with it TLS, and with tls_client_ca a client certificate is required
// and verified. NOT_FOUND names an option whose file cannot be read.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerOptions& options);

}  // namespace softloss
