// Files in memory, sealed or not.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include "gtest/gtest.h"

namespace softloss::testing {

inline constexpr int kMemorySeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// A memfd of `size` bytes with `seals`; closed in the end.
class MemoryFile {
 public:
  explicit MemoryFile(std::size_t size, int seals = kMemorySeals, unsigned flags = 0)
      : fd_(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags)) {
    EXPECT_EQ(ftruncate(fd_, static_cast<off_t>(size)), 0);
    EXPECT_EQ(fcntl(fd_, F_ADD_SEALS, seals), 0);
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int fd() const { return fd_; }

 private:
  const int fd_;
};

// All of a file's memory, as another process would have it.
class Mapping {
 public:
  Mapping(int fd, std::size_t size)
      : size_(size), data_(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) {
    EXPECT_NE(data_, MAP_FAILED);
  }
  ~Mapping() { munmap(data_, size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t size() const { return size_; }

 private:
  const std::size_t size_;
  void* const data_;
};

}  // namespace softloss::testing
