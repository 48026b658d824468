#include "server/call.h"

#include <grpcpp/security/auth_context.h>

#include "absl/strings/match.h"

namespace softloss {

void CallRegistry::Add(const void* key, std::weak_ptr<LiveCall> call) {
  std::lock_guard<std::mutex> lock(mutex_);
  calls_[key] = std::move(call);
}

void CallRegistry::Remove(const void* key) {
  std::lock_guard<std::mutex> lock(mutex_);
  calls_.erase(key);
  if (calls_.empty()) empty_.notify_all();
}

void CallRegistry::ForEach(const std::function<void(LiveCall&)>& visit) {
  std::vector<std::shared_ptr<LiveCall>> calls;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, weak] : calls_) {
      if (std::shared_ptr<LiveCall> call = weak.lock()) calls.push_back(std::move(call));
    }
  }
  for (const std::shared_ptr<LiveCall>& call : calls) visit(*call);
}

bool CallRegistry::WaitUntilEmpty(TimePoint deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  return empty_.wait_until(lock, deadline, [&] { return calls_.empty(); });
}

std::string TenantName(const grpc::ServerContext& context) {
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  if (auth != nullptr && auth->IsPeerAuthenticated()) {
    const std::vector<grpc::string_ref> identity = auth->GetPeerIdentity();
    if (!identity.empty()) return std::string(identity[0].data(), identity[0].size());
  }
  return absl::StartsWith(context.peer(), "unix") ? "unix" : "default";
}

std::string SharedMemorySocketFor(const grpc::ServerContext& caller,
                                  const ServingContext& context) {
  // gRPC escapes the brackets of IPv6 addresses.
  const std::string peer = caller.peer();
  for (const char* here : {"unix:", "ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D"}) {
    if (absl::StartsWith(peer, here)) return context.shared_memory_socket;
  }
  return "";
}

}  // namespace softloss
