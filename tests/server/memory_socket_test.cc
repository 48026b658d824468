#include "server/memory_socket.h"

#include <dirent.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/metrics.h"
#include "tests/testing/memfd.h"
#include "tests/testing/memory_peer.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::MemoryFile;
using testing::MemoryPeer;
using testing::StatusIs;

class MemorySocketTest : public ::testing::Test {
 protected:
  MemorySocketTest() {
    std::string name = (std::filesystem::temp_directory_path() / "softloss.XXXXXX").string();
    folder_ = mkdtemp(name.data());
    Listen();
  }
  ~MemorySocketTest() override {
    socket_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::string path() const { return folder_ + "/memory"; }

  void Listen() {
    absl::StatusOr<std::unique_ptr<MemorySocket>> socket =
        MemorySocket::Listen(path(), &regions_, &metrics_);
    ASSERT_THAT(socket, IsOk());
    socket_ = *std::move(socket);
  }

  // Once the server has seen that a peer is gone: it serves in turn.
  void WaitForSessions(std::int64_t n) {
    while (regions_.sessions() != n) MemoryPeer(path()).Free(1);
  }

  static std::size_t OpenDescriptors() {
    std::size_t n = 0;
    DIR* const listing = opendir("/proc/self/fd");
    while (readdir(listing) != nullptr) ++n;
    closedir(listing);
    return n;
  }

  std::string folder_;
  Metrics metrics_{{.version = "test", .backend = "cpu", .numerics_id = "test"}};
  RegionTable regions_{{.sessions = 4,
                        .tenant_sessions = 3,
                        .session_regions = 3,
                        .tenant_regions = 5,
                        .session_bytes = 1 << 20,
                        .tenant_bytes = 2 << 20}};
  std::unique_ptr<MemorySocket> socket_;
};

TEST_F(MemorySocketTest, RegistersMemoryUnderASecretOfItsOwn) {
  MemoryPeer a(path()), b(path());
  EXPECT_EQ(a.session().size(), 16u);
  EXPECT_NE(a.session(), b.session());
  const MemoryFile file(8192);
  const std::uint64_t region = a.Register(file.fd(), 8192).region();
  EXPECT_EQ(region, 1u);
  EXPECT_THAT(regions_.Find(a.session(), "f", region, 0, 8192), IsOk());
  EXPECT_THAT(regions_.Find(b.session(), "f", region, 0, 8192),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("f.region: 1")));
  EXPECT_EQ(a.Free(region).region(), region);
  EXPECT_THAT(regions_.Find(a.session(), "f", region, 0, 1),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("f.region: 1")));
  EXPECT_THAT(a.Free(region).error().message(), HasSubstr("free_region.region: 1"));
}

TEST_F(MemorySocketTest, AnEndedConnectionFreesItsRegions) {
  const MemoryFile file(4096);
  auto peer = std::make_unique<MemoryPeer>(path());
  peer->Register(file.fd(), 4096);
  EXPECT_EQ(regions_.bytes(), 4096);
  peer.reset();
  WaitForSessions(0);
  EXPECT_EQ(regions_.bytes(), 0);
}

