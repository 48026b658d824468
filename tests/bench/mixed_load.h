// Requests of mixed sizes through the C++ client, by number rather than by time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "softloss/client.h"
#include "tests/bench/drawn_rows.h"

namespace softloss {

// Softmax cross entropy with gradient: four in five 8 KiB, most others 64 KiB, one in twenty 1 MiB. Any
// failure ends the process with a message.
class MixedLoad {
 public:
  explicit MixedLoad(const std::string& address);

  // Scores `items` of them, 64 in flight.
  void Run(std::int64_t items);

 private:
  Client client_;
  DrawnRows drawn_;
};

}  // namespace softloss
