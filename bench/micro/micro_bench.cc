// Micro benchmarks of the paths that guests use most. Run them in the measuring lab (./dev bench
// micro), where the time counts instructions.
#include <benchmark/benchmark.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/bus.h"
#include "base/guest_memory.h"
#include "tests/fakes/fake_driver.h"
#include "virtio/queue.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

namespace wick {
namespace {

// Returns the value, or exits: a benchmark without it measures nothing.
template <typename T>
T must(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "micro_bench: {}\n", result.error().message());
    std::exit(1);
  }
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

GuestMemory ram(uint64_t size_bytes = 16 << 20) {
  const GuestMemory::Range range{{0}, size_bytes};
  return must(GuestMemory::create({&range, 1}));
}

void guest_memory_read(benchmark::State& state) {
  const GuestMemory memory = ram();
  uint64_t address = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(memory.read<uint64_t>({address}));
    address = (address + 4096) & 0xffffff;
  }
}
BENCHMARK(guest_memory_read);

class Null final : public BusDevice {
 public:
  void read(uint64_t, std::span<std::byte>) override {}
  void write(uint64_t, std::span<const std::byte>) override {}
};

void bus_dispatch(benchmark::State& state) {
  Bus bus;
  Null device;
  for (uint64_t i = 0; i < 8; ++i) must(bus.attach({0x100 * i, 8}, device, "null"));
  const std::byte data[1] = {};
  uint64_t port = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(bus.write(port, data));
    port = (port + 0x100) & 0x7ff;
  }
}
BENCHMARK(bus_dispatch);

// A request of three descriptors (header, data, status), its completion, and the work of the fake
// driver, which queue_driver_alone measures.
void queue_pop_and_complete(benchmark::State& state) {
  const GuestMemory memory = ram();
  fakes::FakeDriver driver(memory, {.size = 256});
  auto queue = must(virtio::VirtQueue::create(memory, driver.layout()));
  for (auto _ : state) {
    state.PauseTiming();
    for (int i = 0; i < 64; ++i)
      driver.chain().readable("0123456789abcdef").writable(4096).writable(1).publish();
    state.ResumeTiming();
    for (int i = 0; i < 64; ++i) {
      auto chain = queue.pop();
      std::move(**chain).complete(4097);
    }
    state.PauseTiming();
    for (int i = 0; i < 64; ++i) driver.take_used();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * 64);
}
BENCHMARK(queue_pop_and_complete);

// A real-mode guest: an endless loop of 10000 writes to port 0x80 and one to port 0x81.
constexpr uint64_t kCodeAddress = 0x1000;
constexpr int kWritesPerRound = 10000;
constexpr uint8_t kCode[] = {
    0xb9,
    kWritesPerRound & 0xff,
    kWritesPerRound >> 8,  // mov cx, kWritesPerRound
    0xe6,
    0x80,  // out 0x80, al
    0x49,  // dec cx
    0x75,
    0xfb,  // jnz to the out
    0xe6,
    0x81,  // out 0x81, al
    0xeb,
    0xf4,  // jmp to the beginning
};

struct Guest {
  Guest() {
    must(memory.write_bytes({kCodeAddress}, std::as_bytes(std::span(kCode))));
    must(vm.map(memory));
  }
  vmm::Kvm kvm = must(vmm::Kvm::open());
  vmm::Vm vm = must(vmm::Vm::create(kvm));
  GuestMemory memory = ram();
};

boot::CpuState real_mode() {
  boot::CpuState state;
  state.rip = kCodeAddress;
  state.rflags = 2;
  state.cr0 = 0x10;
  const boot::Segment data{
      .base = 0, .limit = 0xffff, .selector = 0, .type = 3, .present = 1, .s = 1};
  state.ds = state.es = state.fs = state.gs = state.ss = data;
  state.cs = data;
  state.cs.type = 11;
  state.tr = {.base = 0, .limit = 0xffff, .selector = 0, .type = 11, .present = 1};
  return state;
}

class Stopper final : public BusDevice {
 public:
  void read(uint64_t, std::span<std::byte>) override {}
  void write(uint64_t offset, std::span<const std::byte>) override {
    if (offset == 1) vcpu->request_stop();
  }
  vmm::Vcpu* vcpu = nullptr;
};

// One exit for a port write through Vcpu::run(), with all devices of a machine on the bus.
void kvm_run_ours(benchmark::State& state) {
  Guest guest;
  Bus ports;
  Bus mmio;
  Null null;
  Stopper stopper;
  must(ports.attach({0x60, 1}, null, "i8042"));
  must(ports.attach({0x70, 2}, null, "rtc"));
  must(ports.attach({0x80, 2}, stopper, "stopper"));
  for (const uint16_t port : vmm::layout::kSerialPorts)
    must(ports.attach({port, 8}, null, "serial"));
  must(ports.attach({vmm::layout::kAcpiPmPort, 8}, null, "acpi"));
  vmm::CoalescedPorts coalesced(ports);
  const auto vcpu = must(vmm::Vcpu::create(guest.vm, 0, 1, ports, mmio, coalesced));
  must(vcpu->set_state(real_mode()));
  stopper.vcpu = vcpu.get();
  for (auto _ : state) vcpu->run();
  state.SetItemsProcessed(state.iterations() * (kWritesPerRound + 1));
}
BENCHMARK(kvm_run_ours);

// The same guest under a minimal loop.
void kvm_run_bare(benchmark::State& state) {
  Guest guest;
  Bus none;
  vmm::CoalescedPorts coalesced(none);
  const auto vcpu = must(vmm::Vcpu::create(guest.vm, 0, 1, none, none, coalesced));
  must(vcpu->set_state(real_mode()));
  for (auto _ : state) {
    do {
      if (::ioctl(vcpu->fd(), KVM_RUN, 0) != 0) state.SkipWithError("KVM_RUN");
    } while (vcpu->run_area()->exit_reason == KVM_EXIT_IO && vcpu->run_area()->io.port == 0x80);
  }
  state.SetItemsProcessed(state.iterations() * (kWritesPerRound + 1));
}
BENCHMARK(kvm_run_bare);

}  // namespace
}  // namespace wick
