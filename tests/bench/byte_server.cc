// The raw baseline: takes streams of bytes and answers each message with a prebuilt slice of half its
// size, on one queue and one thread. What a scoring server could be at best on this gRPC.
//
// byte_server [CERTIFICATE KEY]: PEM files; without them, plaintext. Prints `listening <address>` once
// bound, as softlossd does, and runs until it is killed.

#include <malloc.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include "softloss/v1/scorer.pb.h"

namespace softloss {
namespace {

// Messages below this carry no tensors and are not answered.
constexpr std::size_t kSmallestChunk = 1024;

class Call {
 public:
  Call(grpc::AsyncGenericService* service, grpc::ServerCompletionQueue* queue,
       const std::vector<char>* replies)
      : service_(service), queue_(queue), replies_(replies), stream_(&context_) {
    service->RequestCall(&context_, &stream_, queue, queue, &accepted_);
  }

  // Deletes the call when nothing of it is pending any more.
  void OnEvent(const void* tag, bool ok) {
    --pending_;
    if (tag == &accepted_) {
      if (ok) {
        new Call(service_, queue_, replies_);
        v1::StreamResponse hello;
        hello.mutable_hello()->set_credit_items(1);
        const std::string bytes = hello.SerializeAsString();
        const grpc::Slice slice(bytes);
        Write(grpc::ByteBuffer(&slice, 1));
        Read();
      }
    } else if (tag == &read_ && ok) {
      const std::size_t size = incoming_.Length();
      incoming_.Clear();
      if (size >= kSmallestChunk) {
        waiting_.push_back(size / 2);
        WriteNext();
      }
      Read();
    } else if (tag == &written_ && ok) {
      writing_ = false;
      WriteNext();
    }
    if (pending_ == 0) delete this;
  }

  // A completion queue's tag: which call, and which of its operations.
  struct Tag {
    Call* call;
  };

 private:
  void Read() {
    ++pending_;
    stream_.Read(&incoming_, &read_);
  }

  void Write(const grpc::ByteBuffer& bytes) {
    ++pending_;
    writing_ = true;
    stream_.Write(bytes, &written_);
  }

  void WriteNext() {
    if (writing_ || next_ == waiting_.size()) return;
    const grpc::Slice slice(const_cast<char*>(replies_->data()), waiting_[next_++], [](void*) {});
    if (next_ == waiting_.size()) {
      waiting_.clear();
      next_ = 0;
    }
    Write(grpc::ByteBuffer(&slice, 1));
  }

  grpc::AsyncGenericService* service_;
  grpc::ServerCompletionQueue* queue_;
  const std::vector<char>* replies_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_;
  grpc::ByteBuffer incoming_;
  std::vector<std::size_t> waiting_;  // sizes of replies to write, from next_ on
  std::size_t next_ = 0;
  bool writing_ = false;
  int pending_ = 1;
  Tag accepted_{this}, read_{this}, written_{this};
};

std::string Contents(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

int Serve(const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 1 << 30);

  grpc::AsyncGenericService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", credentials, &port);
  builder.RegisterAsyncGenericService(&service);
  const std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  std::printf("listening 127.0.0.1:%d\n", port);
  std::fflush(stdout);

  const std::vector<char> replies(4 << 20, 1);
  new Call(&service, queue.get(), &replies);
  void* tag;
  bool ok;
  while (queue->Next(&tag, &ok)) static_cast<Call::Tag*>(tag)->call->OnEvent(tag, ok);
  return 0;
}

}  // namespace
}  // namespace softloss

int main(int argc, char** argv) {
  if (argc != 3) return softloss::Serve(grpc::InsecureServerCredentials());
  grpc::SslServerCredentialsOptions options;
  options.pem_key_cert_pairs.push_back({softloss::Contents(argv[2]), softloss::Contents(argv[1])});
  return softloss::Serve(grpc::SslServerCredentials(options));
}