// Each lie is answered with the rule that it breaks, changes nothing, and the connection lives on.
TEST_F(MemorySocketTest, LiesAreRefusedByName) {
  const MemoryFile good(4096), unsealed(4096, 0), half(4096, F_SEAL_SHRINK | F_SEAL_GROW);
  const MemoryFile big(2 << 20);
  std::FILE* const regular = std::tmpfile();
  MemoryPeer peer(path());
  v1::SharedMemoryRequest request;
  request.mutable_register_region()->set_length(4096);
  v1::SharedMemoryRequest free;
  free.mutable_free_region()->set_region(1);
  const struct {
    const char* what;
    v1::SharedMemoryReply reply;
    int code;
    const char* says;
  } cases[] = {
      {"unsealed", peer.Register(unsealed.fd(), 4096), 3, "seals"},
      {"unsealed seals", peer.Register(half.fd(), 4096), 3, "seals"},
      {"shorter than said", peer.Register(good.fd(), 8192), 3, "must be the file's size, 4096"},
      {"longer than said", peer.Register(good.fd(), 1), 3, "must be the file's size, 4096"},
      {"nothing", peer.Register(good.fd(), 0), 3, "at least 1"},
      {"too much", peer.Register(big.fd(), 2 << 20), 8, "shared_memory_session_bytes"},
      {"more than there is", peer.Register(good.fd(), ~std::uint64_t{0}), 8, "session_bytes"},
      {"a regular file", peer.Register(fileno(regular), 4096), 3, "register_region"},
      {"a socket", peer.Register(0, 4096), 3, "register_region"},
      {"no descriptor", peer.Ask(request), 3, "must come with 1 descriptors; came with 0"},
      {"two descriptors", peer.Ask(request, {good.fd(), good.fd()}), 3, "came with 2"},
      {"free with one", peer.Ask(free, {good.fd()}), 3, "must come with 0 descriptors"},
      {"free of nothing", peer.Free(1), 5, "not registered"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(c.reply.error().code(), c.code) << c.what << ": " << c.reply.ShortDebugString();
    EXPECT_THAT(c.reply.error().message(), HasSubstr(c.says)) << c.what;
  }
  EXPECT_EQ(regions_.regions(), 0);
  EXPECT_EQ(peer.Register(good.fd(), 4096).region(), 1u);
  std::fclose(regular);
  const std::string text = metrics_.Serialize();
  EXPECT_THAT(text, HasSubstr("softloss_shared_memory_refused_total{reason=\"limit\"} 2"));
  EXPECT_THAT(text, HasSubstr("softloss_shared_memory_refused_total{reason=\"invalid\"} 11"));
}

TEST_F(MemorySocketTest, WhatIsNoRequestEndsTheConnection) {
  const MemoryFile file(4096);
  const std::vector<int> many(20, file.fd());
  v1::SharedMemoryRequest request;
  request.mutable_register_region()->set_length(4096);
  const std::size_t before = OpenDescriptors();
  for (const auto& [packet, fds] :
       std::vector<std::pair<std::string, std::vector<int>>>{{"\xff\xff\xff", {}},
                                                             {std::string(1, '\0'), {file.fd()}},
                                                             {std::string(5000, 'x'), {}},
                                                             {request.SerializeAsString(), many}}) {
    MemoryPeer peer(path());
    peer.SendBytes(packet, fds);
    const auto reply = peer.Receive();
    ASSERT_TRUE(reply.has_value());
    EXPECT_THAT(reply->error().message(), HasSubstr("malformed packet"));
    EXPECT_FALSE(peer.Receive().has_value());
  }
  WaitForSessions(0);
  EXPECT_EQ(OpenDescriptors(), before);
}

// What one floods is bounded, and others are served meanwhile.
TEST_F(MemorySocketTest, AFloodOfRegionsHitsItsLimit) {
  const MemoryFile file(4096);
  MemoryPeer flooding(path()), other(path());
  int accepted = 0;
  for (int i = 0; i < 200; ++i) accepted += !flooding.Register(file.fd(), 4096).has_error();
  EXPECT_EQ(accepted, 3);
  EXPECT_EQ(regions_.regions(), 3);
  EXPECT_EQ(other.Register(file.fd(), 4096).region(), 1u);
}

TEST_F(MemorySocketTest, AFloodOfConnectionsHitsItsLimit) {
  std::vector<std::unique_ptr<MemoryPeer>> peers;
  for (int i = 0; i < 50; ++i) peers.push_back(std::make_unique<MemoryPeer>(path()));
  int refused = 0;
  for (const auto& peer : peers) refused += peer->greeting().has_error();
  EXPECT_EQ(refused, 47);
  EXPECT_THAT(peers.back()->greeting().error().message(), HasSubstr("at most 3 clients of tenant"));
  peers.clear();
  WaitForSessions(0);
}

// A client that asks and does not read the answers is dropped; the server does not wait for it.
TEST_F(MemorySocketTest, AClientThatDoesNotReadIsDropped) {
  MemoryPeer deaf(path()), other(path());
  v1::SharedMemoryRequest free;
  free.mutable_free_region()->set_region(7);
  const std::string packet = free.SerializeAsString();
  bool dropped = false;
  for (int i = 0; i < 100000 && !dropped; ++i) dropped = !deaf.TrySend(packet);
  EXPECT_TRUE(dropped);
  EXPECT_THAT(other.Free(7).error().message(), HasSubstr("not registered"));
}

TEST_F(MemorySocketTest, TakesTheNameOfADeadServerAndRemovesItsOwn) {
  EXPECT_TRUE(std::filesystem::is_socket(path()));
  // As a crash leaves it.
  std::filesystem::rename(path(), path() + ".kept");
  socket_.reset();
  std::filesystem::rename(path() + ".kept", path());
  Listen();
  EXPECT_FALSE(MemoryPeer(path()).session().empty());
  socket_.reset();
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(MemorySocketTest, AFileThatIsNoSocketIsNotReplaced) {
  const std::string file = folder_ + "/file";
  std::fclose(std::fopen(file.c_str(), "w"));
  EXPECT_THAT(MemorySocket::Listen(file, &regions_, &metrics_),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("bind")));
  EXPECT_TRUE(std::filesystem::is_regular_file(file));
}

TEST_F(MemorySocketTest, StoppingFreesEverything) {
  MemoryPeer peer(path());
  const MemoryFile file(4096);
  peer.Register(file.fd(), 4096);
  socket_.reset();
  EXPECT_EQ(regions_.sessions(), 0);
  EXPECT_EQ(regions_.regions(), 0);
  EXPECT_FALSE(peer.Receive().has_value());
}

}  // namespace
}  // namespace softloss
