#include "server/listen_address.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace softloss {
namespace {

using Kind = ListenAddress::Kind;

TEST(ListenAddress, TakesApart) {
  struct Row {
    const char* text;
    Kind kind;
    const char* name;
    int port;
    bool local;
  };
  for (const Row& row : {Row{"127.0.0.1:50051", Kind::kTcp, "127.0.0.1", 50051, true},
                         {"127.8.9.1:0", Kind::kTcp, "127.8.9.1", 0, true},
                         {"localhost:1", Kind::kTcp, "localhost", 1, true},
                         {"[::1]:65535", Kind::kTcp, "::1", 65535, true},
                         {"0.0.0.0:50051", Kind::kTcp, "0.0.0.0", 50051, false},
                         {"[::]:50051", Kind::kTcp, "::", 50051, false},
                         {"10.0.0.7:50051", Kind::kTcp, "10.0.0.7", 50051, false},
                         {"127.0.0.1.example.org:1", Kind::kTcp, "127.0.0.1.example.org", 1, false},
                         {"localhost.example.org:1", Kind::kTcp, "localhost.example.org", 1, false},
                         {"unix:/run/softloss.sock", Kind::kUnix, "/run/softloss.sock", 0, true},
                         {"unix-abstract:softloss", Kind::kUnixAbstract, "softloss", 0, true}}) {
    SCOPED_TRACE(row.text);
    const auto address = ParseListenAddress(row.text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->kind, row.kind);
    EXPECT_EQ(row.kind == Kind::kTcp ? address->host : address->path, row.name);
    EXPECT_EQ(address->port, row.port);
    EXPECT_EQ(address->local, row.local);
  }
}

TEST(ListenAddress, RefusesWithTheRule) {
  struct Row {
    std::string text;
    const char* rule;
  };
  for (const Row& row : {Row{"", "host:port"},
                         {"50051", "host:port"},
                         {":50051", "host:port"},
                         {"localhost:", "host:port"},
                         {"localhost:-1", "0 to 65535"},
                         {"localhost:65536", "0 to 65535"},
                         {"localhost:http", "host:port"},
                         {"::1:50051", "brackets"},
                         {"[::1:50051", "brackets"},
                         {"[127.0.0.1]:50051", "brackets"},
                         {"[]:1", "brackets"},
                         {"unix:", "1 to 107 bytes"},
                         {"unix:" + std::string(108, '/'), "1 to 107 bytes"},
                         {"unix:relative.sock", "start with /"},
                         {"unix-abstract:", "1 to 107 bytes"}}) {
    SCOPED_TRACE(row.text);
    const auto address = ParseListenAddress(row.text);
    ASSERT_FALSE(address.ok());
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(address.status().message(), testing::HasSubstr(row.rule));
  }
}

}  // namespace
}  // namespace softloss
