// What the kernel says about this process.
#pragma once

namespace softloss {

struct ProcessStats {
  double cpu_seconds = 0;  // user and system, all threads
  double resident_bytes = 0;
  double open_fds = 0;
};

// Reads /proc; fields that cannot be read are 0.
ProcessStats ReadProcessStats();

}  // namespace softloss
