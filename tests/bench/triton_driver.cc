#include "tests/bench/triton_driver.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "tests/bench/drawn_rows.h"

namespace softloss {
namespace {

constexpr char kMethod[] = "/inference.GRPCInferenceService/ModelInfer";

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "triton driver: %s\n", why.c_str());
  std::exit(1);
}

// A field of bytes, strings or messages; without the bytes themselves if `size` is given.
void AppendField(int number, std::string_view bytes, std::string* out, std::size_t size = 0) {
  google::protobuf::io::StringOutputStream stream(out);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.WriteTag(static_cast<std::uint32_t>(number << 3 | 2));
  coded.WriteVarint32(static_cast<std::uint32_t>(size > 0 ? size : bytes.size()));
  coded.WriteRaw(bytes.data(), static_cast<int>(bytes.size()));
}

// ModelInferRequest.InferInputTensor: name, datatype, shape (packed).
std::string Input(const char* name, std::int64_t rows) {
  std::string shape, out;
  {
    google::protobuf::io::StringOutputStream stream(&shape);
    google::protobuf::io::CodedOutputStream coded(&stream);
    for (const std::int64_t n : {std::int64_t{1}, rows, Workload::kClasses}) {
      coded.WriteVarint64(static_cast<std::uint64_t>(n));
    }
  }
  AppendField(1, name, &out);
  AppendField(2, "FP32", &out);
  AppendField(3, shape, &out);
  return out;
}

}  // namespace

struct TritonDriver::Call {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
  grpc::ByteBuffer reply;
  grpc::Status status;
};

TritonDriver::TritonDriver(const std::string& address)
    : channel_([&] {
        grpc::ChannelArguments arguments;
        arguments.SetMaxReceiveMessageSize(-1);
        return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
      }()),
      stub_(channel_) {}

double TritonDriver::Run(const Workload& workload, std::int64_t items) {
  const std::int64_t bytes = workload.item_bytes / 2;  // of a tensor
  const DrawnRows drawn = DrawRows(bytes / (4 * Workload::kClasses), Workload::kClasses);
  // model_name, inputs, and raw_input_contents for each of them.
  std::string head, between;
  AppendField(1, "soft_cross_entropy", &head);
  AppendField(5, Input("x", drawn.rows), &head);
  AppendField(5, Input("t", drawn.rows), &head);
  AppendField(7, "", &head, static_cast<std::size_t>(bytes));
  AppendField(7, "", &between, static_cast<std::size_t>(bytes));
  const grpc::Slice slices[] = {
      grpc::Slice(head), grpc::Slice(drawn.logits.data(), static_cast<std::size_t>(bytes)),
      grpc::Slice(between), grpc::Slice(drawn.labels.data(), static_cast<std::size_t>(bytes))};
  const grpc::ByteBuffer message(slices, 4);

  std::int64_t sent = 0, answered = 0;
  const auto send = [&] {
    if (sent == items) return;
    ++sent;
    auto* const call = new Call;
    call->reader = stub_.PrepareUnaryCall(&call->context, kMethod, message, &queue_);
    call->reader->StartCall();
    call->reader->Finish(&call->reply, &call->status, call);
  };
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < workload.in_flight; ++i) send();
  while (answered < items) {
    void* tag = nullptr;
    bool ok = false;
    if (!queue_.Next(&tag, &ok) || !ok) Die("the queue ended");
    const std::unique_ptr<Call> call(static_cast<Call*>(tag));
    if (!call->status.ok()) Die(call->status.error_message());
    if (static_cast<std::int64_t>(call->reply.Length()) < bytes) Die("a reply without gradient");
    ++answered;
    send();
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace softloss
