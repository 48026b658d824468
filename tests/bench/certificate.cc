#include "tests/bench/certificate.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace softloss {

Certificate::Certificate() {
  std::string name = (std::filesystem::temp_directory_path() / "softloss.XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  folder_ = name;
  const std::string command =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
      "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout " +
      key_path() + " -out " + certificate_path() + " 2>/dev/null";
  if (std::system(command.c_str()) != 0) {
    std::fprintf(stderr, "no certificate: %s failed\n", command.c_str());
    std::exit(1);
  }
}

Certificate::~Certificate() { std::filesystem::remove_all(folder_); }

std::shared_ptr<grpc::ChannelCredentials> Certificate::ClientCredentials() const {
  std::ifstream file(certificate_path(), std::ios::binary);
  grpc::SslCredentialsOptions options;
  options.pem_root_certs.assign(std::istreambuf_iterator<char>(file), {});
  return grpc::SslCredentials(options);
}

}  // namespace softloss
