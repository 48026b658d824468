#include "server/sealed_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

absl::Status Invalid(const std::string& text) {
  return absl::InvalidArgumentError(absl::StrCat("register_region: ", text));
}

}  // namespace

absl::StatusOr<std::shared_ptr<std::byte>> MapSealedMemory(int fd, std::uint64_t size) {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return Invalid("the descriptor must be a memfd; was another file");
  if ((seals & kSeals) != kSeals) {
    return Invalid(
        absl::StrCat("the seals must hold shrink, grow and seal (", kSeals, "); were ", seals));
  }
  // Pages of hugetlbfs may be missing when they are touched.
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0 || fs.f_type != TMPFS_MAGIC) {
    return Invalid("the memory must not be of huge pages; was");
  }
  // After the seals: from here on the size is what it is.
  struct stat file;
  if (fstat(fd, &file) != 0 || file.st_size < 0 ||
      static_cast<std::uint64_t>(file.st_size) != size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "register_region.length: must be the file's size, ", file.st_size, "; was ", size));
  }
  void* const mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) {
    if (errno == EPERM || errno == EACCES) {
      return Invalid("the memory must be writable; is not");
    }
    return absl::ResourceExhaustedError(
        absl::StrCat("register_region.length: ", size, " bytes: ", std::strerror(errno)));
  }
  return std::shared_ptr<std::byte>(static_cast<std::byte*>(mapped),
                                    [size](std::byte* memory) { munmap(memory, size); });
}

}  // namespace softloss
