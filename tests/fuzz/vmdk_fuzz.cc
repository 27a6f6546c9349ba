// A vmdk image of any content, alone or with a descriptor of other files. It is refused, or read
// to its end, without memory in proportion to what it claims, and without opening files outside
// of its folder.
#include "image/vmdk_reader.h"
#include "tests/fuzz/foreign_disk.h"

namespace {

using namespace wick;

constexpr std::string_view kDescriptor =
    "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n";

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = as_bytes(text.data(), text.size());
  return {bytes.begin(), bytes.end()};
}

void make_sparse(FuzzedDataProvider& input, fakes::MemoryStore& store) {
  std::vector<std::byte> start(2048);
  const auto put = [&](size_t offset, auto value) {
    store_le(std::span(start).subspan(offset, sizeof(value)), value);
  };
  std::memcpy(start.data(), "KDMV", 4);
  put(4, uint32_t{1});
  put(8, input.PickValueInArray<uint32_t>({3, 7, 0x1'0003, 0x3'0003}));
  put(12, uint64_t{2048});
  put(20, uint64_t{8});
  put(28, uint64_t{1});
  put(36, uint64_t{1});
  put(44, uint32_t{512});
  put(56, input.ConsumeBool() ? uint64_t{2} : ~uint64_t{0});
  put(77, uint16_t{1});
  std::ranges::copy(bytes_of(kDescriptor), start.begin() + 512);
  put(1024, uint32_t{128});  // the first grain table, at 64 KiB
  constexpr size_t kFields[] = {4, 12, 20, 28, 36, 44, 56, 1024};
  fuzz::make_file(input, start, kFields, store);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  fakes::MemoryStore store, beside;
  make_sparse(input, beside);
  if (input.ConsumeBool()) {
    make_sparse(input, store);
  } else {
    std::string text(kDescriptor);
    for (int lines = input.ConsumeIntegralInRange(0, 4); lines > 0; --lines)
      text += input.ConsumeBool() ? input.ConsumeRandomLengthString(80) + "\n"
                                  : "RW " + std::to_string(input.ConsumeIntegral<uint16_t>()) +
                                        input.PickValueInArray({" FLAT", " SPARSE", " ZERO"}) +
                                        " \"" + input.ConsumeRandomLengthString(20) + "\" 1\n";
    store.bytes.write(0, bytes_of(text));
  }
  const auto open_beside = [&](const std::string& name) -> Result<std::unique_ptr<block::File>> {
    fuzz::require(!name.empty() && name.front() != '/' && name.find('\0') == name.npos &&
                  ("/" + name + "/").find("/../") == std::string::npos);
    return std::make_unique<fakes::MemoryFile>(beside);
  };
  auto opened =
      fakes::finish(image::open_vmdk(std::make_unique<fakes::MemoryFile>(store), open_beside));
  if (opened)
    fuzz::read_all_over(input, *opened->disk);
  else
    fuzz::require(opened.error().message().find(store.path) != std::string::npos);
  return 0;
}
