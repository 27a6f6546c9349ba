#include "vmm/vm.h"

#include <spdlog/spdlog.h>
#include <sys/ioctl.h>

#include <cstring>
#include <vector>

#include "vmm/layout.h"

namespace wick::vmm {

Result<Vm> Vm::create(const Kvm& kvm) {
  int fd = -1;
  // KVM_CREATE_VM waits for all CPUs of the host, and a signal can interrupt the wait.
  do {
    fd = ::ioctl(kvm.fd(), KVM_CREATE_VM, 0);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail_errno(errno, "/dev/kvm: cannot create a machine (KVM_CREATE_VM)");
  Vm vm(kvm, Fd(fd));

  uint64_t identity_map = layout::kKvmIdentityMap;
  if (::ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) != 0)
    return fail_errno(errno, "kvm: KVM_SET_IDENTITY_MAP_ADDR");
  if (::ioctl(fd, KVM_SET_TSS_ADDR, layout::kKvmTss) != 0)
    return fail_errno(errno, "kvm: KVM_SET_TSS_ADDR");
  if (::ioctl(fd, KVM_CREATE_IRQCHIP, 0) != 0) return fail_errno(errno, "kvm: KVM_CREATE_IRQCHIP");
  return vm;
}

Result<void> Vm::create_pit(const devices::Pit::State& state) const {
  // With KVM_PIT_SPEAKER_DUMMY, KVM also serves port 0x61.
  kvm_pit_config config{};
  config.flags = KVM_PIT_SPEAKER_DUMMY;
  if (::ioctl(fd_.get(), KVM_CREATE_PIT2, &config) != 0)
    return fail_errno(errno, "kvm: KVM_CREATE_PIT2");
  kvm_pit_state2 wanted{};
  static_assert(std::size(wanted.channels) == devices::Pit::kCounters);
  for (size_t i = 0; i < devices::Pit::kCounters; ++i) {
    const devices::Pit::Counter& counter = state.counters[i];
    // The values of KVM's read_state, write_state and rw_mode are those of the PIT's control word;
    // 4 stands for the high byte of a 16-bit access.
    wanted.channels[i] = {.count = counter.count,
                          .latched_count = counter.latched_count,
                          .count_latched = static_cast<uint8_t>(counter.latched),
                          .status_latched = counter.status_latched,
                          .status = counter.status,
                          .read_state = static_cast<uint8_t>(counter.next_read),
                          .write_state = static_cast<uint8_t>(counter.next_write),
                          .write_latch = counter.low_byte,
                          .rw_mode = static_cast<uint8_t>(counter.access),
                          .mode = counter.mode,
                          .bcd = counter.bcd,
                          .gate = counter.gate,
                          .count_load_time = 0};
  }
  if (state.speaker) wanted.flags = KVM_PIT_FLAGS_SPEAKER_DATA_ON;
  if (::ioctl(fd_.get(), KVM_SET_PIT2, &wanted) != 0) return fail_errno(errno, "kvm: KVM_SET_PIT2");
  return {};
}

size_t Vm::coalesced_ring_offset() const {
  constexpr size_t kPageBytes = 4096;
  if (kvm_->capability(KVM_CAP_COALESCED_PIO) <= 0) return 0;
  const int page = kvm_->capability(KVM_CAP_COALESCED_MMIO);
  const size_t offset = page > 0 ? static_cast<size_t>(page) * kPageBytes : 0;
  return offset + kPageBytes <= kvm_->run_area_bytes() ? offset : 0;
}

Result<void> Vm::coalesce(uint16_t port, uint32_t ports) const {
  if (coalesced_ring_offset() == 0) return {};
  kvm_coalesced_mmio_zone zone{};
  zone.addr = port;
  zone.size = ports;
  zone.pio = 1;
  if (::ioctl(fd_.get(), KVM_REGISTER_COALESCED_MMIO, &zone) != 0)
    return fail_errno(errno, "kvm: KVM_REGISTER_COALESCED_MMIO at port {:#x}", port);
  return {};
}

Result<void> Vm::map(const GuestMemory& memory) {
  uint32_t slot = 0;
  for (const GuestMemory::Region& region : memory.regions()) {
    kvm_userspace_memory_region mapping{};
    mapping.slot = slot++;
    mapping.guest_phys_addr = region.start.value;
    mapping.memory_size = region.size_bytes;
    mapping.userspace_addr = reinterpret_cast<uint64_t>(region.host);
    if (::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &mapping) != 0)
      return fail_errno(errno, "kvm: cannot map {} MiB at {:#x} into the guest",
                        region.size_bytes >> 20, region.start.value);
  }
  return {};
}

Result<void> Vm::map(const Slot& slot) const {
  kvm_userspace_memory_region mapping{};
  mapping.slot = slot.index;
  if (slot.access == Access::kReadOnly) mapping.flags = KVM_MEM_READONLY;
  if (slot.access == Access::kLogged) mapping.flags = KVM_MEM_LOG_DIRTY_PAGES;
  mapping.guest_phys_addr = slot.memory.start.value;
  mapping.memory_size = slot.memory.size_bytes;
  mapping.userspace_addr = reinterpret_cast<uint64_t>(slot.memory.host);
  if (::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &mapping) != 0)
    return fail_errno(errno, "kvm: cannot map {} KiB at {:#x} into the guest",
                      slot.memory.size_bytes >> 10, slot.memory.start.value);
  return {};
}

