#include "vmm/kvm.h"

#include <cpuid.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>

namespace wick::vmm {

namespace {

struct Needed {
  unsigned long capability;
  const char* name;
};

constexpr std::array kNeeded = {
    Needed{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    Needed{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    Needed{KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
    Needed{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    Needed{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
    Needed{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    Needed{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    Needed{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
    Needed{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    Needed{KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH"},
    Needed{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

struct Useful {
  unsigned long capability;
  const char* name;
  const char* use;
};

constexpr std::array kUseful = {
    Useful{KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER", "guests' timers are slower"},
    Useful{KVM_CAP_COALESCED_PIO, "KVM_CAP_COALESCED_PIO", "boots are slower"},
    Useful{KVM_CAP_BINARY_STATS_FD, "KVM_CAP_BINARY_STATS_FD", "--stats has no KVM counters"},
};

}  // namespace

Result<Kvm> Kvm::open() {
  Fd fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    const int code = errno;
    auto failure = fail_errno(code, "/dev/kvm");
    if (code == EACCES || code == EPERM)
      return with_hint(std::move(failure), "add yourself to the kvm group or run as root");
    return with_hint(std::move(failure),
                     "load kvm_intel or kvm_amd, and enable virtualization in the firmware");
  }
  const int version = ::ioctl(fd.get(), KVM_GET_API_VERSION, 0);
  if (version < 0) return fail_errno(errno, "/dev/kvm: not KVM (KVM_GET_API_VERSION)");
  if (version != KVM_API_VERSION)
    return with_hint(fail("/dev/kvm: API version {}, wick needs {}", version, KVM_API_VERSION),
                     "use a newer kernel");
  const int run_area_bytes = ::ioctl(fd.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_area_bytes < static_cast<int>(sizeof(kvm_run)))
    return fail_errno(errno, "/dev/kvm: KVM_GET_VCPU_MMAP_SIZE");
  Kvm kvm(std::move(fd), static_cast<size_t>(run_area_bytes));
  for (const Needed& needed : kNeeded)
    if (kvm.capability(needed.capability) <= 0)
      return with_hint(fail("/dev/kvm: lacks {}", needed.name), "use a newer kernel");
  return kvm;
}

int Kvm::capability(unsigned long capability) const {
  return ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, capability);
}

uint32_t Kvm::max_cpus() const {
  // Without KVM_CAP_MAX_VCPUS, the recommended number (KVM_CAP_NR_VCPUS) is the limit (api.rst,
  // 4.7).
  const int hard = capability(KVM_CAP_MAX_VCPUS);
  return static_cast<uint32_t>(hard > 0 ? hard : std::max(1, capability(KVM_CAP_NR_VCPUS)));
}

bool Kvm::resets_on_shutdown() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kSvm = 1 << 2;  // AMD APM 3, appendix E, Fn8000_0001 ECX
  return __get_cpuid(0x8000'0001, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kSvm) != 0;
}

Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
  KvmCpuid list;
  list.count = kMaxCpuidEntries;
  if (::ioctl(fd_.get(), kKvmGetSupportedCpuid, &list) != 0)
    return fail_errno(errno, "/dev/kvm: KVM_GET_SUPPORTED_CPUID");
  return std::vector(list.entries.begin(), list.entries.begin() + list.count);
}

KvmFacts probe_kvm() {
  KvmFacts facts;
  const Fd fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    facts.open_error = errno;
    return facts;
  }
  facts.api_version = ::ioctl(fd.get(), KVM_GET_API_VERSION, 0);
  if (facts.api_version != KVM_API_VERSION) return facts;
  const auto add = [&](unsigned long capability, const char* name, const char* use) {
    const bool present = ::ioctl(fd.get(), KVM_CHECK_EXTENSION, capability) > 0;
    facts.capabilities.push_back({name, use, present});
  };
  for (const Needed& needed : kNeeded) add(needed.capability, needed.name, nullptr);
  for (const Useful& useful : kUseful) add(useful.capability, useful.name, useful.use);
  const Fd machine(::ioctl(fd.get(), KVM_CREATE_VM, 0));
  if (!machine.valid()) facts.machine_error = errno;
  return facts;
}

}  // namespace wick::vmm
