// A certificate for 127.0.0.1 that signs itself.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/security/credentials.h>

namespace softloss {

// Made by the openssl program, in a folder that goes with this object. Ends the process with a message if
// that fails.
class Certificate {
 public:
  Certificate();
  ~Certificate();
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  std::string certificate_path() const { return folder_ + "/certificate.pem"; }
  std::string key_path() const { return folder_ + "/key.pem"; }

  // Trusts it.
  std::shared_ptr<grpc::ChannelCredentials> ClientCredentials() const;

 private:
  std::string folder_;
};

}  // namespace softloss
