#include "server/metrics_http.h"

#include <civetweb.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace softloss {

struct MetricsHttp::Impl {
  ~Impl() {
    if (server != nullptr) mg_stop(server);
  }

  Handlers handlers;
  std::string address;
  mg_context* server = nullptr;
};

namespace {

// Scrapes are rare and short; the second thread is for a probe that comes during one.
constexpr char kThreads[] = "2";
constexpr char kRequestTimeoutMs[] = "10000";

void Reply(mg_connection* connection, absl::string_view status, absl::string_view type,
           absl::string_view body, bool head_only) {
  const std::string head = absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type,
                                        "\r\nContent-Length: ", body.size(),
                                        "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
  mg_write(connection, head.data(), head.size());
  if (!head_only) mg_write(connection, body.data(), body.size());
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsHttp>> MetricsHttp::Start(const std::string& address,
                                                                Handlers handlers) {
  const std::size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535 ||
      // What else the HTTP server would understand: lists and flags.
      address.find_first_of(",+ ") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("metrics_listen: must be host:port; was '", address, "'"));
  }

  auto impl = std::make_unique<Impl>();
  impl->handlers = std::move(handlers);
  const char* options[] = {
      "listening_ports", address.c_str(),     "num_threads", kThreads, "request_timeout_ms",
      kRequestTimeoutMs, "enable_keep_alive", "no",          nullptr};
  mg_callbacks callbacks{};
  // Answers everything here, before the server's own code would look for files.
  callbacks.begin_request = [](mg_connection* connection) -> int {
    const mg_request_info* request = mg_get_request_info(connection);
    const auto* self = static_cast<const Impl*>(request->user_data);
    const absl::string_view path = request->local_uri ? request->local_uri : "";
    const absl::string_view method = request->request_method;
    const bool head = method == "HEAD";
    constexpr absl::string_view kText = "text/plain; charset=utf-8";
    if (method != "GET" && !head) {
      Reply(connection, "405 Method Not Allowed", kText, "GET or HEAD only\n", head);
    } else if (path == "/metrics") {
      Reply(connection, "200 OK", "text/plain; version=0.0.4; charset=utf-8",
            self->handlers.metrics(), head);
    } else if (path == "/livez") {
      Reply(connection, "200 OK", kText, "ok\n", head);
    } else if (path == "/readyz") {
      const absl::Status ready = self->handlers.ready();
      if (ready.ok()) {
        Reply(connection, "200 OK", kText, "ok\n", head);
      } else {
        Reply(connection, "503 Service Unavailable", kText, absl::StrCat(ready.message(), "\n"),
              head);
      }
    } else {
      Reply(connection, "404 Not Found", kText, "/metrics, /livez, /readyz\n", head);
    }
    return 200;  // handled; the number goes to an access log that is off
  };
  // Errors come back from mg_start2; a line on stderr for each would say the same twice.
  callbacks.log_message = [](const mg_connection*, const char*) { return 1; };

  // Initialising twice is counted by the library; it is never left, as other users may remain.
  mg_init_library(MG_FEATURES_DEFAULT);
  char error_text[256] = "";
  mg_error_data error{};
  error.text = error_text;
  error.text_buffer_size = sizeof(error_text);
  mg_init_data init{};
  init.callbacks = &callbacks;
  init.user_data = impl.get();
  init.configuration_options = options;
  impl->server = mg_start2(&init, &error);
  if (impl->server == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("metrics_listen: cannot listen on ", address, ": ", error_text));
  }
  mg_server_port bound{};
  if (mg_get_server_ports(impl->server, 1, &bound) != 1) {
    return absl::UnavailableError(absl::StrCat("metrics_listen: no port was bound for ", address));
  }
  impl->address = absl::StrCat(address.substr(0, colon), ":", bound.port);
  return std::unique_ptr<MetricsHttp>(new MetricsHttp(std::move(impl)));
}

MetricsHttp::MetricsHttp(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MetricsHttp::~MetricsHttp() = default;

const std::string& MetricsHttp::address() const { return impl_->address; }

}  // namespace softloss
