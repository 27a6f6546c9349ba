// A vdi image of any content. It is refused, or read to its end, without memory in proportion to
// what it claims.
#include "image/vdi_reader.h"

#include "tests/fuzz/foreign_disk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick;
  FuzzedDataProvider input(data, size);
  std::vector<std::byte> start(512);
  const auto put = [&](size_t offset, uint32_t value) {
    store_le(std::span(start).subspan(offset, 4), value);
  };
  put(0x40, 0xbeda'107f);
  put(0x44, 0x0001'0001);
  put(0x4c, input.ConsumeBool() ? 1 : 2);
  put(0x154, 512);
  put(0x158, 1024);
  put(0x168, 512);
  put(0x170, 8 << 20);
  put(0x178, 1 << 20);
  put(0x180, 8);
  constexpr size_t kFields[] = {0x44, 0x4c, 0x154, 0x158, 0x170, 0x178, 0x180, 0x1a8};
  fakes::MemoryStore store;
  fuzz::make_file(input, start, kFields, store);
  auto opened = fakes::finish(image::open_vdi(std::make_unique<fakes::MemoryFile>(store)));
  if (opened)
    fuzz::read_all_over(input, *opened->disk);
  else
    fuzz::require(opened.error().message().find(store.path) != std::string::npos);
  return 0;
}
