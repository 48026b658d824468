// Memory of a server in a process of its own: it does not grow with what the server has done.
#include <gtest/gtest.h>

#include "tests/bench/mixed_load.h"
#include "tests/bench/server_process.h"

namespace softloss {
namespace {

// make bench compares a hundred thousand with ten thousand. What the server keeps for reuse grows by the
// most that was in flight at once, some megabytes; a kilobyte lost a request would be twenty.
TEST(MemoryTest, DoesNotGrowWithRequests) {
  const ServerProcess server({SiblingProgram("softlossd"), "--listen=127.0.0.1:0", "--backend=cpu",
                              "--metrics_listen=off", "--shared_memory_socket=off",
                              "--log_level=error"});
  MixedLoad load(server.address());
  load.Run(3000);
  const double before = server.ResidentBytes();
  load.Run(20'000);
  EXPECT_LT(server.ResidentBytes(), before + 20e6);
}

}  // namespace
}  // namespace softloss