void Vm::unmap(uint32_t index) const {
  kvm_userspace_memory_region mapping{};
  mapping.slot = index;
  if (::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &mapping) != 0)
    spdlog::error("kvm: cannot unmap memory slot {}: {}", index, std::strerror(errno));
}

Result<void> Vm::take_dirty_pages(uint32_t index, std::span<uint64_t> bits) const {
  kvm_dirty_log log{};
  log.slot = index;
  log.dirty_bitmap = bits.data();
  if (::ioctl(fd_.get(), KVM_GET_DIRTY_LOG, &log) != 0)
    return fail_errno(errno, "kvm: KVM_GET_DIRTY_LOG of slot {}", index);
  return {};
}

void Vm::set_irq(uint32_t pin, bool asserted) const {
  kvm_irq_level level{};
  level.irq = pin;
  level.level = asserted ? 1 : 0;
  if (::ioctl(fd_.get(), KVM_IRQ_LINE, &level) != 0)
    spdlog::error("kvm: KVM_IRQ_LINE {}: {}", pin, std::strerror(errno));
}

void Vm::send_msi(uint64_t address, uint32_t data) const {
  kvm_msi message{};
  message.address_lo = static_cast<uint32_t>(address);
  message.address_hi = static_cast<uint32_t>(address >> 32);
  message.data = data;
  // A message with an invalid destination or delivery mode is lost, as on a PC.
  (void)::ioctl(fd_.get(), KVM_SIGNAL_MSI, &message);
}

namespace {

// kvm_irq_routing without its flexible array. In newer headers that array has a size in C++, which
// would change the number of the ioctl KVM_SET_GSI_ROUTING.
struct RoutingHeader {
  uint32_t count;
  uint32_t flags;
};
constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6a, RoutingHeader);

}  // namespace

Result<void> Vm::set_routes(std::span<const MsiRoute> routes) const {
  constexpr uint32_t kPicPins = 16;
  std::vector<kvm_irq_routing_entry> entries;
  const auto add_pin = [&](uint32_t gsi, uint32_t chip, uint32_t pin) {
    kvm_irq_routing_entry& entry = entries.emplace_back();
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip = {chip, pin};
  };
  // The table must repeat KVM's default routes of the pins.
  for (uint32_t gsi = 0; gsi < kFirstMsiGsi; ++gsi) {
    if (gsi < kPicPins)
      add_pin(gsi, gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi % 8);
    add_pin(gsi, KVM_IRQCHIP_IOAPIC, gsi);
  }
  for (const MsiRoute& route : routes) {
    kvm_irq_routing_entry& entry = entries.emplace_back();
    entry.gsi = route.gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<uint32_t>(route.address);
    entry.u.msi.address_hi = static_cast<uint32_t>(route.address >> 32);
    entry.u.msi.data = route.data;
  }
  const RoutingHeader header{static_cast<uint32_t>(entries.size()), 0};
  std::vector<std::byte> table(sizeof(header) + std::as_bytes(std::span(entries)).size());
  std::memcpy(table.data(), &header, sizeof(header));
  std::memcpy(table.data() + sizeof(header), entries.data(), table.size() - sizeof(header));
  if (::ioctl(fd_.get(), kSetGsiRouting, table.data()) != 0)
    return fail_errno(errno, "kvm: KVM_SET_GSI_ROUTING, {} routes", entries.size());
  return {};
}

namespace {

int request(int vm, const Vm::MsiRoute& route, uint32_t flags) {
  kvm_irqfd request{};
  request.fd = static_cast<uint32_t>(route.event->fd());
  request.gsi = route.gsi;
  request.flags = flags;
  return ::ioctl(vm, KVM_IRQFD, &request);
}

}  // namespace

Result<void> Vm::add(const MsiRoute& route) const {
  if (request(fd_.get(), route, 0) != 0) return fail_errno(errno, "kvm: KVM_IRQFD {}", route.gsi);
  return {};
}

void Vm::remove(const MsiRoute& route) const {
  if (request(fd_.get(), route, KVM_IRQFD_FLAG_DEASSIGN) != 0)
    spdlog::error("kvm: cannot remove irqfd of GSI {} (KVM_IRQFD): {}", route.gsi,
                  std::strerror(errno));
}

namespace {

int request(int vm, const Vm::Ioeventfd& wanted, uint32_t flags) {
  kvm_ioeventfd request{};
  request.fd = wanted.event->fd();
  request.addr = wanted.address;
  request.flags = flags;
  if (wanted.value) {
    request.len = 4;
    request.datamatch = *wanted.value;
    request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
  }
  return ::ioctl(vm, KVM_IOEVENTFD, &request);
}

}  // namespace

Result<void> Vm::add(const Ioeventfd& wanted) const {
  if (request(fd_.get(), wanted, 0) != 0)
    return fail_errno(errno, "kvm: KVM_IOEVENTFD at {:#x}", wanted.address);
  return {};
}

void Vm::remove(const Ioeventfd& added) const {
  if (request(fd_.get(), added, KVM_IOEVENTFD_FLAG_DEASSIGN) != 0)
    spdlog::error("kvm: cannot remove ioeventfd at {:#x} (KVM_IOEVENTFD): {}", added.address,
                  std::strerror(errno));
}

}  // namespace wick::vmm
