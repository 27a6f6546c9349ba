// /dev/kvm itself: is it there, is it new enough, what can it do
// (Documentation/virt/kvm/api.rst).
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace wick {

// kvm_cpuid2 and kvm_msrs: a count and entries behind it. The UAPI header's own
// end in __DECLARE_FLEX_ARRAY, which in C++ has another size than in C and so
// makes wrong ioctl numbers.
template <typename Entry, size_t kMost>
struct KvmList {
  uint32_t count = 0;
  uint32_t padding = 0;
  std::array<Entry, kMost> entries{};
};
constexpr size_t kMostCpuidEntries = 256;  // what KVM takes at most
using KvmCpuid = KvmList<kvm_cpuid_entry2, kMostCpuidEntries>;
static_assert(offsetof(KvmCpuid, entries) == 8);
constexpr unsigned long kKvmGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
constexpr unsigned long kKvmGetMsrs = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x88, 8);
constexpr unsigned long kKvmSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);
constexpr unsigned long kKvmSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);

class Kvm {
 public:
  // Opens /dev/kvm and checks the API version and every capability that wick
  // cannot do without; the error names what is missing.
  static Result<Kvm> open();

  int fd() const { return fd_.get(); }
  // The value of KVM_CHECK_EXTENSION: 0 when absent.
  int capability(unsigned long capability) const;
  uint32_t max_cpus() const;
  size_t run_area_bytes() const { return run_area_bytes_; }

  // True on hosts with AMD's SVM: there a vCPU that shut down (triple fault) has
  // been reset before user space sees it; Intel's VMX leaves its registers as they were.
  static bool resets_on_shutdown();

  // KVM_GET_SUPPORTED_CPUID
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;

 private:
  Kvm(Fd fd, size_t run_area_bytes) : fd_(std::move(fd)), run_area_bytes_(run_area_bytes) {}

  Fd fd_;
  size_t run_area_bytes_;
};

// What /dev/kvm says of itself, for wick doctor.
struct KvmFacts {
  struct Capability {
    const char* name = "";
    const char* use = nullptr;  // what is lost without it; nullptr: wick needs it
    bool present = false;
  };

  int open_error = 0;     // an errno value, as below; 0: it is open to us
  int api_version = 0;    // negative: it is not KVM
  int machine_error = 0;  // of making a machine
  std::vector<Capability> capabilities;
};
KvmFacts probe_kvm();

}  // namespace wick
