#include "server/sealed_memory.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include <cstdio>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/memfd.h"
#include "tests/testing/status_matchers.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::kMemorySeals;
using testing::Mapping;
using testing::MemoryFile;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(SealedMemory, IsTheClientsMemory) {
  const MemoryFile file(10000);
  const Mapping client(file.fd(), 10000);
  client.data()[9999] = std::byte{7};
  auto server = MapSealedMemory(file.fd(), 10000);
  ASSERT_THAT(server, IsOk());
  EXPECT_EQ(server->get()[9999], std::byte{7});
  server->get()[0] = std::byte{8};
  EXPECT_EQ(client.data()[0], std::byte{8});
}

// The descriptor is not needed any more, and nothing that is done to the file takes memory away.
TEST(SealedMemory, OutlivesTheDescriptorAndCannotBeTakenAway) {
  absl::StatusOr<std::shared_ptr<std::byte>> server;
  {
    const MemoryFile file(1 << 20);
    server = MapSealedMemory(file.fd(), 1 << 20);
    ASSERT_THAT(server, IsOk());
    EXPECT_NE(ftruncate(file.fd(), 0), 0);
    EXPECT_EQ(fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
  }
  server->get()[(1 << 20) - 1] = std::byte{1};
  EXPECT_EQ(server->get()[12345], std::byte{0});
}

TEST(SealedMemory, EverySealIsNeeded) {
  for (const int missing : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL}) {
    const MemoryFile file(4096, kMemorySeals & ~missing);
    EXPECT_THAT(MapSealedMemory(file.fd(), 4096),
                StatusIs(kInvalid, HasSubstr("must hold shrink, grow and seal (7); were " +
                                             std::to_string(7 & ~missing))));
  }
}

TEST(SealedMemory, TheLengthIsTheFiles) {
  const MemoryFile file(4096);
  for (const std::uint64_t length : {1ull, 4095ull, 4097ull, ~0ull}) {
    EXPECT_THAT(MapSealedMemory(file.fd(), length),
                StatusIs(kInvalid, HasSubstr("must be the file's size, 4096; was " +
                                             std::to_string(length))));
  }
}

TEST(SealedMemory, OtherFilesAreRefused) {
  std::FILE* const regular = std::tmpfile();
  ASSERT_EQ(ftruncate(fileno(regular), 4096), 0);
  // On tmpfs too, where files know of seals.
  EXPECT_THAT(MapSealedMemory(fileno(regular), 4096),
              StatusIs(kInvalid, HasSubstr("register_region: ")));
  std::fclose(regular);
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  EXPECT_THAT(MapSealedMemory(pair[0], 4096), StatusIs(kInvalid, HasSubstr("must be a memfd")));
  close(pair[0]);
  close(pair[1]);
  EXPECT_THAT(MapSealedMemory(-1, 4096), StatusIs(kInvalid, HasSubstr("must be a memfd")));
}

TEST(SealedMemory, HugePagesAreRefused) {
  const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
  if (fd < 0) GTEST_SKIP() << "no huge pages here";
  ASSERT_EQ(ftruncate(fd, 2 << 20), 0);
  ASSERT_EQ(fcntl(fd, F_ADD_SEALS, kMemorySeals), 0);
  EXPECT_THAT(MapSealedMemory(fd, 2 << 20), StatusIs(kInvalid, HasSubstr("huge pages")));
  close(fd);
}

TEST(SealedMemory, MemoryThatCannotBeWrittenIsRefused) {
  const MemoryFile sealed(4096, kMemorySeals | F_SEAL_WRITE);
  EXPECT_THAT(MapSealedMemory(sealed.fd(), 4096), StatusIs(kInvalid, HasSubstr("writable")));
  const MemoryFile file(4096);
  const int read_only =
      open(("/proc/self/fd/" + std::to_string(file.fd())).c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(read_only, 0);
  EXPECT_THAT(MapSealedMemory(read_only, 4096), StatusIs(kInvalid, HasSubstr("writable")));
  close(read_only);
}

TEST(SealedMemory, MoreThanThereIsRoomForIsRefused) {
  const MemoryFile file(std::size_t{1} << 48);  // sparse, and beyond what a process can map
  EXPECT_THAT(MapSealedMemory(file.fd(), std::uint64_t{1} << 48),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("register_region.length")));
}

}  // namespace
}  // namespace softloss
