// A guest whose memory holds anything where its page tables and its vmcoreinfo should be. The
// walk ends, its mappings are sorted and are not twice the same; the note lies within what was
// read; and a core of any such guest is written, or refused.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include <cstring>

#include "debug/core.h"
#include "debug/page_walk.h"
#include "debug/vmcoreinfo.h"
#include "tests/fakes/fake_machine.h"
#include "tests/fuzz/harness.h"

namespace {

using namespace wick;
using fuzz::require;

constexpr uint64_t kTables = 0x1000;
constexpr uint64_t kTablesBytes = 0x8000;

vmm::FakeMachine& machine() {
  static vmm::FakeMachine instance(2);
  return instance;
}

vmm::CpuRegisters registers(FuzzedDataProvider& input) {
  vmm::CpuRegisters cpu;
  cpu.cr0 = input.ConsumeBool() ? 0x8000'0001 : input.ConsumeIntegral<uint32_t>();
  cpu.cr3 = input.ConsumeBool() ? kTables + (input.ConsumeIntegral<uint8_t>() % 8) * 0x1000
                                : input.ConsumeIntegral<uint64_t>();
  cpu.cr4 = input.ConsumeIntegral<uint16_t>();
  cpu.efer = input.ConsumeIntegral<uint16_t>();
  return cpu;
}

// Entries of tables: most of them refer to the other tables.
void fill_tables(FuzzedDataProvider& input) {
  const auto area = machine().memory().slice({kTables}, kTablesBytes).value();
  std::memset(area.data(), 0, area.size());
  for (int left = input.ConsumeIntegralInRange(0, 200); left > 0; --left) {
    const uint64_t at = input.ConsumeIntegralInRange<uint64_t>(0, kTablesBytes / 8 - 1) * 8;
    const uint64_t entry = input.ConsumeBool()
                               ? kTables + input.ConsumeIntegral<uint8_t>() % 8 * 0x1000 + 1
                               : input.ConsumeIntegral<uint64_t>();
    std::memcpy(area.data() + at, &entry, sizeof(entry));
  }
}

void walk(const std::vector<vmm::CpuRegisters>& cpus) {
  const debug::WalkLimits limits{.tables = 2000, .mappings = 2000};
  const auto found = debug::walk_page_tables(machine().memory(), cpus, limits);
  if (!found) return;
  require(found->size() <= limits.mappings);
  for (size_t i = 0; i < found->size(); ++i) {
    const debug::Mapping& mapping = (*found)[i];
    require(mapping.size_bytes > 0 && mapping.size_bytes % 4096 == 0);
    require(mapping.linear % 4096 == 0 && mapping.physical % 4096 == 0);
    require(mapping.linear + mapping.size_bytes - 1 >= mapping.linear);
    if (i > 0) require((*found)[i - 1].linear <= mapping.linear && (*found)[i - 1] != mapping);
  }
}

void read_note(std::span<const std::byte> entry) {
  const auto note = debug::GuestNote::read(machine().memory(), entry);
  if (!note || !*note) return;
  const auto bytes = (*note)->bytes();
  require(bytes.size() >= 12 && bytes.size() <= debug::kMaxGuestNoteBytes);
  require((*note)->description_offset() + (*note)->description().size() <= bytes.size());
  require((*note)->name().size() <= bytes.size() - 12);
  (void)(*note)->phys_base();
}

void write_cores(FuzzedDataProvider& input) {
  for (const auto format : {debug::CoreFormat::kElf, debug::CoreFormat::kKdumpZlib}) {
    debug::CoreOptions options{
        .format = format, .file = Fd(::memfd_create("core", MFD_CLOEXEC)), .name = "core"};
    if (format == debug::CoreFormat::kElf) {
      options.paging = input.ConsumeBool();
      options.range = debug::CoreRange{input.ConsumeIntegralInRange<uint64_t>(0, 17 << 20),
                                       input.ConsumeIntegralInRange<uint64_t>(0, 256 << 10)};
    } else if (input.ConsumeIntegral<uint8_t>() > 4) {
      continue;  // all of the memory takes time
    }
    (void)debug::write_core(machine(), std::move(options));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);
  FuzzedDataProvider input(data, size);
  machine().state_ = vmm::RunState::kPaused;
  for (vmm::CpuRegisters& cpu : machine().registers_) cpu = registers(input);
  auto entry = input.ConsumeBytes<uint8_t>(16);
  fill_tables(input);
  walk(machine().registers_);
  const auto note_bytes = input.ConsumeBytes<uint8_t>(100);
  const std::span<const std::byte> note = std::as_bytes(std::span(note_bytes));
  require(machine().memory().write_bytes({0x20000}, note).has_value());
  if (entry.size() == 16 && input.ConsumeBool()) {
    const uint64_t address = 0x20000;
    std::memcpy(entry.data() + 8, &address, sizeof(address));
    entry[2] = 1;
    entry[3] = 0;
  }
  const auto entry_bytes = std::as_bytes(std::span(entry));
  machine().vmcoreinfo_.assign(entry_bytes.begin(), entry_bytes.end());
  read_note(machine().vmcoreinfo_);
  if (input.ConsumeIntegral<uint8_t>() < 32) write_cores(input);
  return 0;
}
