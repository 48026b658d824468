#include "server/process_stats.h"

#include <dirent.h>
#include <unistd.h>

#include <ctime>
#include <fstream>

namespace softloss {

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  timespec cpu{};
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
    stats.cpu_seconds = static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) * 1e-9;
  }
  double total_pages = 0, resident_pages = 0;
  if (std::ifstream("/proc/self/statm") >> total_pages >> resident_pages) {
    stats.resident_bytes = resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
  }
  if (DIR* directory = opendir("/proc/self/fd")) {
    // Not counting ".", ".." and the directory's own descriptor.
    stats.open_fds = -3;
    while (readdir(directory) != nullptr) ++stats.open_fds;
    closedir(directory);
  }
  return stats;
}

}  // namespace softloss
